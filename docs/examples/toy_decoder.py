"""A decoder without a memory for order: the image and the sum of the words so far.

As captioning/decoders/toy.py it needs one more line, in decoders/registry.py:

    "bag": ("captioning.decoders.toy:Bag", "the sum of the words so far"),
"""

import dataclasses

import keras
from keras import layers, ops

from captioning.decoders.decoder import Decoder
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings:
    units: int = setting(32, "numbers that the image and each word become", least=1)


class Bag(Decoder):
    name, Settings = "bag", Settings

    @classmethod
    def build(cls, config, dtype="float32"):
        size, units = config.vocabulary_size, config.settings.units
        feature, words = keras.Input((config.dimension,)), keras.Input((None,), dtype="int32")
        image = layers.Dense(units, name="image", dtype=dtype)(feature)
        so_far = ops.cumsum(layers.Embedding(size, units, name="word", dtype=dtype)(words), axis=1)
        merged = ops.relu(image[:, None] + so_far)  # (n, t, units)
        logits = layers.Dense(size, name="scores", dtype=dtype)(merged)
        return keras.Model([feature, words], logits)

    def start(self, features):
        image = self.network.get_layer("image")(features[:, 0])
        return image, ops.zeros_like(image)

    def step(self, words, state):
        image, so_far = state
        so_far = so_far + self.network.get_layer("word")(words)
        return self.network.get_layer("scores")(ops.relu(image + so_far)), (image, so_far)

    def fold(self, mean, scale):
        kernel, bias = self.network.get_layer("image").get_weights()
        kernel = kernel / scale[:, None]
        self.network.get_layer("image").set_weights([kernel, bias - mean @ kernel])
