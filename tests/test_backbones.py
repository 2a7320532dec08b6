"""Backbones: shapes, parameters, what they compute at the start, and that they can be exported."""

import keras
import numpy as np
import pytest
from conftest import ROOT, run_command

from e6tag import checkpoints, export, models, training
from e6tag.channel_attention import kernel_size, squeezed_size
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError
from e6tag.models import applications

SHARES = np.array([0.01, 0.05, 0.2, 0.5, 0.9])
SMALL = {
    "image_size": 32, "vector_size": 12, "heads": 2, "key_size": 4, "pooling": "attention",
    "pooled_stages": 5, "heteroscedastic": True,
}  # fmt: skip
TINY = {**SMALL, "backbone": "resnet", "depth": (1, 1), "width": 8}
ATTENTIONS = ("none", "se", "eca")


def tagger(**changes):
    keras.utils.set_random_seed(0)
    return models.build_tagger(TrainConfig(**{**TINY, **changes}), SHARES)


def stirred(network):
    """The network with weights that are no longer those of the start, so that all matter."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        # Keras' Normalization reads its weights when they are loaded, not when they change.
        if weight.dtype == "float32" and "normalization" not in weight.path.split("/")[0]:
            value = weight.numpy()
            # Where all is 0, as in the last normalisation of a branch, a little of something.
            least = 0.1 if not value.any() else 0.0
            noise = rng.normal(size=value.shape)
            weight.assign(value * (1 + 0.2 * np.tanh(noise)) + least * noise)
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


def test_relu_takes_the_place_of_every_silu():
    network = resnet_map(depth=(1, 1), width=8, activation="relu")
    kinds = {
        layer.activation.__name__
        for layer in network.layers
        if isinstance(layer, keras.layers.Activation)
    }
    assert kinds == {"relu"}


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
    {"activation": "relu", "join": "sum"},
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
        np.testing.assert_allclose(again(pictures(size=size))[name], value, atol=1e-5)


# Models of keras.applications.

KERAS = {
    "efficientnetv2-b0": ("EfficientNetV2B0", 7),
    "efficientnetv2-b1": ("EfficientNetV2B1", 7),
    "efficientnetv2-b2": ("EfficientNetV2B2", 7),
    "mobilenetv3-small": ("MobileNetV3Small", 6),
    "mobilenetv3-large": ("MobileNetV3Large", 7),
}


def keras_map(backbone, size=32):
    x = keras.Input((size, size, 3))
    options = TrainConfig(backbone=backbone)
    return keras.Model(x, models.choose(options).build(x, options))


@pytest.fixture(scope="module", params=KERAS)
def theirs(request):
    """Name, network of the name, network of Keras and number of stages."""
    name, num_stages = KERAS[request.param]
    original = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    return request.param, keras_map(request.param), original, num_stages


def test_a_model_of_keras_computes_what_keras_computes_from_the_same_pictures(theirs):
    _, ours, original, _ = theirs
    ours.set_weights(original.get_weights())
    np.testing.assert_allclose(ours(pictures()), original(pictures()), atol=1e-5)


def test_layers_of_a_model_of_keras_are_sorted_into_stages(theirs):
    name, ours, original, num_stages = theirs
    found = [layer.name.split("_")[0] for layer in models.backbone_layers(ours)]
    assert len(found) == sum(bool(layer.weights) for layer in original.layers)
    wanted = ["stem", *(f"stage{i}" for i in range(1, num_stages)), "head"]
    assert list(dict.fromkeys(found)) == wanted
    # In the order of the layers: no stage comes back.
    assert found == sorted(found, key=wanted.index)
    assert models.BACKBONES[name].num_stages == num_stages


def test_a_stage_of_a_mobilenet_ends_where_the_channels_change():
    for name in ("mobilenetv3-small", "mobilenetv3-large"):
        channels = {}
        for layer in models.backbone_layers(keras_map(name)):
            if layer.name.endswith("_project"):
                channels.setdefault(layer.name.split("_")[0], set()).add(layer.filters)
        assert all(len(found) == 1 for found in channels.values())
        assert len(set.union(*channels.values())) == len(channels)


@pytest.mark.parametrize("freeze", [0, 2, 6])
def test_stages_of_a_model_of_keras_are_frozen_up_to_the_head(freeze):
    network = tagger(backbone="mobilenetv3-small", freeze=freeze)
    still = {
        layer.name.split("_")[0] for layer in models.backbone_layers(network) if not layer.trainable
    }
    everything = ["stem", "stage1", "stage2", "stage3", "stage4", "stage5", "head"]
    assert still == set(everything[: freeze + 1] if freeze else [])


def test_batch_statistics_follow_fast_from_scratch():
    for layer in keras_map("mobilenetv3-small").layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.momentum == pytest.approx(0.97)


# By the modes that Keras documents: caffe, tf and torch.
MODES = {
    "VGG16": "caffe", "ResNet50": "caffe", "MobileNetV2": "tf", "Xception": "tf",
    "ResNet50V2": "tf", "NASNetMobile": "tf", "DenseNet121": "torch", "EfficientNetB0": None,
    "ConvNeXtTiny": None, "MobileNetV3Small": None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), MODES.items())
def test_pictures_come_in_the_convention_of_the_model(name, mode):
    x = keras.Input((32, 32, 3))
    wanted = applications.convention(applications.application(name))
    prepared = applications.prepare(x, wanted)
    expected = pictures()
    if mode is not None:
        expected = keras.applications.imagenet_utils.preprocess_input(pictures(), mode=mode)
    found = keras.Model(x, prepared)(pictures()) if mode else pictures()
    assert (prepared is x) == (mode is None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_any_model_of_keras_is_a_backbone_of_one_stage():
    options = {"backbone": "keras:MobileNet"}
    assert all(layer.trainable for layer in models.backbone_layers(tagger(**options)))
    network = tagger(**options, freeze=1)
    layers = models.backbone_layers(network)
    assert len(layers) > 50 and not any(layer.trainable for layer in layers)
    with pytest.raises(ConfigError, match="keras:MobileNet has stages 0 to 1"):
        tagger(**options, freeze=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", [*KERAS, "keras:ResNet50", "keras:DenseNet121", "keras:EfficientNetB0"]
)
def test_models_of_keras_are_exported_and_survive_saving(backbone, tmp_path):
    exported(stirred(tagger(backbone=backbone, image_size=64)), tmp_path, 64)


@pytest.mark.slow
def test_weights_that_cannot_be_fetched_are_said_in_one_line(tmp_path):
    code = (
        "from e6tag import models; from e6tag.config import TrainConfig\n"
        "models.build_tagger(TrainConfig(backbone='keras:MobileNet', weights='imagenet'), [0.5])"
    )
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    done = run_command(["-c", code], ROOT, environment=nowhere)
    last = done.stderr.decode().strip().splitlines()[-1]
    assert last.startswith("e6tag.errors.FetchError: the ImageNet weights of MobileNet cannot be")
    assert last.endswith("Try again with a network, or use --weights none.")
    assert done.stdout == b""


# Pooling and the tag layer.


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, 16 + 2 * 4 + 8),
        ({"pooled_stages": 0}, 16 + 2 * 4),
        ({"pooled_stages": 0, "pooling": "mean"}, 16),
        ({"pooled_stages": 0, "heads": 0}, 16),
        ({"pooled_stages": 0, "pooling": "ml-decoder", "queries": 3}, 16 + 12),
    ],
)
def test_pooling_is_the_mean_and_what_was_asked_for_beside_it(options, numbers):
    network = tagger(**options)
    assert network.get_layer("projection").kernel.shape == (numbers, 12)
    pooled = network.get_layer("pooled_bn").input
    before = network.get_layer("stage2_block1_silu").output
    cells, found = keras.Model(network.input, [before, pooled])(pictures())
    np.testing.assert_allclose(found[:, :16], np.mean(cells, axis=(1, 2)), atol=1e-5)


def test_without_a_size_of_its_own_the_vector_is_what_pooling_makes():
    network = tagger(vector_size=0, pooled_stages=0)
    parts = [network.get_layer("pooling").output, network.output["vector"]]
    pooled, vector = keras.Model(network.input, parts)(pictures())
    np.testing.assert_array_equal(pooled, vector)


ENDS = {
    # last layer of each stage but the last
    "resnet": ["stage1_block1_silu", "stage2_block1_silu", "stage3_block1_silu"],
    "efficientnet-lite0": [
        "stage1_block1_project_bn", "stage2_block2_add", "stage3_block2_add", "stage4_block3_add",
        "stage5_block3_add", "stage6_block4_add", "stage7_block1_project_bn",
    ],
}  # fmt: skip


@pytest.mark.parametrize("stages", [0, 1, 3, 9])
@pytest.mark.parametrize("backbone", ENDS)
def test_what_earlier_stages_put_out_is_pooled_beside_the_last_map(backbone, stages):
    network = stirred(
        tagger(
            backbone=backbone, weights="none", depth=(1,) * 4, image_size=64, vector_size=0,
            pooled_stages=stages, heads=0,
        )
    )  # fmt: skip
    ends = ENDS[backbone][-stages:] if stages else []
    maps = [network.get_layer(name).output for name in ends]
    outputs = {"vector": network.output["vector"]} | dict(zip(ends, maps, strict=True))
    found = keras.Model(network.input, outputs)(pictures(size=64))
    vector, maps = np.asarray(found["vector"]), [found[name] for name in ends]
    own = {"resnet": 64, "efficientnet-lite0": 1280}[backbone]
    means = np.concatenate([np.zeros((3, 0)), *(np.mean(m, axis=(1, 2)) for m in maps)], axis=1)
    np.testing.assert_allclose(vector[:, own:], means, rtol=1e-4, atol=1e-5)


def test_a_model_of_one_stage_has_one_map():
    assert (
        tagger(backbone="keras:MobileNet", vector_size=0, heads=0).output["vector"].shape[1] == 1024
    )


def test_a_sum_adds_what_attention_found_to_the_mean():
    network = stirred(tagger(join="sum", pooled_stages=0))
    assert network.get_layer("projection").kernel.shape == (16, 12)
    parts = [network.get_layer(name).output for name in ("pooling", "attended", "pooled")]
    beside, attended, pooled = keras.Model(network.input, parts)(pictures())
    np.testing.assert_allclose(pooled, beside[:, :16] + attended, atol=1e-6)
    kernel, bias = network.get_layer("attended").get_weights()
    np.testing.assert_allclose(attended, np.asarray(beside)[:, 16:] @ kernel + bias, atol=1e-5)


def head(num_tags, rank, heteroscedastic, vector_size=256):
    vector = keras.Input((vector_size,))
    options = TrainConfig(rank=rank, heteroscedastic=heteroscedastic)
    bias = np.linspace(-8, 0, num_tags)
    return keras.Model(vector, models.tag_head(vector, options, bias))


@pytest.mark.parametrize("num_tags", [1_000, 10_000, 100_000])
def test_parameters_of_a_factorised_tag_layer_grow_as_the_rank(num_tags):
    rank = 16
    plain, noisy = (head(num_tags, rank, kind).count_params() for kind in (False, True))
    assert plain == rank * (256 + num_tags) + num_tags
    assert noisy == rank * (256 + 3 * num_tags) + 3 * num_tags + 8 * num_tags


@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_a_rank_of_the_vectors_length_or_more_is_the_full_layer(heteroscedastic):
    keras.utils.set_random_seed(0)
    full = head(7, 0, heteroscedastic, 12)
    for rank in (12, 13, 500):
        keras.utils.set_random_seed(0)
        other = head(7, rank, heteroscedastic, 12)
        for ours, theirs in zip(full.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_factors_compute_what_the_full_layer_of_their_product_computes(heteroscedastic):
    full, low = head(7, 0, heteroscedastic, 12), head(7, 5, heteroscedastic, 12)
    shared, *rest = low.get_weights()
    full.set_weights([shared @ w if w.shape == (5, 7) else w for w in rest])
    x = np.random.default_rng(0).normal(size=(9, 12)).astype("float32")
    for ours, theirs in zip(low(x), full(x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("heteroscedastic", [False, True])
def test_a_factorised_tagger_predicts_the_shares_at_the_start(heteroscedastic):
    network = tagger(rank=3, heteroscedastic=heteroscedastic)
    predicted = np.asarray(network(pictures(16))["probabilities"]).mean(axis=0)
    np.testing.assert_allclose(predicted, SHARES, rtol=0.15)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "ml-decoder", "queries": 5},
        {"pooling": "mean", "rank": 3},
        {"rank": 3, "heteroscedastic": False},
    ],
)
def test_pooling_and_factors_are_exported_and_survive_saving(options, tmp_path):
    exported(stirred(tagger(**options)), tmp_path)


# Options.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "resnet", "weights": "imagenet"},
            "no ImageNet weights for resnet. Use --weights none",
        ),
        (
            {"backbone": "efficientnet-lite0", "channel_attention": "se"},
            "--channel-attention is for resnet only, not for efficientnet-lite0",
        ),
        ({"backbone": "efficientnet-lite0", "stem": "plain"}, "--stem is for resnet only"),
        ({"pooling": "ml-decoder", "heads": 0}, "ml-decoder needs at least one of --heads"),
        ({"backbone": "keras:"}, "no model without a name"),
        ({"backbone": "keras:Dense"}, "no Dense. There are: DenseNet121, DenseNet169"),
        ({"backbone": "keras:imagenet_utils"}, "has no imagenet_utils"),
        ({"backbone": "keras:InceptionV3", "image_size": 64}, "of 64 px: Input size must be at"),
        ({"backbone": "mobilenetv3-small", "freeze": 7}, "mobilenetv3-small has stages 0 to 6"),
    ],
)
def test_options_that_a_backbone_has_not_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        models.build_tagger(TrainConfig(**options), SHARES)


def test_nothing_is_frozen_of_a_backbone_that_starts_from_scratch():
    network = tagger(backbone="efficientnet-lite0", weights="none")
    assert all(layer.trainable for layer in models.backbone_layers(network))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stem", "plain"),
        ("channel_attention", "eca"),
        ("weights", "none"),
        ("rank", 64),
        ("pooling", "ml-decoder"),
        ("queries", 8),
    ],
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
