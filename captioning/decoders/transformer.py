"""The Transformer decoder: words look at the words before them and at places of the picture.

Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762), with the normalisation before each
part (Xiong et al., arXiv 2002.04745) and tied embeddings (Press and Wolf, arXiv 1608.05859).
"""

import dataclasses
import math
import warnings
from typing import ClassVar

import keras
import numpy as np
from keras import layers, ops

from captioning.decoders.decoder import Config, Decoder, fold_into, softmax
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters of `Transformer`."""

    blocks: int = setting(2, "blocks, one after the other", least=1, most=64)
    width: int = setting(256, "numbers that a word and a place become", least=1, most=2**15)
    heads: int = setting(4, "heads of each attention, among which the width is divided", least=1)
    dropout: float = setting(0.3, "dropout within the blocks", least=0, below=1)
    feature_dropout: float = setting(0.3, "dropout of the features", least=0, below=1)
    scores_dropout: float = setting(0.3, "dropout before the scores", least=0, below=1)


class Transformer(Decoder):
    """See `decoder.Decoder`. Captions are padded on the right, so causality alone masks."""

    name = "transformer"
    Settings = Settings
    looks = True
    recipe_defaults: ClassVar = {
        "epochs": 12,
        "learning_rate": 1.5e-3,
        "warm_up": 0.06,
        "feature_std": 1.0,
    }

    @classmethod
    def build(cls, config: Config, dtype: str = "float32") -> keras.Model:
        how = config.settings
        if config.tokens == 1:  # pooled features: Keras would ask whether a sigmoid was meant
            warnings.filterwarnings("ignore", "You are using a softmax over axis", UserWarning)
        features = keras.Input((config.tokens, config.dimension), name="features")
        words = keras.Input((None,), dtype="int32", name="words")
        grid = layers.Dropout(how.feature_dropout, dtype=dtype)(features)
        grid = layers.Dense(how.width, name="places", dtype=dtype)(grid)
        grid = layers.LayerNormalization(name="places_norm", dtype=dtype)(grid)  # (n, k, width)

        embedding = layers.ReversibleEmbedding(
            config.vocabulary_size, how.width, name="embedding", dtype=dtype
        )
        numbers = ops.cumsum(ops.ones_like(words), axis=1) - 1  # 0, 1, 2, … of each caption
        x = embedding(words) + layers.Embedding(
            config.max_length, how.width, name="positions", dtype=dtype
        )(numbers)
        x = layers.Dropout(how.dropout, dtype=dtype)(x)

        def norm(name):
            return layers.LayerNormalization(name=name, dtype=dtype)

        def attention(name):
            return layers.MultiHeadAttention(
                how.heads, max(1, how.width // how.heads), dropout=how.dropout, name=name,
                dtype=dtype,
            )  # fmt: skip

        def dropped(part):
            return layers.Dropout(how.dropout, dtype=dtype)(part)

        for i in range(how.blocks):
            normed = norm(f"words_norm_{i}")(x)
            x += dropped(attention(f"words_{i}")(normed, normed, use_causal_mask=True))
            x += dropped(attention(f"picture_{i}")(norm(f"picture_norm_{i}")(x), grid))
            part = norm(f"feed_norm_{i}")(x)
            part = layers.Dense(4 * how.width, "gelu", name=f"feed_{i}", dtype=dtype)(part)
            x += dropped(layers.Dense(how.width, name=f"feed_out_{i}", dtype=dtype)(part))
        x = norm("norm")(x)
        x = layers.Dropout(how.scores_dropout, dtype=dtype)(x)
        return keras.Model([features, words], embedding(x, reverse=True), name=cls.name)

    def fold(self, mean: np.ndarray, scale: np.ndarray) -> None:
        fold_into(self.network.get_layer("places"), mean, scale)

    def start(self, features: np.ndarray):
        layer = self.network.get_layer
        grid = layer("places_norm")(layer("places")(features))
        picture, words = [], []
        for i in range(self.config.settings.blocks):
            attention = layer(f"picture_{i}")
            picture.append((attention.key_dense(grid), attention.value_dense(grid)))
            words.append((picture[-1][0][:, :0], picture[-1][1][:, :0]))  # of no word yet
        return {"picture": picture, "words": words, "where": ops.zeros_like(grid[:, :, 0])}

    def step(self, words: np.ndarray, state):
        layer = self.network.get_layer
        number = state["words"][0][0].shape[1]  # words so far
        x = ops.expand_dims(layer("embedding")(words), 1) + layer("positions").embeddings[number]
        kept, shares = [], []
        for i, (keys, values) in enumerate(state["words"]):
            attention, normed = layer(f"words_{i}"), layer(f"words_norm_{i}")(x)
            keys = ops.concatenate([keys, attention.key_dense(normed)], axis=1)
            values = ops.concatenate([values, attention.value_dense(normed)], axis=1)
            kept.append((keys, values))
            x += _attend(attention, normed, keys, values)[0]
            seen, weights = _attend(
                layer(f"picture_{i}"), layer(f"picture_norm_{i}")(x), *state["picture"][i]
            )
            x += seen
            shares.append(ops.mean(weights[:, :, 0], axis=1))
            x += layer(f"feed_out_{i}")(layer(f"feed_{i}")(layer(f"feed_norm_{i}")(x)))
        logits = layer("embedding")(layer("norm")(x), reverse=True)
        where = sum(shares) / len(shares)
        return logits[:, 0], {"picture": state["picture"], "words": kept, "where": where}

    def where(self, state):
        """The mean over blocks and heads."""
        return state["where"]


def _attend(attention: layers.MultiHeadAttention, query, keys, values):
    """What attention gives for queries (n, 1, width), and its weights (n, heads, 1, k).

    Args:
        keys, values: (n, k, heads, width of a head), as the layer's own dense layers give them.
    """
    query = attention.query_dense(query)
    scores = ops.einsum("nqhd,nkhd->nhqk", query, keys) / math.sqrt(query.shape[-1])
    weights = softmax(scores)
    return attention.output_dense(ops.einsum("nhqk,nkhd->nqhd", weights, values)), weights
