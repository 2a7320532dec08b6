"""Backbones: shapes, parameters, what they compute at the start, and that they can be exported."""

import keras
import numpy as np
import pytest

from e6tag import checkpoints, export, models, training
from e6tag.channel_attention import kernel_size, squeezed_size
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError

SHARES = np.array([0.01, 0.05, 0.2, 0.5, 0.9])
SMALL = {"image_size": 32, "vector_size": 12, "heads": 2, "key_size": 4}
TINY = {**SMALL, "depth": (1, 1), "width": 8}
ATTENTIONS = ("none", "se", "eca")


def tagger(**changes):
    keras.utils.set_random_seed(0)
    return models.build_tagger(TrainConfig(**{**TINY, **changes}), SHARES)


def stirred(network):
    """The network with weights that are no longer those of the start, so that all matter."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.dtype == "float32" and "variance" not in weight.path:
            weight.assign(weight.numpy() + 0.05 * rng.normal(size=weight.shape))
    return network


def pictures(count=3, size=32):
    values = np.random.default_rng(0).integers(0, 256, (count, size, size, 3))
    return values.astype("float32")


def resnet_map(size=64, **options):
    x = keras.Input((size, size, 3))
    config = TrainConfig(**options)
    return keras.Model(x, models.BACKBONES["resnet"].build(x, config))


def conv_bn(kernel, filters_in, filters):
    return kernel * kernel * filters_in * filters + 4 * filters


def expected_parameters(depth, width, stem, attention):
    """Weights of a ResNet, counted by hand."""
    half = width // 2
    total = conv_bn(7, 3, width) if stem == "plain" else (
        conv_bn(3, 3, half) + conv_bn(3, half, half) + conv_bn(3, half, width)
    )  # fmt: skip
    filters_in = width
    for i, repeats in enumerate(depth):
        filters = width * 2**i
        squeezed = squeezed_size(filters)
        extra = {
            "none": 0,
            "se": 2 * filters * squeezed + squeezed + filters,
            "eca": kernel_size(filters),
        }[attention]
        for _ in range(repeats):
            total += conv_bn(3, filters_in, filters) + conv_bn(3, filters, filters) + extra
            if filters_in != filters:
                total += conv_bn(1, filters_in, filters)
            filters_in = filters
    return total


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("stem", ["d", "plain"])
@pytest.mark.parametrize(
    ("depth", "width"), [((1, 1), 8), ((1, 1, 1, 1), 4), ((2, 3, 4, 2), 16), ((1, 1, 1, 1, 1), 8)]
)
def test_a_resnets_parameters_and_map_are_those_of_the_formula(depth, width, stem, attention):
    network = resnet_map(depth=depth, width=width, stem=stem, channel_attention=attention)
    assert network.count_params() == expected_parameters(depth, width, stem, attention)
    side = -(-64 // 2 ** (len(depth) + 1))
    assert network.output.shape == (None, side, side, width * 2 ** (len(depth) - 1))


def test_a_plain_resnet_of_18_layers_has_the_published_number_of_parameters():
    # torchvision's resnet18 without its classifier: 11,689,512 - 513,000, and Keras counts the
    # two moving statistics of each of 4,800 channels.
    network = resnet_map(depth=(2, 2, 2, 2), width=64, stem="plain")
    assert network.count_params() == 11_689_512 - 513_000 + 2 * 4_800


def test_the_formula_reaches_from_a_twentieth_of_a_million_to_a_hundred_million():
    assert expected_parameters((1, 1, 1, 1), 4, "d", "eca") < 50_000
    assert 95e6 < expected_parameters((3, 8, 20, 5), 96, "d", "se") < 130e6


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("stem", ["d", "plain"])
def test_blocks_are_their_shortcuts_at_the_start(stem, attention):
    network = resnet_map(depth=(2, 2), width=8, stem=stem, channel_attention=attention)
    for name, before in [("stage1_block1", "stem_pool"), ("stage2_block2", "stage2_block1_silu")]:
        ends = [network.get_layer(part).output for part in (f"{name}_add", before)]
        added, entered = keras.Model(network.input, ends)(pictures(size=64))
        np.testing.assert_array_equal(added, entered)


def test_convolutions_start_with_the_deviation_of_he():
    network = resnet_map(depth=(1, 1, 1), width=32)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.kernel.numpy()
            expected = np.sqrt(2 / np.prod(kernel.shape[:3]))
            tolerance = 4 / np.sqrt(2 * kernel.size)
            assert kernel.std() == pytest.approx(expected, rel=tolerance), layer.name


@pytest.mark.parametrize("options", [
    {"stem": "plain", "channel_attention": "se"},
    {"channel_attention": "eca"},
])  # fmt: skip
def test_a_resnet_is_exported_with_its_options_and_survives_saving(options, tmp_path):
    network = stirred(tagger(**options))
    exported(network, tmp_path)


def exported(network, folder, size=32):
    """Exports, saves and loads a network; the outputs stay the same."""
    export.convert(network, folder / "model.onnx", size)
    assert export.compare(network, folder / "model.onnx", size) < 1e-4
    network.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")  # safe mode: runs no code
    for name, value in network(pictures(size=size)).items():
        np.testing.assert_allclose(again(pictures(size=size))[name], value, atol=1e-6)


# Options.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "imagenet"}, "no ImageNet weights for resnet. Use --weights none"),
        (
            {"backbone": "efficientnet-lite0", "channel_attention": "se"},
            "--channel-attention is for resnet only, not for efficientnet-lite0",
        ),
        ({"backbone": "efficientnet-lite0", "stem": "plain"}, "--stem is for resnet only"),
    ],
)
def test_options_that_a_backbone_has_not_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        models.build_tagger(TrainConfig(**options), SHARES)


def test_nothing_is_frozen_of_a_backbone_that_starts_from_scratch():
    network = tagger(backbone="efficientnet-lite0", weights="none")
    assert all(layer.trainable for layer in models.backbone_layers(network))


@pytest.mark.parametrize(
    ("name", "value"), [("stem", "plain"), ("channel_attention", "eca"), ("weights", "none")]
)
def test_a_run_is_not_resumed_with_another_backbone(name, value, tmp_path):
    begun = checkpoints.State(training.shaping(TrainConfig()), "x")
    asked = training.shaping(TrainConfig(**{name: value}))
    with pytest.raises(ConfigError, match=f"begun with {name} "):
        checkpoints.check_same(tmp_path, begun, asked, "x")


def test_runs_from_before_an_option_count_as_made_with_its_default(tmp_path):
    begun = training.shaping(TrainConfig())
    for name in ("stem", "channel_attention", "weights"):
        del begun[name]
    state = checkpoints.State(begun, "x")
    checkpoints.check_same(tmp_path, state, training.shaping(TrainConfig()), "x")
    with pytest.raises(ConfigError, match="begun with stem d, not plain"):
        checkpoints.check_same(tmp_path, state, training.shaping(TrainConfig(stem="plain")), "x")
