"""Which puzzles an epoch holds: see `captioning.pretraining.puzzles`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pretraining.puzzles import Puzzles

__all__ = ["Puzzles"]
