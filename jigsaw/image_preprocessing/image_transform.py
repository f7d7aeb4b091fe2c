"""Pictures → the nine tiles of a jigsaw puzzle: see `captioning.pretraining.tiles`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository

from captioning.pretraining.tiles import *  # noqa: F403  all its public names
