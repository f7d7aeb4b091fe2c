"""Which images an encoder has been trained on, so that none of them judges a captioner.

Kept as a hash for each image id, 8 bytes: an encoder's file need not tell the names.
"""

import base64
import hashlib
from collections.abc import Iterable

import numpy as np

NONE = np.empty(0, np.uint64)  # of an encoder that does not tell


def hashes(ids: Iterable[str]) -> np.ndarray:
    """uint64 (n,), sorted: the first 8 bytes of the SHA-256 of each id."""
    digests = (hashlib.sha256(key.encode()).digest()[:8] for key in set(ids))
    return np.sort(np.frombuffer(b"".join(digests), "<u8").astype(np.uint64))


def among(ids: Iterable[str], seen: np.ndarray) -> list[str]:
    """Those of `ids` whose hashes are in `seen`, in their order."""
    if not len(seen):
        return []
    ids = list(ids)
    known = set(seen.tolist())
    return [key for key in ids if int(hashes([key])[0]) in known]


def union(*parts: np.ndarray) -> np.ndarray:
    """All hashes of several arrays, sorted, each once."""
    return np.unique(np.concatenate(parts))


def to_text(seen: np.ndarray) -> str:
    """For a JSON record: base64 of little-endian bytes."""
    return base64.b64encode(seen.astype("<u8").tobytes()).decode()


def from_text(text: str) -> np.ndarray:
    """The reverse of `to_text`; ValueError for anything else."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
