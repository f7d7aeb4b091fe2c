"""A decoder that adds up the words so far. The line of decoders/registry.py for it:

"bag": ("captioning.decoders.toy:Bag", "the sum of the words so far"),
"""

import dataclasses

from keras import Input, Model, layers, ops

from captioning.decoders.decoder import Decoder, fold_into
from captioning.runtime.settings import setting


class Bag(Decoder):
    name = "bag"

    @dataclasses.dataclass(frozen=True)
    class Settings:
        units: int = setting(32, "numbers that the image and each word become", least=1)

    @classmethod
    def build(cls, config, dtype="float32"):
        size, units = config.vocabulary_size, config.settings.units
        feature, words = Input((config.dimension,)), Input((None,), dtype="int32")
        image = layers.Dense(units, name="image", dtype=dtype)(feature)
        so_far = ops.cumsum(layers.Embedding(size, units, name="word", dtype=dtype)(words), axis=1)
        merged = ops.relu(image[:, None] + so_far)  # (n, t, units)
        return Model([feature, words], layers.Dense(size, name="scores", dtype=dtype)(merged))

    def start(self, features):
        image = self.network.get_layer("image")(features[:, 0])
        return image, ops.zeros_like(image)

    def step(self, words, state):
        image, so_far = state[0], state[1] + self.network.get_layer("word")(words)
        return self.network.get_layer("scores")(ops.relu(image + so_far)), (image, so_far)

    def fold(self, mean, scale):
        fold_into(self.network.get_layer("image"), mean, scale)
