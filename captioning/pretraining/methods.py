"""What a trunk can be taught by: two views of a picture, or a picture and its captions.

A method is a `Method`: it says how many views of each picture it needs, what it makes of the
trunk's features, and its objective. `METHODS` lists them.
"""

import math
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from captioning.encoders import sources
from captioning.pretraining import views


def nt_xent(projections, temperature: float):
    """Normalised temperature-scaled cross entropy (SimCLR, arXiv 2002.05709, equation 1).

    Args:
        projections: (2n, d); rows i and i + n are of two views of one picture.

    Returns:
        losses: float32 (2n,).
        correct: float32 (2n,), 1 where the other view is the nearest of all 2n - 1 rows.
    """
    z = _unit(projections)
    count = ops.shape(z)[0]
    logits = ops.matmul(z, ops.transpose(z)) / temperature
    logits = logits - 1e9 * ops.eye(count, dtype="float32")  # no row is its own neighbour
    rows = ops.arange(count, dtype="int32")
    partners = ops.concatenate([rows[count // 2 :], rows[: count // 2]])
    return _cross_entropy(logits, partners)


def clip_loss(images, texts, temperature: float):
    """Which caption belongs to which picture, both ways (CLIP, arXiv 2103.00020, figure 3).

    Args:
        images, texts: (n, d); rows i belong together.

    Returns:
        losses: float32 (2n,), of the pictures, then of the texts.
        correct: float32 (2n,), 1 where the nearest is the right one.
    """
    logits = ops.matmul(_unit(images), ops.transpose(_unit(texts))) / temperature
    targets = ops.arange(ops.shape(logits)[0], dtype="int32")
    ways = [_cross_entropy(way, targets) for way in (logits, ops.transpose(logits))]
    return tuple(ops.concatenate(parts) for parts in zip(*ways, strict=True))


def _unit(x):
    return ops.normalize(ops.cast(x, "float32"), axis=-1)


def _cross_entropy(logits, targets):
    losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return losses, ops.cast(ops.argmax(logits, axis=-1) == targets, "float32")


class Method(keras.Model):
    """A trunk that learns from batches of `Views`, on any Keras backend.

    A method defines `view_count`, `reports`, `outputs` and `objective`.

    Attributes:
        trunk: float (n, size, size, 3), preprocessed → (n, D).
        view_count: views of each picture in a batch.
        reports: names of what is tracked beside the loss.
        reads_captions: whether a batch holds captions too: see `CaptionedViewBatches`.
    """

    view_count: int
    reports: tuple[str, ...]
    reads_captions = False

    def __init__(self, trunk: keras.Model, preprocessing: str, temperature: float):
        super().__init__()
        self.trunk, self.temperature = trunk, temperature
        how = sources.PREPROCESSINGS[preprocessing]
        if how.order != "RGB":
            raise ValueError(f"views are RGB, {preprocessing} is {how.order}")
        self.scale, self.shift = 255 * np.float32(how.scale), np.float32(how.shift)
        names = ("loss", *self.reports, "deviation")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def outputs(self, features, x: Mapping, training: bool) -> dict:
        """What the objective needs, from the features (view_count · n, D), view by view."""
        raise NotImplementedError

    def objective(self, outputs: Mapping):
        """The loss of a batch, and a value for each of `reports`."""
        raise NotImplementedError

    def call(self, x, training=False):
        size = self.trunk.input_shape[1]
        pictures = ops.concatenate(
            [views.apply(x["pixels"], x[f"view{i}"], size) for i in range(self.view_count)]
        )
        features = self.trunk(pictures * self.scale + self.shift, training=training)
        return {"features": features} | self.outputs(features, x, training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss, reported = self.objective(y_pred)
        values = {"loss": loss, "deviation": deviation(y_pred["features"])} | reported
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return loss

    @property
    def metrics(self):
        return list(self.trackers.values())


def deviation(features):
    """Mean deviation of the units of normalised features, times √D: 1 spread evenly, 0 collapsed.

    Features (n, D); Chen and He 2021 (https://arxiv.org/abs/2011.10566, section 4.1).
    """
    return ops.mean(ops.std(_unit(features), axis=0)) * math.sqrt(features.shape[-1])


class SimCLR(Method):
    """Two views of a picture must find each other among all views of a batch."""

    view_count = 2
    reports = ("accuracy",)

    def __init__(self, trunk, preprocessing, temperature):
        super().__init__(trunk, preprocessing, temperature)
        self.head = _projection("projection", trunk.output_shape[-1])

    def outputs(self, features, x, training):
        return {"projections": self.head(features, training=training)}

    def objective(self, outputs):
        losses, correct = nt_xent(outputs["projections"], self.temperature)
        return ops.mean(losses), {"accuracy": ops.mean(correct)}


class ImageText(Method):
    """A picture must tell the words of its captions, and which caption of the batch is its own.

    Words: cross-entropy with the shares of the words in all captions of the picture, as Joulin et
    al. 2015 (arXiv 1511.02251, section 3.1). Captions: `clip_loss`, the text encoder being the
    mean of word vectors behind a hidden layer. The loss is that of the words plus
    `contrastive_weight` times that of the captions.
    """

    view_count = 1
    reports = ("word_loss", "accuracy")
    reads_captions = True

    def __init__(
        self,
        trunk,
        preprocessing,
        temperature,
        words: int,
        vocabulary_size: int,
        contrastive_weight: float,
    ):
        super().__init__(trunk, preprocessing, temperature)
        self.contrastive_weight = contrastive_weight
        self.words = layers.Dense(words, dtype="float32", name="words")
        self.image_head = _projection("image_projection", trunk.output_shape[-1])
        self.embedding = layers.Embedding(vocabulary_size, 256, dtype="float32", name="embedding")
        self.text_head = _projection("text_projection", 512)
        self.dropout = layers.Dropout(0.5)

    def outputs(self, features, x, training):
        seen = ops.cast(x["caption"] > 0, "float32")[:, :, None]  # (n, t, 1), 0 is padding
        vectors = ops.sum(self.embedding(x["caption"]) * seen, axis=1)
        vectors = vectors / ops.maximum(ops.sum(seen, axis=1), 1.0)
        return {
            "words": self.words(self.dropout(features, training=training)),
            "targets": x["words"],
            "images": self.image_head(features, training=training),
            "texts": self.text_head(vectors, training=training),
        }

    def objective(self, outputs):
        chances = ops.log_softmax(outputs["words"], axis=-1)
        word_loss = -ops.mean(ops.sum(outputs["targets"] * chances, axis=-1))
        losses, correct = clip_loss(outputs["images"], outputs["texts"], self.temperature)
        loss = word_loss + self.contrastive_weight * ops.mean(losses)
        return loss, {"word_loss": word_loss, "accuracy": ops.mean(correct)}


METHODS = {"simclr": SimCLR, "image-text": ImageText}


def _projection(name: str, hidden: int, units: int = 128) -> keras.Sequential:
    return keras.Sequential(
        [
            layers.Dense(hidden, use_bias=False, dtype="float32"),
            layers.BatchNormalization(momentum=0.9, dtype="float32"),
            layers.ReLU(dtype="float32"),
            layers.Dense(units, use_bias=False, dtype="float32"),
        ],
        name=name,
    )
