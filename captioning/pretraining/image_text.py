"""Pictures and captions: a picture must tell the words of its captions, and which one is its own.

Words: cross-entropy with the shares of the words in all captions of the picture (Joulin et al.
2015, https://arxiv.org/abs/1511.02251, section 3.1). Captions: CLIP's loss (Radford et al. 2021,
https://arxiv.org/abs/2103.00020, figure 3), the text encoder being the mean of word vectors and a
projection head. The loss is that of the words plus `contrastive_weight` times that of the captions.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from captioning.pretraining import method
from captioning.pretraining.parts import cross_entropy, projection_head, unit
from captioning.runtime.settings import setting
from captioning.scores import probes


@dataclasses.dataclass(frozen=True)
class Settings(method.Settings):
    """Beside those of every method."""

    temperature: float = setting(0.2, "divides the similarities in the captions' loss", above=0)
    contrastive_weight: float = setting(
        1.0, "of the captions' loss beside that of the words", least=0, most=1
    )
    words: int = setting(1000, "how many of the captions' content words are predicted", least=1)
    dropout: float = setting(0.5, "of the features that predict the words", least=0, below=1)
    embedding: int = setting(256, "width of the word vectors", least=1)
    hidden: int | None = setting(
        None, "width of the picture head's hidden layer; none: that of the features", least=1
    )
    text_hidden: int = setting(512, "width of the text head's hidden layer", least=1)
    projection: int = setting(128, "width of the projections", least=1)


class ImageText(method.Method):
    """See the module."""

    Settings = Settings
    reports = ("word_loss", "accuracy")
    reads_captions = True

    def __init__(self, backbone, preprocessing, settings=None, pairs=None):
        super().__init__(backbone, preprocessing, settings, pairs)
        own, vocabulary_size = self.settings, pairs.tokenizer.vocabulary_size
        self.predicted = probes.frequent_words(pairs.train, own.words)
        self.words = layers.Dense(len(self.predicted), dtype="float32", name="words")
        self.image_head = projection_head(
            "image_projection", own.hidden or backbone.output_shape[-1], own.projection
        )
        self.embedding = layers.Embedding(
            vocabulary_size, own.embedding, dtype="float32", name="embedding"
        )
        self.text_head = projection_head("text_projection", own.text_hidden, own.projection)
        self.dropout = layers.Dropout(own.dropout)

    def targets(self, captions):
        return {"words": word_shares(captions, self.predicted)}

    def call(self, batch, training=False):
        features = self.features(self.view(batch, 0), training)  # (n, D)
        known = ops.cast(batch["caption"] > 0, "float32")[:, :, None]  # (n, t, 1), 0 is padding
        vectors = ops.sum(self.embedding(batch["caption"]) * known, axis=1)
        vectors = vectors / ops.maximum(ops.sum(known, axis=1), 1.0)  # (n, embedding)
        return {
            "features": features,
            "words": self.words(self.dropout(features, training=training)),
            "targets": batch["words"],
            "images": self.image_head(features, training=training),
            "texts": self.text_head(vectors, training=training),
        }

    def objective(self, outputs):
        chances = ops.log_softmax(outputs["words"], axis=-1)
        word_loss = -ops.mean(ops.sum(outputs["targets"] * chances, axis=-1))
        losses, correct = clip_loss(outputs["images"], outputs["texts"], self.settings.temperature)
        loss = word_loss + self.settings.contrastive_weight * ops.mean(losses)
        return loss, {"word_loss": word_loss, "accuracy": ops.mean(correct)}


def clip_loss(images, texts, temperature: float):
    """Which caption belongs to which picture, both ways.

    Args:
        images, texts: (n, d); rows i belong together.

    Returns:
        losses: float32 (2n,), of the pictures, then of the texts.
        correct: float32 (2n,), 1 where the nearest is the right one.
    """
    logits = ops.matmul(unit(images), ops.transpose(unit(texts))) / temperature
    targets = ops.arange(ops.shape(logits)[0], dtype="int32")
    ways = [cross_entropy(way, targets) for way in (logits, ops.transpose(logits))]
    return tuple(ops.concatenate(parts) for parts in zip(*ways, strict=True))


def word_shares(captions: Sequence[Sequence[str]], words: Sequence[str]) -> np.ndarray:
    """How often each of `words` is among those said of each picture: float32 (n, len(words)).

    Rows sum to 1, or to 0 where no caption has any of the words.
    """
    index = {word: i for i, word in enumerate(words)}
    shares = np.zeros((len(captions), len(words)), np.float32)
    for row, group in zip(shares, captions, strict=True):
        for caption in group:
            for word in caption.split():
                if word in index:
                    row[index[word]] += 1
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
