"""Keras's Adam and AdamW; on TensorFlow with an update that is one operation on the weights.

Keras writes the update as a dozen operations, each of which reads and writes arrays of the size of
the weights, unless XLA fuses them, which on processors it does not. On TensorFlow, Keras 3.15 also
squares the parts of an embedding's gradient, one for each time a word stands in the batch, where
Adam squares their sum, as Keras does on its other backends. Here it is the sum everywhere.
"""

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    class _OneOperation:
        """Goes before an Adam of Keras: the same formula, up to the rounding of 1 - beta."""

        def apply(self, grads, trainable_variables=None):
            """Update the variables once.

            Args:
                grads: of each variable's shape, None for one that is not updated; that of an
                    embedding may be the `IndexedSlices` of the rows read, some of them repeated.
                trainable_variables: in the same order; None for those of `build`.
            """
            whole = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
            return super().apply(whole, trainable_variables)

        def update_step(self, gradient, variable, learning_rate):
            """Change a variable, and the two averages of its gradient, in place.

            Args:
                gradient: a float tensor of the variable's shape.
                learning_rate: a scalar.
            """
            if self.amsgrad:
                super().update_step(gradient, variable, learning_rate)
                return
            index = self._get_variable_index(variable)
            step = ops.cast(self.iterations + 1, variable.dtype)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), step),
                beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), step),
                lr=ops.cast(learning_rate, variable.dtype),
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=ops.cast(gradient, variable.dtype),
            )

    class Adam(_OneOperation, keras.optimizers.Adam):
        """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980."""

    class AdamW(_OneOperation, keras.optimizers.AdamW):
        """Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101."""

else:  # PyTorch's is one operation already where Keras finds its own class, JAX compiles the chain
    Adam, AdamW = keras.optimizers.Adam, keras.optimizers.AdamW


def cosine(highest: float, steps: int, rising: int = 0) -> keras.optimizers.schedules.CosineDecay:
    """A line up to the highest learning rate over some steps, and half a cosine down to 0."""
    if not rising:
        return keras.optimizers.schedules.CosineDecay(highest, steps)
    return keras.optimizers.schedules.CosineDecay(
        highest / rising, max(1, steps - rising), warmup_target=highest, warmup_steps=rising
    )
