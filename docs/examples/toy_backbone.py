"""A backbone of one convolution, whose features are a grid of four tokens a picture.

As captioning/encoders/toy.py it needs one more line, in encoders/registry.py:

    "toy": ("captioning.encoders.toy:TOY", "one convolution, four tokens"),
"""

import keras
from keras import layers

from captioning.encoders.network import Network


class Toy(Network):
    def build(self, size, dtype=None):
        pixels = keras.Input((size, size, 3))
        x = layers.Conv2D(8, 4, size // 2, "same", dtype=dtype, name="conv")(pixels)  # (n, 2, 2, 8)
        x = layers.ReLU(dtype=dtype)(x)
        tokens = layers.Reshape((4, 8), dtype="float32")(x)  # (n, 4, 8)
        return keras.Model(pixels, tokens, name="toy")


TOY = Toy()
