"""Keras's Adam and AdamW, whose update on TensorFlow is one operation instead of twenty.

Keras writes the update as a chain of small operations, each of which reads and writes arrays of the
size of the weights: thirty times over all the weights' memory instead of ten.
"""

import keras
from keras import ops


class _OneOperation:
    """Goes before an Adam of Keras; the same arithmetic in the same order."""

    def update_step(self, gradient, variable, learning_rate):
        """Change a variable, and the two averages of its gradient, in place.

        Args:
            gradient: of the variable's shape, or the `IndexedSlices` that an embedding gives.
        """
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

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
            grad=tf.convert_to_tensor(ops.cast(gradient, variable.dtype)),
        )


class Adam(_OneOperation, keras.optimizers.Adam):
    """Kingma and Ba 2015 (https://arxiv.org/abs/1412.6980); takes what Keras's takes."""


class AdamW(_OneOperation, keras.optimizers.AdamW):
    """Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101); takes what Keras's takes."""
