"""Batches of jigsaw puzzles for Keras, the same ones whatever the number of workers."""

import h5py
import keras
import numpy as np

from captioning.data import hdf5
from captioning.pretraining.puzzles import Puzzles
from captioning.pretraining.tiles import JigsawCreator
from captioning.runtime.shared_arrays import Fillers, Filling


class PuzzleBatches(keras.utils.PyDataset):
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
            permutations: int (P, 9); see `permutation_sets.load`.
            batch_size: puzzles a batch.
            seed: of order, labels and everything that `JigsawCreator` draws.
            epoch: where to start.
            gray: share of pictures shown without colour.
            fixed: make the same puzzles in the same order every epoch, for validation and tests.
            workers: processes that prepare the batches ahead; with 1 there is none, as Keras asks
                ahead of the training by itself. Pictures in memory are copied to each.
        """
        # Keras's own workers would carry batches over into the next epoch under MirroredStrategy.
        super().__init__(workers=1)
        if isinstance(images, h5py.Dataset):
            images = hdf5.Images(images.file.filename, images.name)
        creator = JigsawCreator(images.shape[1], gray)
        self.puzzles = Puzzles(images, np.asarray(permutations), batch_size, seed, creator)
        self.epoch, self.fixed = epoch, fixed
        self.processes = min(workers, len(self.puzzles))
        self._fillers: Fillers | None = None
        self._ahead: dict[tuple[int, int], Filling] = {}

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.puzzles)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index` of the epoch; the ones behind it are begun."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}, got {index}")
        epoch = 0 if self.fixed else self.epoch
        if self.processes <= 1:
            tiles = np.empty(self.puzzles.shape, np.float32)
            labels = self.puzzles.fill(tiles, epoch, index)
        else:
            tiles, labels = self._filled(epoch, index)
        return tiles[: len(labels)], labels

    def _filled(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._fillers is None:
            self._fillers = Fillers(
                self.puzzles.fill, self.processes, self.puzzles.shape, np.float32
            )
        window = range(index, min(index + self.processes + 2, len(self)))
        wanted = {(epoch, i): self._ahead.pop((epoch, i), None) for i in window}
        for skipped in self._ahead.values():
            skipped.result()  # its memory is free for another
        self._ahead = {key: has or self._fillers.submit(*key) for key, has in wanted.items()}
        return self._ahead.pop((epoch, index)).result()

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's puzzles."""
        self.epoch += 1
