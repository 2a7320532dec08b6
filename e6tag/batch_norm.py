"""Batch normalisation by TensorFlow's fused kernel, which Keras 3 does not use.

Keras computes moments and normalises by a dozen elementwise operations, each of which reads and
writes the whole map, and as many again for the gradient: a third of a training step on a CPU.
"""

from typing import Any

import keras


@keras.saving.register_keras_serializable("e6tag")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, with the same weights, results and statistics, in a fraction of the time.

    On another backend, over several devices and for what the kernel cannot do, it is Keras' own.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalised maps of the inputs' shape; arguments as of Keras' layer."""
        if training and self.trainable and mask is None and self.fits_kernel(inputs):
            return self.fused(inputs)
        return super().call(inputs, training=training, mask=mask)

    def fits_kernel(self, inputs: Any) -> bool:
        """Whether TensorFlow's kernel computes the same: maps, channels last, one device."""
        is_map = len(inputs.shape) == 4 and self.axis in (-1, 3)
        plain = self.scale and self.center and not self.renorm and not self.synchronized
        return keras.backend.backend() == "tensorflow" and is_map and plain

    def fused(self, inputs: Any) -> Any:
        """Training: normalise by the batch's own moments, and let the moving ones follow them."""
        import tensorflow as tf

        none = tf.zeros(0)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=tf.cast(self.gamma, tf.float32), offset=tf.cast(self.beta, tf.float32),
            mean=none, variance=none, epsilon=self.epsilon, is_training=True,
        )  # fmt: skip
        # The kernel's variance is of a sample, n / (n - 1) times the one that Keras averages.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        variance *= tf.maximum(count - 1.0, 1.0) / count
        for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + seen * (1.0 - self.momentum))
        return outputs
