"""The fused layer against Keras' own: the same numbers, gradients and statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from e6tag.batch_norm import BatchNormalization
from e6tag.config import TrainConfig
from e6tag.models import build_tagger

SIDES = st.integers(1, 6)


def made(kind, channels, **options):
    """A layer whose weights and statistics are not those that it starts with."""
    layer = kind(**options)
    layer.build((None, None, None, channels))
    rng = np.random.default_rng(channels)
    layer.set_weights([rng.uniform(0.5, 2.0, weight.shape) for weight in layer.get_weights()])
    return layer


def results(layer, maps, training):
    """Outputs, gradients of the inputs and of what is trained, and all weights afterwards."""
    inputs = tf.constant(maps)
    weights = np.random.default_rng(1).normal(size=maps.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        loss = tf.reduce_sum(outputs * weights)
    gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
    return [np.asarray(value) for value in [outputs, *gradients, *layer.get_weights()]]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 5), SIDES, SIDES, st.integers(1, 7), st.booleans())
def test_it_is_keras_own_layer(batch, height, width, channels, training):
    rng = np.random.default_rng(height)
    maps = rng.normal(3.0, 2.0, (batch, height, width, channels)).astype(np.float32)
    options = {"momentum": 0.9, "epsilon": 1e-3}
    ours = results(made(BatchNormalization, channels, **options), maps, training)
    theirs = results(made(layers.BatchNormalization, channels, **options), maps, training)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


def test_a_batch_of_one_cell_has_no_variance():
    ours = made(BatchNormalization, 3)
    outputs = ours(np.ones((1, 1, 1, 3), np.float32), training=True)
    np.testing.assert_allclose(outputs, [[[ours.beta]]], rtol=1e-6)
    assert np.isfinite(ours.moving_variance).all()


def operations(layer, **call):
    """Kinds of operations of the traced layer."""
    traced = tf.function(lambda x: layer(x, **call)).get_concrete_function(
        tf.TensorSpec([None, None, None, 4], tf.float32)
    )
    return {operation.type for operation in traced.graph.get_operations()}


def test_the_kernel_is_used_where_it_can_be():
    assert "FusedBatchNormV3" in operations(made(BatchNormalization, 4), training=True)


@pytest.mark.parametrize("change", ["frozen", "synchronized", "inference"])
def test_elsewhere_it_is_keras_own(change):
    layer = made(BatchNormalization, 4)
    layer.trainable = change != "frozen"
    layer.synchronized = change == "synchronized"
    found = operations(layer, training=change != "inference")
    assert "FusedBatchNormV3" not in found


@pytest.mark.parametrize("backbone", ["resnet", "efficientnet-lite0", "efficientnetv2-b0",
                                      "mobilenetv3-small"])  # fmt: skip
def test_every_backbone_of_ours_has_it(backbone):
    options = TrainConfig(backbone=backbone, image_size=32, weights="none", depth=(1, 1), width=8)
    network = build_tagger(options, np.full(3, 0.5))
    found = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    maps = [layer for layer in found if len(layer.input.shape) == 4]
    assert maps and all(isinstance(layer, BatchNormalization) for layer in maps)


def test_it_is_saved_and_opened(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, BatchNormalization(momentum=0.7)(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(again.layers[1]) is BatchNormalization and again.layers[1].momentum == 0.7
