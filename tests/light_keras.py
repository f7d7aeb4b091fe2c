"""Loads Keras as a script does, in half the time that it takes by itself.

TensorFlow is not to optimise its graphs: for networks that see a few batches, that takes longer
than it saves.
"""

from captioning import console

console._import_keras()

import tensorflow as tf  # isort: skip  # noqa: E402

tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
