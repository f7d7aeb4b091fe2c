"""The merge decoder: an image feature and the words so far → the next word.

Architecture: Tanti, Gatt and Camilleri, "What is the Role of Recurrent Neural Networks (RNNs) in
an Image Caption Generator?" (arXiv 1708.02043). The recipe 'reference' sets the widths and the
dropout of the reference; those here were chosen by the captions written on dev.
"""

import dataclasses

import keras
import numpy as np
from keras import layers, ops

from captioning.decoders.decoder import Config, Decoder, fold_into
from captioning.runtime.errors import CaptioningError
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters of `Merge`."""

    units: int = setting(
        512, "units of the LSTM and of the layer that takes the feature", least=1, most=2**15
    )
    embedding_width: int = setting(256, "numbers that a word becomes; 0: units", least=0)
    decoder_width: int = setting(512, "units of the layer before the scores; 0: units", least=0)
    dropout: float = setting(0.25, "dropout of the feature and of the words", least=0, below=1)
    scores_dropout: float = setting(0.5, "dropout before the scores", least=0, below=1)


class Merge(Decoder):
    """See `decoder.Decoder`. What is saved takes padded prefixes, as the reference's does."""

    name = "merge"
    Settings = Settings

    @classmethod
    def build(cls, config: Config, dtype: str = "float32") -> keras.Model:
        return build(config, whole_captions=True, logits=True, dtype=dtype)

    @classmethod
    def file_form(cls, config: Config) -> keras.Model:
        return build(config)

    @classmethod
    def of_file(cls, path, config, layers, file):
        from captioning.decoders import merge_files  # which makes decoders of this class

        return merge_files.of_keras(path, layers, file, (config or {}).get("settings", {}))

    def fold(self, mean: np.ndarray, scale: np.ndarray) -> None:
        fold_into(self.network.get_layer("feature_dense"), mean, scale)

    def start(self, features: np.ndarray):
        if features.shape[1] != 1:
            raise CaptioningError(
                f"expected one feature an image, found {features.shape[1]}; the decoder 'merge' "
                "does not look at grids"
            )
        image = self.network.get_layer("feature_dense")(features[:, 0])  # (n, units)
        return image, [ops.zeros_like(image), ops.zeros_like(image)]

    def step(self, words: np.ndarray, state):
        layer = self.network.get_layer
        image, memory = state
        embedded = ops.take(layer("embedding").embeddings, words, axis=0)
        hidden, memory = layer("lstm").cell(embedded, memory)
        merged = layer("decoder")(image + hidden)
        scores = layer("scores")
        return ops.add(ops.matmul(merged, scores.kernel), scores.bias), (image, memory)


def build(
    config: Config,
    *,
    whole_captions: bool = False,
    logits: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """The two-input network.

    Inputs: feature float32 (n, D); prefix int32 (n, max_length), word ids padded with 0.
    Output: float32 (n, vocabulary_size), the distribution of the next word.

    Args:
        whole_captions: for training by teacher forcing: the prefix is a caption of any length t
            without padding, the output (n, t, vocabulary_size) predicts the word after each of
            its words. The weights are the same, in the same order.
        logits: leave the softmax out.
        dtype: Keras dtype policy of the layers.
    """
    how = config.settings
    units, dropout = how.units, how.dropout
    feature = keras.Input((config.dimension,), name="feature")
    image = layers.Dropout(dropout, name="feature_dropout", dtype=dtype)(feature)
    image = layers.Dense(units, activation="relu", name="feature_dense", dtype=dtype)(image)

    length = None if whole_captions else config.max_length
    prefix = keras.Input((length,), dtype="int32", name="prefix")
    words = layers.Embedding(
        config.vocabulary_size,
        how.embedding_width or units,
        mask_zero=not whole_captions,
        name="embedding",
        dtype=dtype,
    )(prefix)
    words = layers.Dropout(dropout, name="prefix_dropout", dtype=dtype)(words)
    words = layers.LSTM(units, return_sequences=whole_captions, name="lstm", dtype=dtype)(words)

    if whole_captions:
        image = _EveryWord(name="every_word", dtype=dtype)(image, feature)
    merged = layers.Add(name="merge", dtype=dtype)([image, words])
    width = how.decoder_width or units
    merged = layers.Dense(width, activation="relu", name="decoder", dtype=dtype)(merged)
    if logits and how.scores_dropout:  # a distribution is asked for after training
        merged = layers.Dropout(how.scores_dropout, name="scores_dropout", dtype=dtype)(merged)
    activation = None if logits else "softmax"
    output = layers.Dense(config.vocabulary_size, activation, name="scores", dtype=dtype)(merged)
    return keras.Model([feature, prefix], output, name="captioner")


class _EveryWord(layers.Layer):
    """An image for all words of its caption, (n, units) → (n, 1, units); zeros of no picture.

    One layer, so that the network's weights stay in the order of the file's.
    """

    def call(self, image, feature):
        seen = ops.any(ops.not_equal(feature, 0), axis=1, keepdims=True)
        return ops.expand_dims(ops.where(seen, image, ops.zeros_like(image)), 1)
