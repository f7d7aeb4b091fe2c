"""Networks that are compiled at once."""

import contextlib
from collections.abc import Iterator

import numpy as np


def tiny_network():
    """A residual network of two blocks: D 128."""
    from captioning.encoders import residual

    return residual.Residual("tiny", residual.basic_block, (1, 1))


@contextlib.contextmanager
def replaced(registry, name: str, entry) -> Iterator[None]:
    """Puts something else in the place of a registry's entry."""
    before = registry._entries[name]
    replace(registry, name, entry)
    yield
    registry._entries[name] = before


def replace(registry, name: str, entry) -> None:
    """The same for as long as the process lives."""
    registry._entries[name] = entry, "in a test"


def tiny_resnet50():
    """Puts `tiny_network` in the place of ResNet-50, whose checkpoints it reads then."""
    from captioning.encoders.registry import BACKBONES

    return replaced(BACKBONES, "resnet50", tiny_network())


def torchvision_state(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of a network under torchvision's names, counters included."""
    state = {}
    for name, array in values.items():
        layer, kind = name.split("/")
        module = layer.replace("_", ".")
        if kind == "kernel":
            state[f"{module}.weight"] = np.moveaxis(array, (3, 2), (0, 1))
            continue
        kinds = {"gamma": "weight", "beta": "bias"}
        state[f"{module}.{kinds.get(kind, kind.replace('moving', 'running'))}"] = array
        state[f"{module}.num_batches_tracked"] = np.int64(7)
    return {name.replace("running_variance", "running_var"): a for name, a in state.items()}


def one_convolution(size, dtype=None):
    """A backbone for the puzzle network, with a normalisation: (n, size, size, 3) → (…, 4)."""
    import keras

    pixels = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 4, 4, dtype=dtype)(pixels)
    return keras.Model(pixels, keras.layers.BatchNormalization(dtype=dtype)(x))


def merge_network(dimension, vocabulary_size, max_length, whole_captions=False, **settings):
    """The Keras model of a merge captioner, as its file holds it, or for whole captions.

    All its widths are `units`, unless the settings say otherwise.
    """
    from captioning.decoders import merge
    from captioning.decoders.decoder import Config

    how = merge.Settings(**{"embedding_width": 0, "decoder_width": 0} | settings)
    config = Config(dimension, vocabulary_size, max_length, how)
    return merge.build(config, whole_captions=whole_captions)


def merge_captioner(network, record=None):
    """The captioner of such a model."""
    from captioning.decoders.captioner import Captioner
    from captioning.decoders.decoder import Config
    from captioning.decoders.merge import Merge, Settings

    (feature, prefix), (scores,) = network.inputs, network.outputs
    settings = Settings(network.get_layer("lstm").units, embedding_width=0, decoder_width=0)
    config = Config(feature.shape[-1], scores.shape[-1], prefix.shape[-1], settings)
    return Captioner(Merge(config, network), {} if record is None else record)


def looking_decoder():
    """A decoder whose words are weighed by what the places of a grid have most of."""
    import dataclasses

    import keras
    from keras import layers, ops

    from captioning.decoders.decoder import Decoder, fold_into
    from captioning.runtime.settings import setting

    class Looking(Decoder):
        name, looks = "looking", True

        @dataclasses.dataclass(frozen=True)
        class Settings:
            units: int = setting(16, "numbers of a place and of a word", least=1)

        @classmethod
        def build(cls, config, dtype="float32"):
            units = config.settings.units
            grids = keras.Input((config.tokens, config.dimension))
            words = keras.Input((None,), dtype="int32")
            places = layers.Dense(units, name="places", dtype=dtype)(grids)  # (n, k, units)
            image = ops.max(places, axis=1)[:, None]
            word = layers.Embedding(config.vocabulary_size, units, name="word", dtype=dtype)(words)
            scores = layers.Dense(config.vocabulary_size, name="scores", dtype=dtype)
            return keras.Model([grids, words], scores(ops.relu(image + word)))

        def start(self, features):
            return ops.max(self.network.get_layer("places")(features), axis=1)

        def step(self, words, state):
            word = self.network.get_layer("word")(words)
            return self.network.get_layer("scores")(ops.relu(state + word)), state

        def fold(self, mean, scale):
            fold_into(self.network.get_layer("places"), mean, scale)

    return Looking
