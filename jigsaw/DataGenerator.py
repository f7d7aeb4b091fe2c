"""Batches of jigsaw puzzles for Keras: see `captioning.pretraining.puzzle_batches`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pretraining.puzzle_batches import PuzzleBatches as DataGenerator

__all__ = ["DataGenerator"]
