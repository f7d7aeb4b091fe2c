"""The attention decoder: before each word, an LSTM looks at some places of the picture.

Soft attention of Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual
Attention" (arXiv 1502.03044), with its scalar gate, its doubly stochastic penalty and its deep
output. The features are first brought to the width of the words, since those of an encoder may be
thousands of numbers wide.
"""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
from keras import layers, ops

from captioning.decoders.decoder import Config, Decoder, fold_into, softmax
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters of `Attention`."""

    units: int = setting(512, "units of the LSTM", least=1, most=2**15)
    width: int = setting(256, "numbers that a word and a place become", least=1, most=2**15)
    looking_width: int = setting(256, "units by which places are compared", least=1, most=2**15)
    dropout: float = setting(0.5, "dropout of words and before the scores", least=0, below=1)
    feature_dropout: float = setting(0.2, "dropout of the features", least=0, below=1)
    doubly_stochastic: float = setting(
        0.1, "weight of the penalty on places that are looked at too little or too much", least=0
    )


class Attention(Decoder):
    """See `decoder.Decoder`."""

    name = "attention"
    Settings = Settings
    looks = True
    recipe_defaults: ClassVar = {
        "epochs": 8,
        "learning_rate": 1e-3,
        "warm_up": 0.06,
        "feature_std": 1.0,
    }

    @classmethod
    def build(cls, config: Config, dtype: str = "float32") -> keras.Model:
        how = config.settings
        features = keras.Input((config.tokens, config.dimension), name="features")
        words = keras.Input((None,), dtype="int32", name="words")
        grid = layers.Dropout(how.feature_dropout, dtype=dtype)(features)
        grid = layers.Dense(how.width, name="places", dtype=dtype)(grid)  # (n, k, width)
        embedded = layers.Embedding(
            config.vocabulary_size, how.width, name="embedding", dtype=dtype
        )(words)
        embedded = layers.Dropout(how.dropout, dtype=dtype)(embedded)
        looking = LookingLSTM(
            how.units, how.looking_width, how.doubly_stochastic, name="looking", dtype=dtype
        )
        hidden, context = looking(embedded, grid, ops.not_equal(words, 0))
        said = layers.Dense(how.width, name="hidden", dtype=dtype)(hidden)
        seen = layers.Dense(how.width, use_bias=False, name="context", dtype=dtype)(context)
        output = ops.tanh(embedded + said + seen)  # (n, t, width)
        output = layers.Dropout(how.dropout, dtype=dtype)(output)
        logits = layers.Dense(config.vocabulary_size, name="scores", dtype=dtype)(output)
        return keras.Model([features, words], logits, name=cls.name)

    def fold(self, mean: np.ndarray, scale: np.ndarray) -> None:
        fold_into(self.network.get_layer("places"), mean, scale)

    def start(self, features: np.ndarray):
        grid = self.network.get_layer("places")(features)
        looking = self.network.get_layer("looking")
        return grid, looking.keys(grid), looking.first(grid)

    def step(self, words: np.ndarray, state):
        grid, keys, (hidden, memory, *_) = state
        layer = self.network.get_layer
        embedded = layer("embedding")(words)  # (n, width)
        seen = layer("looking").look(embedded, grid, keys, hidden, memory)
        hidden, _, context, _ = seen
        output = ops.tanh(embedded + layer("hidden")(hidden) + layer("context")(context))
        return layer("scores")(output), (grid, keys, seen)

    def where(self, state):
        return state[-1][-1]


@keras.saving.register_keras_serializable("captioning")
class LookingLSTM(layers.Layer):
    """An LSTM whose input is a word and what it looks at: section 3.1 and 4.2 of the paper.

    Call arguments:
        words: (n, t, width).
        grid: (n, k, width).
        counted: bool (n, t), which words are no padding.

    Returns:
        hidden states (n, t, units), and contexts (n, t, width): the places that were looked at,
        each with its share, times the gate.
    """

    def __init__(self, units: int, looking_width: int, doubly_stochastic: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.looking_width = units, looking_width
        self.doubly_stochastic = doubly_stochastic
        how = {"dtype": self.dtype_policy}
        self.keys = layers.Dense(looking_width, name="keys", **how)
        self.query = layers.Dense(looking_width, use_bias=False, name="query", **how)
        self.energy = layers.Dense(1, use_bias=False, name="energy", **how)
        self.gate = layers.Dense(1, activation="sigmoid", name="gate", **how)
        self.first_hidden = layers.Dense(units, activation="tanh", name="first_hidden", **how)
        self.first_memory = layers.Dense(units, activation="tanh", name="first_memory", **how)
        self.cell = layers.LSTMCell(units, name="cell", **how)

    def build(self, words_shape, grid_shape, counted_shape=None):
        width = grid_shape[-1]
        for layer in (self.keys, self.first_hidden, self.first_memory):
            layer.build((None, width))
        for layer in (self.query, self.gate):
            layer.build((None, self.units))
        self.energy.build((None, self.looking_width))
        self.cell.build((None, words_shape[-1] + width))
        self.built = True

    def first(self, grid):
        """The state before the first word, from the mean place: see `look`."""
        mean = ops.mean(grid, axis=1)
        shares = ops.zeros_like(grid[:, :, 0], dtype="float32")
        return self.first_hidden(mean), self.first_memory(mean), ops.zeros_like(mean), shares

    def look(self, word, grid, keys, hidden, memory):
        """One step.

        Args:
            word: (n, width).
            grid, keys: (n, k, width) and what `keys` makes of it.
            hidden, memory: (n, units), the state after the word before.

        Returns:
            hidden, memory; context (n, width); shares float32 (n, k), which sum to 1.
        """
        compared = ops.tanh(keys + ops.expand_dims(self.query(hidden), 1))
        energies = ops.cast(ops.squeeze(self.energy(compared), -1), "float32")  # (n, k)
        shares = softmax(energies)
        weights = ops.expand_dims(ops.cast(shares, self.compute_dtype), 1)
        context = self.gate(hidden) * ops.squeeze(ops.matmul(weights, grid), 1)
        seen = ops.concatenate([word, context], axis=-1)
        hidden, (_, memory) = self.cell(seen, [hidden, memory])
        return hidden, memory, context, shares

    def call(self, words, grid, counted, training=False):
        keys = self.keys(grid)

        def step(state, word):
            state = self.look(word, grid, keys, *state[:2])
            return state, state

        _, states = ops.scan(step, self.first(grid), ops.swapaxes(words, 0, 1))
        hidden, _, context, shares = (ops.swapaxes(part, 0, 1) for part in states)
        if training and self.doubly_stochastic:
            counted = ops.cast(counted, "float32")
            looks = ops.sum(shares * ops.expand_dims(counted, -1), axis=1)  # (n, k)
            penalty = ops.sum(ops.square(1 - looks)) / ops.sum(counted)
            self.add_loss(self.doubly_stochastic * penalty)
        return hidden, context

    def compute_output_spec(self, words, grid, counted, training=False):
        return (
            keras.KerasTensor((*words.shape[:2], self.units), self.compute_dtype),
            keras.KerasTensor((*words.shape[:2], grid.shape[-1]), self.compute_dtype),
        )

    def get_config(self):
        own = {
            "units": self.units,
            "looking_width": self.looking_width,
            "doubly_stochastic": self.doubly_stochastic,
        }
        return super().get_config() | own
