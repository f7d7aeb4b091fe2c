"""Which puzzles an epoch holds. Knows nothing of Keras, so that other processes load it fast."""

import dataclasses

import numpy as np

from captioning.data import hdf5
from captioning.pretraining.tiles import TILES, JigsawCreator


@dataclasses.dataclass
class Puzzles:
    """Shuffled pictures as puzzles, each with the number of the permutation that solves it.

    What a batch holds depends on `seed`, the epoch and its index alone.

    Attributes:
        images: uint8 (N, size, size, 3), in memory or in an HDF5 file.
        permutations: int (P, 9).
        batch_size: puzzles a batch; the last of an epoch may have fewer.
        seed: of order, labels and everything that the creator draws.
        creator: makes the puzzles.
    """

    images: np.ndarray | hdf5.Images
    permutations: np.ndarray
    batch_size: int
    seed: int
    creator: JigsawCreator

    def __post_init__(self):
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.images) // self.batch_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tiles of a whole batch."""
        side = self.creator.sizes.tile
        return self.batch_size, TILES, side, side, 3

    def fill(self, tiles: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Make a batch.

        Args:
            tiles: float32, of `shape`; as much of it as there are puzzles is overwritten.

        Returns:
            labels, int32 (n,): rows of `permutations`.
        """
        rows = self.order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        labels = rng.integers(len(self.permutations), size=len(rows), dtype=np.int32)
        self.creator(self.images[rows], self.permutations[labels], rng, tiles[: len(rows)])
        return labels

    def order(self, epoch: int) -> np.ndarray:
        """Which picture comes when, int (N,)."""
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 0])
            self._order = epoch, rng.permutation(len(self.images))
        return self._order[1]
