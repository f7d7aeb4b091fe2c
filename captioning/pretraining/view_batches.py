"""Batches to pretrain on: pictures, the numbers that make views of them, and captions."""

from collections.abc import Sequence

import keras
import numpy as np

from captioning.data import hdf5
from captioning.data.tokenizer import Tokenizer
from captioning.pretraining.views import Augmentation


class ViewBatches(keras.utils.PyDataset):
    """Shuffled pictures with the numbers that make views of them on the accelerator.

    A batch is ({"pixels": uint8 (n, size, size, 3), "view0": {…}, …},), each view as
    `Augmentation.draw` gives it. All batches have one size, because the objectives compare
    the pictures of a batch; what is left over waits for another epoch's order. What a batch holds
    depends on `seed`, `epoch` and its index alone.
    """

    def __init__(
        self,
        images: np.ndarray | hdf5.Images,
        augmentation: Augmentation,
        view_count: int,
        batch_size: int,
        seed: int,
        rows: np.ndarray | None = None,
        fixed: bool = False,
    ):
        """
        Args:
            rows: int (N,), which of the images to use; None for all.
            fixed: the same batches every epoch, for validation; as large as `batch_size` at most,
                so that next to nothing is left out.
        """
        super().__init__()
        self.images, self.augmentation, self.view_count = images, augmentation, view_count
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows)
        count = -(-len(self.rows) // batch_size) if fixed else 1
        even = max(2, len(self.rows) // count)  # one picture has nothing to be told from
        self.batch_size = min(batch_size, even, len(self.rows))
        self.seed, self.fixed = seed, fixed
        self.epoch = 0

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.rows) // self.batch_size

    def __getitem__(self, index: int) -> tuple[dict]:
        epoch = 0 if self.fixed else self.epoch
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.rows))
        places = order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        batch = {"pixels": self.images[self.rows[places]]}
        for i in range(self.view_count):
            batch[f"view{i}"] = self.augmentation.draw(rng, len(places))
        return (batch | self.besides(places, rng),)

    def besides(self, places: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What belongs to the pictures `rows[places]` besides their pixels."""
        return {}

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order and views."""
        self.epoch += 1


class CaptionedViewBatches(ViewBatches):
    """Views of pictures with captions: one caption at random, and the words of all.

    A batch holds besides "caption": int32 (n, t), word ids padded on the right with 0; "words":
    float32 (n, V), shares that sum to 1 (to 0 where no caption has any of the words).
    """

    def __init__(
        self,
        *arguments,
        captions: Sequence[Sequence[str]],
        words: Sequence[str],
        tokenizer: Tokenizer,
        **more,
    ):
        """
        Args:
            captions: the cleaned captions of each of `rows`.
            words: V of them.
        """
        super().__init__(*arguments, **more)
        self.word_shares = word_shares(captions, words)
        encoded = [tokenizer.texts_to_sequences(group) for group in captions]
        longest = max(len(ids) for group in encoded for ids in group)
        self.captions = np.zeros((sum(map(len, encoded)), longest), np.int32)
        for place, ids in enumerate(ids for group in encoded for ids in group):
            self.captions[place, : len(ids)] = ids
        self.first = np.cumsum([0, *map(len, encoded)])  # captions of row i: first[i] … first[i+1]

    def besides(self, places, rng):
        counts = self.first[places + 1] - self.first[places]
        chosen = self.first[places] + rng.integers(counts)
        return {"caption": self.captions[chosen], "words": self.word_shares[places]}


def word_shares(captions: Sequence[Sequence[str]], words: Sequence[str]) -> np.ndarray:
    """How often each of `words` is among those said of each picture: float32 (n, len(words))."""
    index = {word: i for i, word in enumerate(words)}
    shares = np.zeros((len(captions), len(words)), np.float32)
    for row, group in zip(shares, captions, strict=True):
        for caption in group:
            for word in caption.split():
                if word in index:
                    row[index[word]] += 1
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
