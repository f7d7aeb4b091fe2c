"""Batches to pretrain on: pictures, the numbers that make views of them, and captions."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from captioning.data import hdf5
from captioning.data.tokenizer import Tokenizer
from captioning.pretraining.views import Augmentation


class ViewBatches(keras.utils.PyDataset):
    """Pictures in random order, and random numbers from which the accelerator makes their views.

    A batch is ({"pixels": uint8 (n, size, size, 3), "view0": {…}, …},), each view as
    `Augmentation.draw` gives it. All batches have one size, because the objectives compare
    the pictures of a batch; what is left over waits for another epoch's order. What a batch holds
    depends on `seed`, `epoch` and its index alone.
    """

    def __init__(
        self,
        images: np.ndarray | hdf5.Images,
        augmentations: Sequence[Augmentation],
        batch_size: int,
        seed: int,
        rows: np.ndarray | None = None,
        fixed: bool = False,
    ):
        """
        Args:
            augmentations: how each view of a picture is made.
            rows: int (N,), which of the images to use; None for all.
            fixed: the same batches every epoch, for validation; as large as `batch_size` at most,
                so that next to nothing is left out.
        """
        super().__init__()
        self.images, self.augmentations = images, augmentations
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows)
        count = -(-len(self.rows) // batch_size) if fixed else 1
        even = max(2, len(self.rows) // count)  # one picture has nothing to be told from
        self.batch_size = min(batch_size, even, len(self.rows))
        self.seed, self.fixed = seed, fixed
        self.epoch = 0
        self._drawn: tuple[int, np.ndarray] | None = None  # an epoch and its order

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.rows) // self.batch_size

    def __getitem__(self, index: int) -> tuple[dict]:
        epoch = 0 if self.fixed else self.epoch
        places = self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        batch = {"pixels": self.images[self.rows[places]]}
        for i, augmentation in enumerate(self.augmentations):
            batch[f"view{i}"] = augmentation.draw(rng, len(places))
        return (batch | self.besides(places, rng),)

    def _order(self, epoch: int) -> np.ndarray:
        """All places, drawn once an epoch: to draw them for every batch is quadratic."""
        drawn = self._drawn
        if drawn is None or drawn[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 0])
            self._drawn = drawn = epoch, rng.permutation(len(self.rows))
        return drawn[1]

    def besides(self, places: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What belongs to the pictures `rows[places]` besides their pixels."""
        return {}

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order and views."""
        self.epoch += 1


class CaptionedViewBatches(ViewBatches):
    """Views of pictures with captions: one at random, and what a method makes of all.

    A batch holds besides "caption": int32 (n, t), word ids padded on the right with 0; and the
    pictures' rows of each of the `targets`.
    """

    def __init__(
        self,
        *arguments,
        captions: Sequence[Sequence[str]],
        tokenizer: Tokenizer,
        targets: Mapping[str, np.ndarray],
        **more,
    ):
        """
        Args:
            captions: the cleaned captions of each of `rows`.
            targets: name → array of a row for each of `rows`.
        """
        super().__init__(*arguments, **more)
        self.targets = targets
        encoded = [tokenizer.texts_to_sequences(group) for group in captions]
        longest = max(len(ids) for group in encoded for ids in group)
        self.captions = np.zeros((sum(map(len, encoded)), longest), np.int32)
        for place, ids in enumerate(ids for group in encoded for ids in group):
            self.captions[place, : len(ids)] = ids
        self.first = np.cumsum([0, *map(len, encoded)])  # captions of row i: first[i] … first[i+1]

    def besides(self, places, rng):
        counts = self.first[places + 1] - self.first[places]
        chosen = self.first[places] + rng.integers(counts)
        targets = {name: rows[places] for name, rows in self.targets.items()}
        return {"caption": self.captions[chosen]} | targets
