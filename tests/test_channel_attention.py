import keras
import numpy as np
import pytest
from scipy import special

from e6tag.channel_attention import (
    EfficientChannelAttention,
    SqueezeExcite,
    kernel_size,
    squeezed_size,
)


def maps(channels=6):
    return np.random.default_rng(0).normal(size=(3, 4, 5, channels)).astype("float32")


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)],
)
def test_the_kernel_grows_with_the_logarithm_of_the_channels(channels, expected):
    assert kernel_size(channels) == expected


def test_few_channels_are_not_squeezed_into_next_to_nothing():
    assert [squeezed_size(channels) for channels in (8, 128, 512)] == [8, 8, 32]


def test_squeeze_and_excitation_is_what_numpy_computes():
    layer, x = SqueezeExcite(), maps()
    layer(x)
    w1, b1, w2, b2 = (
        np.random.default_rng(i).normal(size=weight.shape) for i, weight in enumerate(layer.weights)
    )
    layer.set_weights([w1, b1, w2, b2])
    weights = special.expit(np.maximum(x.mean(axis=(1, 2)) @ w1 + b1, 0) @ w2 + b2)
    ours = layer(x)
    np.testing.assert_allclose(ours, x * weights[:, None, None], atol=1e-5)


def test_efficient_channel_attention_is_what_numpy_computes():
    layer, x = EfficientChannelAttention(), maps()
    layer(x)
    kernel = np.array([0.3, -1.2, 0.7])
    layer.set_weights([kernel.reshape(3, 1, 1)])
    means = np.pad(x.mean(axis=(1, 2)), ((0, 0), (1, 1)))
    mixed = sum(kernel[i] * means[:, i : i + 6] for i in range(3))
    np.testing.assert_allclose(layer(x), x * special.expit(mixed)[:, None, None], atol=1e-5)


# timm 1.0 and torchvision, computed once: flat weight i of the module is .3 sin(.7 i), the map
# cos(.5 i) as (1, 8, 2, 2); channels of the first cell.


def published_map():
    return np.cos(0.5 * np.arange(32)).reshape(1, 8, 2, 2).transpose(0, 2, 3, 1)


def published_weights(*shapes):
    sizes = np.cumsum([0, *map(np.prod, shapes)])
    flat = 0.3 * np.sin(0.7 * np.arange(sizes[-1]))
    return [flat[a:b].reshape(shape) for a, b, shape in zip(sizes, sizes[1:], shapes, strict=False)]


def test_efficient_channel_attention_has_timms_values():
    layer, x = EfficientChannelAttention(), published_map()
    layer(x)
    layer.set_weights([published_weights((3,))[0].reshape(3, 1, 1)])
    expected = [
        0.4720021,
        -0.1932793,
        -0.3643483,
        0.4681966,
        -0.0658799,
        -0.4628449,
        0.4255093,
        0.0651398,
    ]
    np.testing.assert_allclose(np.asarray(layer(x))[0, 0, 0], expected, atol=1e-6)


def test_squeeze_and_excitation_has_torchvisions_values():
    layer, x = SqueezeExcite(4), published_map()
    layer(x)
    w1, b1, w2, b2 = published_weights((4, 8), (4,), (8, 4), (8,))
    layer.set_weights([w1.T, b1, w2.T, b2])
    expected = [
        0.4656796,
        -0.1794447,
        -0.2803821,
        0.4415819,
        -0.0742133,
        -0.4659744,
        0.4847049,
        0.0764094,
    ]
    np.testing.assert_allclose(np.asarray(layer(x))[0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", [SqueezeExcite, EfficientChannelAttention])
def test_every_weight_receives_a_gradient_and_survives_saving(kind, tmp_path):
    import tensorflow as tf

    inputs = keras.Input((4, 5, 6))
    model = keras.Model(inputs, kind()(inputs))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(maps())))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
    assert gradients and all(np.abs(g).max() > 0 for g in gradients)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # safe mode: runs no code
    np.testing.assert_array_equal(again(maps()), model(maps()))
