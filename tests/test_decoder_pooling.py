import keras
import numpy as np

from e6tag import decoder_pooling
from e6tag.decoder_pooling import DecoderPooling


def maps(count=4):
    return np.random.default_rng(0).normal(size=(count, 3, 4, 6)).astype("float32")


def test_each_group_makes_its_own_numbers():
    rng = np.random.default_rng(0)
    tokens, kernel, bias = rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 4, 2)), np.arange(5.0)
    expected = np.einsum("bgd,gdj->bgj", tokens, kernel).reshape(5, 6)[:, :5] + bias
    found = decoder_pooling.group_linear(
        *(keras.ops.convert_to_tensor(x) for x in (tokens, kernel, bias))
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_group_linear_has_the_papers_codes_values():
    tokens, kernel = np.arange(6.0).reshape(1, 2, 3), np.sin(np.arange(18.0)).reshape(2, 3, 3)
    found = decoder_pooling.group_linear(
        *(keras.ops.convert_to_tensor(x) for x in (tokens, kernel, np.zeros(5)))
    )
    expected = [[-0.41771096, 0.55717069, 1.01979220, 2.34150314, -1.39091182]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def take(flat, *shapes):
    """Arrays of these shapes, one after another, from a flat one."""
    parts = np.split(flat, np.cumsum([int(np.prod(shape)) for shape in shapes]))
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]


def test_the_decoder_has_timms_values():
    """timm's MLDecoder(5 classes, 2 groups, embedding 16, 8 channels) in evaluation, once."""
    layer = DecoderPooling(5, queries=2, heads=8, key_size=2, hidden=2048)
    x = np.cos(0.5 * np.arange(32)).reshape(1, 8, 2, 2).transpose(0, 2, 3, 1)
    layer(x)
    w, h, sixteen = 16, 2048, (16,)
    shapes = [
        (2, w, 3), (5,), (w, 8), sixteen, sixteen, sixteen, (3 * w, w), (3 * w,), (w, w), sixteen,
        (h, w), (h,), (w, h), sixteen, sixteen, sixteen, sixteen, sixteen, (2, w),
    ]  # fmt: skip
    size = sum(int(np.prod(shape)) for shape in shapes)
    p = take(0.05 * np.sin(0.7 * np.arange(size)), *shapes)
    (q, k, v), (q_bias, _, v_bias) = np.split(p[6], 3), np.split(p[7], 3)
    layer.kernel.assign(p[0])
    layer.bias.assign(p[1])
    layer.fixed.assign(p[18])
    for part, values in [
        (layer.embed, [p[2].T, p[3]]), (layer.norms[0], p[4:6]), (layer.query, [q.T, q_bias]),
        (layer.key, [k.T]), (layer.value, [v.T, v_bias]), (layer.mix, [p[8].T, p[9]]),
        (layer.expand, [p[10].T, p[11]]), (layer.contract, [p[12].T, p[13]]),
        (layer.norms[1], p[14:16]), (layer.norms[2], p[16:18]),
    ]:  # fmt: skip
        part.set_weights(values)
    expected = [[-0.05017095, -0.05050480, -0.02708545, 0.00940106, 0.04118424]]
    np.testing.assert_allclose(layer(x), expected, atol=2e-6)


def test_parameters_are_those_of_the_formula():
    layer = DecoderPooling(12, queries=5, heads=2, key_size=4)
    layer.build((None, 3, 4, 6))
    w, hidden = 8, 32
    linear = (6 * w + w) + (4 * w * w + 3 * w) + (2 * w * hidden + hidden + w)
    assert layer.count_params() == linear + 3 * 2 * w + 5 * w + 5 * w * 3 + 12


def test_pooling_does_not_depend_on_where_things_are():
    layer = DecoderPooling(7, 3, 2, 4)
    np.testing.assert_allclose(layer(maps()), layer(maps()[:, ::-1, ::-1]), atol=1e-5)


def test_all_but_the_queries_is_trained_and_receives_a_gradient():
    import tensorflow as tf

    layer = DecoderPooling(7, 3, 2, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(maps()) - 1.0))
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_variables])
    assert [weight.name for weight in layer.non_trainable_variables] == ["queries"]
    assert len(gradients) == 21 and all(np.abs(g).max() > 0 for g in gradients)


def test_it_survives_saving_with_its_queries(tmp_path):
    inputs = keras.Input((3, 4, 6))
    model = keras.Model(inputs, DecoderPooling(7, 3, 2, 4)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # safe mode: runs no code
    np.testing.assert_array_equal(again(maps()), model(maps()))
