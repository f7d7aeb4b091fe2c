"""Batches of jigsaw puzzles for Keras, the same ones whatever the number of workers."""

import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning import hdf5
from jigsaw.image_preprocessing.image_transform import JigsawCreator


class DataGenerator(keras.utils.PyDataset):
    """Shuffled pictures as puzzles, each with the number of the permutation that solves it.

    A batch is a pair: tiles, float32 (n, 9, tile, tile, 3), in slot order and normalised; labels,
    int32 (n,), rows of `permutations`, for sparse categorical cross-entropy. The last batch of an
    epoch may be smaller.

    What a batch holds depends on `seed`, `epoch` and its index alone, so training can go on from
    any epoch. Call `fit(..., shuffle=False)`: Keras otherwise shuffles the order of the batches,
    with a random generator of its own. Keras also ends an epoch before it begins the first, so
    `fit` sees the puzzles of `epoch + 1` first; a run resumed at `initial_epoch=k` sees those
    that it would have seen, when its generator starts at `epoch=k`.

    Attributes:
        epoch: which epoch's puzzles to make; `on_epoch_end` adds 1.
    """

    def __init__(
        self,
        images: np.ndarray | hdf5.Images | h5py.Dataset,
        permutations: np.ndarray,
        batch_size: int = 32,
        *,
        seed: int = 0,
        epoch: int = 0,
        gray: float = 0.3,
        fixed: bool = False,
        workers: int = 1,
    ):
        """
        Args:
            images: uint8 (N, size, size, 3), in memory or in an HDF5 file.
            permutations: int (P, 9); see `maximal_hamming.load`.
            batch_size: puzzles a batch.
            seed: of order, labels and everything that `JigsawCreator` draws.
            epoch: where to start.
            gray: share of pictures shown without colour.
            fixed: make the same puzzles in the same order every epoch, for validation and tests.
            workers: threads that prepare the batches ahead.
        """
        # Keras's own workers would carry batches over into the next epoch under MirroredStrategy.
        super().__init__(workers=1)
        if isinstance(images, h5py.Dataset):
            images = hdf5.Images(images.file.filename, images.name)
        self.images, self.permutations = images, np.asarray(permutations)
        self.batch_size, self.seed, self.epoch, self.fixed = batch_size, seed, epoch, fixed
        self.creator = JigsawCreator(images.shape[1], gray)
        self.threads = workers
        self._process = None  # the pool's: a fork inherits no threads
        self._shuffled: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of the epoch; the ones behind it are begun."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}, got {index}")
        epoch = 0 if self.fixed else self.epoch
        if self.threads == 1:  # Keras asks ahead of the training by itself
            return self._batch(epoch, index)
        if self._process != os.getpid():
            self._process, self._pool = os.getpid(), ThreadPoolExecutor(self.threads)
            self._ahead: dict[tuple[int, int], Future] = {}
        window = range(index, min(index + self.threads + 1, len(self)))
        self._ahead = {
            key: self._ahead.get(key) or self._pool.submit(self._batch, *key)
            for key in ((epoch, i) for i in window)
        }
        return self._ahead[epoch, index].result()

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's puzzles."""
        self.epoch += 1

    def _batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        labels = rng.integers(len(self.permutations), size=len(rows), dtype=np.int32)
        return self.creator(self.images[rows], self.permutations[labels], rng), labels

    def _order(self, epoch: int) -> np.ndarray:
        """Which picture comes when, int (N,)."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 0])
            self._shuffled = epoch, rng.permutation(len(self.images))
        return self._shuffled[1]
