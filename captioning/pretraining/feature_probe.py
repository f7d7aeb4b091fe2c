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
from captioning.runtime import console
from captioning.scores import probes

TRAIN, DEV = 6000, 1000  # captioned pictures that are probed, at most: all of Flickr8k's


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
    """The probe of a run: on the captioned pictures, else on the first thousand.

    Of many captioned pictures a sample spread evenly over them, the same in every epoch: a look
    takes as long as its pictures are many, and thousands tell what all of them would.
    """
    how = (backbone, precision, every)
    if not pairs:
        return FeatureProbe(
            _resized(backbone.size, (pictures, range(min(1000, len(pictures))))), *how
        )
    train, dev = _spread(len(pairs.train), TRAIN), _spread(len(pairs.dev), DEV)
    if len(train) < len(pairs.train) or len(dev) < len(pairs.dev):
        console.note(
            f"rank and neighbours are those of {len(train):,} of the {len(pairs.train):,} "
            f"captioned pictures, and {len(dev):,} of the {len(pairs.dev):,} of dev"
        )
    seen = _resized(backbone.size, (pictures, pairs.rows[train]), (pairs.dev_pictures, dev))
    words = probes.frequent_words(pairs.train)
    train_words, dev_words = (
        probes.holds([captions[row] for row in rows], words)
        for captions, rows in ((pairs.train, train), (pairs.dev, dev))
    )

    def neighbours(features: np.ndarray) -> float:
        train, dev = np.split(features, [len(train_words)])
        return probes.neighbours(train, dev, train_words, dev_words)

    return FeatureProbe(seen, *how, neighbours)


def _spread(count: int, most: int) -> np.ndarray:
    """Rows of `count`, int (n,): all of them, or `most` at even distances."""
    chosen = min(count, most)
    return np.arange(chosen) * count // max(1, chosen)


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
