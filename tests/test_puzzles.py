"""What an epoch holds: each picture once, in an order of its own, under uniform labels."""

import types

import numpy as np
import pytest

from captioning.pretraining import permutation_sets
from captioning.pretraining.puzzles import Puzzles

COUNT, BATCH = 22, 4  # the last batch is smaller
PERMUTATIONS = permutation_sets.choose(7)
NUMBERED = np.zeros((COUNT, 50, 50, 3), np.uint8)
NUMBERED += np.arange(COUNT, dtype=np.uint8)[:, None, None, None]


@pytest.fixture
def given() -> types.SimpleNamespace:
    """What the creator was given: numbers of the pictures, and their permutations."""
    return types.SimpleNamespace(pictures=[], permutations=[])


@pytest.fixture
def puzzles(given) -> Puzzles:
    def creator(images, permutations, rng, out):
        assert len(out) == len(images) == len(permutations)
        given.pictures += images[:, 0, 0, 0].tolist()
        given.permutations += permutations.tolist()

    return Puzzles(NUMBERED, PERMUTATIONS, BATCH, 0, creator)


def labels_of(puzzles: Puzzles, epoch: int) -> np.ndarray:
    return np.concatenate(
        [puzzles.fill(np.empty(BATCH), epoch, index) for index in range(len(puzzles))]
    )


def test_each_picture_comes_once_an_epoch_with_the_permutation_of_its_label(puzzles, given):
    labels = labels_of(puzzles, epoch=0)
    assert sorted(given.pictures) == list(range(COUNT))
    assert given.permutations == PERMUTATIONS[labels].tolist()


def test_labels_are_uniform(puzzles):
    counts = np.zeros(7)
    for epoch in range(300):
        counts += np.bincount(labels_of(puzzles, epoch), minlength=7)
    expected = counts.sum() / 7
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 22.5  # 6 degrees of freedom: exceeded once in 1,000 seeds


def test_an_epoch_does_not_repeat_the_order_of_another(puzzles):
    assert len({tuple(puzzles.order(epoch)) for epoch in range(5)}) == 5


def test_the_reference_s_files_keep_their_names():
    from captioning.pretraining import puzzle_batches, tiles
    from jigsaw import puzzles as former
    from jigsaw.DataGenerator import DataGenerator
    from jigsaw.hamming_set import maximal_hamming
    from jigsaw.image_preprocessing import image_transform

    assert DataGenerator is puzzle_batches.PuzzleBatches
    assert former.Puzzles is Puzzles
    assert image_transform.JigsawCreator is tiles.JigsawCreator
    for name in ("choose", "load", "distances", "bounds", "affine_line", "number", "main"):
        assert callable(getattr(maximal_hamming, name))
