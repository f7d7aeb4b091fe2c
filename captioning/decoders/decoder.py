"""The socket of decoders."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import keras
import numpy as np
from keras import ops

from captioning.data.captions import MAX_LENGTH
from captioning.formats import archives
from captioning.runtime import settings

_ROOM = 2**28  # bytes that a layer of the widths in a record may take, or 64 times its arrays


@dataclasses.dataclass(frozen=True)
class Config:
    """All that a decoder is built from.

    Attributes:
        dimension: D, length of a feature.
        vocabulary_size: number of word ids, padding included.
        max_length: longest prefix in words, and so the most words of a caption.
        settings: the decoder's hyper-parameters, its `Settings`.
        tokens: features of an image: 1 for a pooled one, k for a grid.
    """

    dimension: int
    vocabulary_size: int
    max_length: int
    settings: Any
    tokens: int = 1


class Decoder:
    """A network that writes captions, with its weights.

    A decoder defines `Settings`, `build`, `fold`, `start` and `step`, one that looks `where` as
    well; it may define `file_form`.

    Attributes:
        name: its row of `registry.DECODERS`.
        Settings: dataclass of its hyper-parameters, see `runtime.settings`.
        looks: whether it looks at the places of a grid. Such a decoder is trained on grids of
            features where there are any, else on pooled features as grids of one place; its
            network always takes (n, k, D).
        recipe_defaults: hyper-parameters of recipes, and `epochs`, that suit it, unless the user
            says otherwise.
        config: of this one.
        network: as `file_form` makes it.
    """

    name: str
    Settings: type
    looks: ClassVar[bool] = False
    recipe_defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Config, network: keras.Model | None = None):
        self.config = config
        self.network = network or self.file_form(config)

    @classmethod
    def build(cls, config: Config, dtype: str = "float32") -> keras.Model:
        """The network for whole captions, as it is trained by teacher forcing.

        Inputs: features float32 (n, D), or (n, k, D) with `config.tokens` as k if the decoder
        looks; words int32 (n, t), padded on the right with 0. Output: logits
        (n, t, vocabulary_size) of the word after each of the words.

        In training, features that are all exactly 0 stand for no picture, where a decoder first
        learns from sentences; to one that looks they come as a learned token instead.
        """
        raise NotImplementedError

    @classmethod
    def of_file(cls, path: Path, config: Any, layers: Mapping, file: h5py.File) -> "Decoder":
        """The decoder in a `.keras` file, built from its recorded config; arrays alone are taken.

        Args:
            config: as `Config` was recorded.
            layers: Keras's description of the network, which nothing is built from.
            file: the arrays.

        Raises:
            CaptioningError, ValueError: if they do not fit together, or a weight is not finite.
        """
        restored = settings.restore(cls.Settings, config["settings"], path)
        built = Config(**config | {"settings": restored})
        check_config(built, sum(array.nbytes for array in archives.arrays(file).values()))
        decoder = cls(built)
        archives.fill(path, file, decoder.network, cls.name, "copy or train it again")
        return decoder

    @classmethod
    def file_form(cls, config: Config) -> keras.Model:
        """The network as it is saved, in float32: the weights of `build`, in the same order."""
        return cls.build(config)

    def fold(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Make a network trained on (feature - mean) / scale take features, to the same effect.

        Of a grid, every place is standardised by the same numbers.

        Args:
            mean, scale: float32 (D,).
        """
        raise NotImplementedError

    def start(self, features: np.ndarray) -> Any:
        """The state before the first word, of features float32 (n, k, D).

        A state is a tree (tuples, lists, dictionaries) of tensors whose first axis is n, so that a
        search can reorder it.
        """
        raise NotImplementedError

    def step(self, words: np.ndarray, state: Any) -> tuple[Any, Any]:
        """The next word after `words` int32 (n,): logits (n, vocabulary_size), and the state."""
        raise NotImplementedError

    def where(self, state: Any) -> Any:
        """Where the step that gave `state` looked for the word that it predicted.

        Returns:
            float32 (n, k), weights of the k places of the grid in rows from the top left; they add
            up to 1.
        """
        raise NotImplementedError


def fold_into(layer: keras.layers.Dense, mean: np.ndarray, scale: np.ndarray) -> None:
    """Let a dense layer for (feature - mean) / scale take features, to the same effect."""
    kernel, bias = layer.get_weights()
    kernel = kernel / scale[:, None]
    layer.set_weights([kernel, bias - mean @ kernel])


def softmax(scores):
    """Over the last axis, also of one place alone, of which Keras's own would warn."""
    return ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))


def check_config(config: Config, stored: int) -> None:
    """Raise ValueError unless `stored` bytes of weights can be those of such a decoder."""
    sizes = config.dimension, config.max_length, config.tokens
    if not all(type(n) is int and n > 0 for n in (*sizes, config.vocabulary_size)):
        raise ValueError("its record describes no decoder")
    widths = [*sizes, *(n for n in dataclasses.astuple(config.settings) if type(n) is int)]
    largest = 4 * max(widths) * max(*widths, config.vocabulary_size)
    if config.max_length > MAX_LENGTH or largest > max(_ROOM, 64 * stored):
        raise ValueError("its record describes a decoder that it is too small for")
