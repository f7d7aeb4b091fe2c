"""Grids of features in HDF5: for each image one feature for each place of an encoder's map.

The file holds `features` float16 (N, k, D) in one piece, places row by row; `ids` (N,), UTF-8; and
the attribute `record`, JSON, which tells how they were made.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from captioning.data import hdf5
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError, printable, refusing

LARGEST = float(np.finfo(np.float16).max)  # 65,504
_FEATURES, _IDS, _RECORD = "features", "ids", "record"
_ADVICE = "make it again with 1_data_preprocessor.py --grid"
_BLOCK = 2**25  # bytes read at a time


def narrowed(grids: np.ndarray, names: Sequence[object]) -> np.ndarray:
    """Grids of images as float16, of the same shape.

    Args:
        grids: float32 (n, k, D).
        names: of the n images, for the sentence.

    Raises:
        CaptioningError: if a number is not finite, or would be infinite as float16.
    """
    largest = np.abs(grids).max(axis=(1, 2), initial=0)
    for name, value in zip(names, largest, strict=True):
        if not value <= LARGEST:  # NaN too
            raise CaptioningError(
                f"expected numbers of at most {LARGEST:,.0f} in the grid of {name}, which is kept "
                f"in 16 bits, found {value:,.0f}; leave --grid out, or use another encoder"
            )
    return grids.astype(np.float16)


def write(
    path: Path,
    ids: Sequence[str],
    shape: tuple[int, int],
    pieces: Iterable[tuple[np.ndarray, np.ndarray]],
    record: dict,
) -> Path:
    """Write a file of grids, whole or not at all; memory holds a piece at a time.

    Args:
        ids: of the N images.
        shape: (k, D) of a grid.
        pieces: rows int (n,) and their grids float16 (n, k, D), in any order; every row once.
        record: JSON-able; `sha256` of the numbers is added to it.
    """
    # Attributes of more than 64 kB, such as a long list of ids, need HDF5 1.8's form or later.
    with files.atomic(path) as temporary, h5py.File(temporary, "w", libver=("v110",) * 2) as file:
        features = file.create_dataset(_FEATURES, (len(ids), *shape), np.float16)
        written = np.zeros(len(ids), bool)
        for rows, grids in pieces:
            for row, grid in zip(rows, grids, strict=True):
                features[row] = grid
            written[rows] = True
        if not written.all():
            raise ValueError(f"grids of {np.count_nonzero(~written)} images are missing")
        names = [key.encode(errors="surrogateescape") for key in ids]
        # of one length: texts of any length could, in a file from elsewhere, all be one long text
        kind = h5py.string_dtype(length=max(map(len, names)))
        file.create_dataset(_IDS, data=np.array(names, kind))
        digest = hashlib.sha256()
        for start, stop in blocks(len(ids), features.dtype.itemsize * shape[0] * shape[1]):
            digest.update(features[start:stop])
        file.attrs[_RECORD] = json.dumps(record | {"sha256": digest.hexdigest()})
    return path


def blocks(count: int, size: int) -> Iterable[tuple[int, int]]:
    """Start and stop of consecutive rows, so many as memory holds easily.

    Args:
        count: of the rows.
        size: of one, in bytes.
    """
    step = max(1, _BLOCK // size)
    return ((start, min(start + step, count)) for start in range(0, count, step))


class Grid:
    """Grids of images, indexed like an array and read only where indexed.

    Each process opens the file itself, when it first reads.

    Attributes:
        path: of the file.
        ids: of the images, a row each.
        shape: (N, k, D).
        record: of how they were made.
    """

    def __init__(self, path: str | os.PathLike, ids: Sequence[str] | None = None):
        """
        Args:
            ids: of the images to take from the file, in their order; None: all.

        Raises:
            CaptioningError: if the file is missing, damaged, in use, or holds no grids.
            KeyError: if there is no grid of one of `ids`.
        """
        self.path = Path(path)
        self._start, shape, in_file, self.record = self._inspect()
        self._file_shape = shape
        row_of = {key: row for row, key in enumerate(in_file)}
        self.ids = list(in_file if ids is None else ids)
        self._rows = np.array([row_of[key] for key in self.ids], np.int64)
        self._members = frozenset(self.ids)
        self.shape = (len(self.ids), *shape[1:])
        self._opened: tuple[int, np.ndarray] | None = None

    def _inspect(self) -> tuple[int, tuple[int, int, int], list[str], dict]:
        """Where the numbers begin in the file, their shape, the ids and the record."""
        if not self.path.is_file():
            raise CaptioningError(
                f"expected the file {self.path}, found none; make it with python "
                "1_data_preprocessor.py --grid"
            )
        try:
            with refusing(self.path, "grids of features"), h5py.File(self.path, "r") as file:
                features, names = (_dataset(file, name) for name in (_FEATURES, _IDS))
                start = features.id.get_offset()  # None: in chunks, or nowhere
                if features.ndim != 3 or features.dtype != np.float16 or not features.size:
                    raise ValueError(f"{features.dtype} {features.shape} for float16 (N, k, D)")
                if start is None or names.id.get_offset() is None:
                    raise ValueError("its arrays do not lie in one piece")
                if start + features.nbytes > os.path.getsize(self.path):
                    raise ValueError("its numbers end early")
                if names.dtype.kind != "S" or names.shape != features.shape[:1]:
                    raise ValueError("it has no id for each image")
                ids = [name.decode(errors="surrogateescape") for name in names[:]]
                if len(set(ids)) < len(ids):
                    raise ValueError("two of its images have the same id")
                if file.attrs.get_id(_RECORD).shape != ():  # many texts, as long as one likes
                    raise ValueError("its record is no text")
                record = json.loads(file.attrs[_RECORD])
                if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
                    raise ValueError("its record describes no grids")
                return start, features.shape, ids, record
        except BlockingIOError:
            raise hdf5.in_use(self.path) from None
        except OSError as error:
            raise CaptioningError(
                f"{self.path} is not a whole HDF5 file ({printable(str(error))}); {_ADVICE}"
            ) from None

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._members

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key) -> np.ndarray:
        """Grids in the order asked for, float32 (…, k, D).

        Args:
            key: what indexes an array of N numbers: a slice, or rows in any order, repeated or not.

        Raises:
            CaptioningError: if a number is not finite.
        """
        grids = np.take(self._features, self._rows[key], axis=0).astype(np.float32)
        if not np.isfinite(grids).all():
            faulty = np.ravel(np.arange(len(self))[key])[
                ~np.isfinite(grids).all(axis=(-2, -1)).ravel()
            ]
            raise CaptioningError(
                f"{self.path}: expected finite numbers, found NaN or infinity in the grid of "
                f"{printable(self.ids[faulty[0]])}; {_ADVICE}"
            )
        return grids

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the ids and, by the record, of the numbers of the file."""
        return hashlib.sha256(json.dumps([self.record["sha256"], self.ids]).encode()).hexdigest()

    def select(self, ids: Iterable[str]) -> "Grid":
        """The grids of some images alone, in their order.

        Raises:
            KeyError: if there is no grid of one.
        """
        return Grid(self.path, list(ids))

    @property
    def _features(self) -> np.ndarray:
        if self._opened is None or self._opened[0] != os.getpid():
            features = np.memmap(self.path, np.float16, "r", self._start, self._file_shape)
            self._opened = os.getpid(), features.view(np.ndarray)
        return self._opened[1]

    def __reduce__(self):
        return Grid, (self.path, self.ids)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):  # absent, or in another file
        raise ValueError(f"it has no {name}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} does not lie in it")
    return dataset
