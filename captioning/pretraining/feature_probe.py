"""How good features are while a backbone is trained."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from captioning.data import hdf5
from captioning.encoders import backbones, loading
from captioning.encoders.network import parameters
from captioning.pretraining.callbacks import Resumable
from captioning.pretraining.pairs import Pairs
from captioning.scores import probes


class FeatureProbe(Resumable):
    """Every few epochs: how many directions features vary in, and how well neighbours share words.

    Adds `rank` and, with captions, `neighbours` to the epoch's row of the history; an epoch that is
    not probed repeats the last values.
    """

    def __init__(
        self,
        pictures: np.ndarray,
        backbone: backbones.Backbone,
        precision: str,
        every: int,
        neighbours: Callable[[np.ndarray], float] | None = None,
    ):
        """
        Args:
            pictures: uint8 (n, backbone.size, backbone.size, 3), seen whole.
            backbone: what `model.kept` was made of.
            precision: of the encoder, see `loading.load`.
            every: epochs between two looks.
            neighbours: features float32 (n, D) → how well neighbours share words.
        """
        super().__init__()
        self.pictures, self.every, self.neighbours = pictures, every, neighbours
        self.backbone = backbone
        self.encoder = loading.of_backbone(backbone, precision)
        self.last = {"rank": math.nan} | ({"neighbours": math.nan} if neighbours else {})

    def on_epoch_end(self, epoch, logs=None):
        if self.is_replayed(epoch):
            self.last = {key: logs[key] for key in self.last}
            return
        due = (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]
        if due and np.isfinite(logs["loss"]):  # else training stops here, with its own sentence
            values = parameters(self.model.kept)
            self.encoder.take(dataclasses.replace(self.backbone, values=values))
            features = self.encoder.extract(self.pictures).mean(axis=1)
            self.last["rank"] = probes.effective_rank(features[:1000])
            if self.neighbours:
                self.last["neighbours"] = self.neighbours(features)
        logs.update(self.last)


def of(
    backbone: backbones.Backbone,
    pictures: hdf5.Images | np.ndarray,
    pairs: Pairs | None,
    precision: str,
    every: int,
) -> "FeatureProbe":
    """The probe of a run: on the captioned pictures, else on the first thousand."""
    how = (backbone, precision, every)
    if not pairs:
        return FeatureProbe(
            _resized(backbone.size, (pictures, range(min(1000, len(pictures))))), *how
        )
    dev = (pairs.dev_pictures, range(len(pairs.dev_pictures)))
    seen = _resized(backbone.size, (pictures, pairs.rows), dev)
    words = probes.frequent_words(pairs.train)
    train_words, dev_words = (probes.holds(own, words) for own in (pairs.train, pairs.dev))

    def neighbours(features: np.ndarray) -> float:
        train, dev = np.split(features, [len(train_words)])
        return probes.neighbours(train, dev, train_words, dev_words)

    return FeatureProbe(seen, *how, neighbours)


def _resized(
    size: int, *chosen: tuple[hdf5.Images | np.ndarray, Sequence[int] | np.ndarray]
) -> np.ndarray:
    """The chosen rows of some pictures, one behind the other: uint8 (n, size, size, 3)."""
    resized = np.empty((sum(len(rows) for _, rows in chosen), size, size, 3), np.uint8)
    read = (pictures[int(row)] for pictures, rows in chosen for row in rows)
    for place, pixels in zip(resized, read, strict=True):
        picture = Image.fromarray(pixels)
        place[...] = picture.resize((size, size), Image.Resampling.BILINEAR)
    return resized
