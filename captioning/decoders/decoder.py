"""The socket of decoders."""

import dataclasses
from typing import Any

import keras
import numpy as np


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

    A decoder defines `Settings`, `build`, `start` and `step`; it may define `file_form`, and `fold`
    where it is to be trained on standardised features.

    Attributes:
        name: its row of `registry.DECODERS`.
        Settings: dataclass of its hyper-parameters, see `runtime.settings`.
        config: of this one.
        network: as `file_form` makes it.
    """

    name: str
    Settings: type

    def __init__(self, config: Config, network: keras.Model | None = None):
        self.config = config
        self.network = network or self.file_form(config)

    @classmethod
    def build(cls, config: Config, dtype: str = "float32") -> keras.Model:
        """The network for whole captions, as it is trained by teacher forcing.

        Inputs: features float32 (n, D), or (n, k, D) where `config.tokens` is k > 1; words int32
        (n, t), padded on the right with 0. Output: logits (n, t, vocabulary_size) of the word
        after each of the words.
        """
        raise NotImplementedError

    @classmethod
    def file_form(cls, config: Config) -> keras.Model:
        """The network as it is saved, in float32: the weights of `build`, in the same order."""
        return cls.build(config)

    def fold(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Make a network trained on (feature - mean) / scale take features, to the same effect.

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
