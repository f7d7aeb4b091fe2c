"""Keras's batch normalisation; on TensorFlow without a GPU its training is one operation.

Keras writes it as a dozen operations, each of which reads and writes whole maps in 32 bits, unless
XLA fuses them, which Keras asks of it on GPUs alone.
"""

import keras
from keras import layers, ops

BatchNormalization = layers.BatchNormalization

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):

        class BatchNormalization(layers.BatchNormalization):
            """Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, of maps (n, h, w, c)."""

            def call(self, inputs, training=None, mask=None):
                """Normalise the last axis: float (n, h, w, c) → the same."""
                if not (training and self.trainable):
                    return super().call(inputs, training, mask)
                outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                    x=inputs,
                    scale=self.gamma,
                    offset=self.beta,
                    mean=[],
                    variance=[],
                    epsilon=self.epsilon,
                    is_training=True,
                )
                # TensorFlow divides by one less than the number of values, Keras by the number
                count = ops.cast(tf.size(inputs) // inputs.shape[-1], "float32")
                for moving, batch in (
                    (self.moving_mean, mean),
                    (self.moving_variance, variance * (count - 1) / count),
                ):
                    moving.assign(moving * self.momentum + batch * (1 - self.momentum))
                return outputs
