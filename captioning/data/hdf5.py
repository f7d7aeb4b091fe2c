"""Pictures in HDF5: written so that no interruption spoils them, read in any order."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from captioning.data import seen
from captioning.data.ids import ImageIds
from captioning.runtime.errors import CaptioningError, printable

SPLITS = ("train_img", "val_img", "test_img")
PAGE = 4096  # bytes; everything in the file starts at a multiple of it


def names_of(split: str) -> str:
    """'train_img' → 'train_names', the dataset of the file names beside the pictures."""
    return split.removesuffix("_img") + "_names"


class ImageWriter:
    """Rows poured into a plain file, which at the end becomes HDF5 without being copied.

    A writer killed in the middle of an HDF5 update leaves a file that cannot be read. So rows go,
    as plain bytes, to where HDF5 will want them, and `finish` writes HDF5's own structures around
    them. Until then the file is not HDF5 and cannot be taken for a whole one; a row can be
    written, and `finish` called, any number of times with the same result.

    Splits are filled one after the other, in the order of `SPLITS`.

    Attributes:
        rows: split → number of rows written.
    """

    def __init__(self, path: str | os.PathLike, size: int, rows: Mapping[str, int] | None = None):
        """Start a file of (size, size, 3) pictures, or go on behind the `rows` it holds."""
        self.path, self.size = Path(path), size
        self.rows = dict.fromkeys(SPLITS, 0) | dict(rows or {})
        self._file = open(self.path, "r+b" if rows else "w+b", buffering=0)  # noqa: SIM115

    @property
    def total(self) -> int:
        """Number of rows in all splits."""
        return sum(self.rows.values())

    def append(self, split: str, pixels: np.ndarray) -> None:
        """Add a picture, uint8 (size, size, 3), to `split`."""
        if pixels.shape != (self.size, self.size, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"expected uint8 {(self.size,) * 2 + (3,)}, got {pixels.shape}")
        if any(self.rows[later] for later in SPLITS[SPLITS.index(split) + 1 :]):
            raise ValueError(f"{split} has been closed: a later split holds rows")
        self._file.seek(self._starts()[split] + self.rows[split] * pixels.nbytes)
        rest = memoryview(np.ascontiguousarray(pixels)).cast("B")
        while rest:  # a disk that is nearly full takes a part first
            rest = rest[self._file.write(rest) :]
        self.rows[split] += 1

    def _starts(self) -> dict[str, int]:
        """Split → byte of its first row.

        HDF5 takes a page for the file and one for the root, and one for each dataset before it.
        """
        starts, end = {}, 2 * PAGE
        for split, rows in self.rows.items():
            starts[split] = end + PAGE
            end = starts[split] + -(-rows * self.size**2 * 3 // PAGE) * PAGE
        return starts

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fsync(self._file.fileno())

    def finish(self, texts: Mapping[str, Sequence[bytes]], attributes: Mapping[str, Any]) -> None:
        """Make the file HDF5: pictures as `SPLITS`, `attributes` on the root.

        Args:
            texts: dataset → UTF-8 strings; with `names_of(split)` one for each row.
        """
        with _create_around(self._file) as file:
            for split, start in self._starts().items():
                self._allocate(file, split, start)
            for name, strings in texts.items():
                data = np.array(strings, object)
                file.create_dataset(name, data=data, dtype=h5py.string_dtype())
            file.attrs.update(attributes)
        self.sync()

    def _allocate(self, file: h5py.File, split: str, start: int) -> None:
        shape = (self.rows[split], self.size, self.size, 3)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_obj_track_times(False)
        if shape[0]:
            properties.set_chunk((1, *shape[1:]))
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(shape)
        dataset = h5py.h5d.create(file.id, split.encode(), h5py.h5t.STD_U8LE, space, properties)
        for row in {0, shape[0] - 1} if shape[0] else ():
            expected = start + row * self.size**2 * 3
            found = dataset.get_chunk_info_by_coord((row, 0, 0, 0)).byte_offset
            if found != expected:
                raise AssertionError(f"row {row} of {split}: HDF5 {found}, written {expected}")

    def close(self) -> None:
        self._file.close()


def _create_around(file: io.RawIOBase) -> h5py.File:
    """Create HDF5 in a file without touching the bytes that HDF5 has no use for."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, _LooksEmpty(file))
    access.set_alignment(1, PAGE)
    # Chunks in one piece, without an index; HDF5 1.10 (2016) or later reads it.
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # the same pictures give the same bytes
    return h5py.File(h5py.h5f.create(b"images", h5py.h5f.ACC_TRUNC, creation, access))


class _LooksEmpty(io.RawIOBase):
    """A file that HDF5 takes for an empty one, so that it keeps what is in it."""

    def __init__(self, file):
        self._file, self._end = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + (self._end if whence == os.SEEK_END else 0))

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)

    def write(self, data) -> int:
        written = self._file.write(data)
        self._end = max(self._end, self._file.tell())
        return written

    def truncate(self, size: int) -> int:
        self._end = size
        return self._file.truncate(size)

    def flush(self) -> None:
        self._file.flush()


class Images:
    """The pictures of one split, indexed like an array and read only where indexed.

    Any thread or process may read: each process opens the file itself, when it first reads.

    Attributes:
        shape: (N, size, size, 3).
        dtype: uint8.
    """

    def __init__(self, path: str | os.PathLike, split: str = "train_img"):
        """
        Raises:
            CaptioningError: if `path` is not HDF5 or holds no such pictures.
        """
        self.path, self.split = os.fspath(path), split
        self._opened: tuple[int, np.ndarray | h5py.Dataset] | None = None
        self.shape, self.dtype = self._pictures.shape, self._pictures.dtype
        self._rows = np.arange(len(self))  # once: every batch is indexed by them

    @property
    def _pictures(self) -> np.ndarray | h5py.Dataset:
        if self._opened is None or self._opened[0] != os.getpid():
            pictures = self._open_dataset()
            start = _start_of_plain(pictures)
            if start is not None:  # to map the file takes a fifth of the time of asking HDF5
                pictures = np.memmap(self.path, np.uint8, "r", start, pictures.shape).view(
                    np.ndarray
                )
            self._opened = os.getpid(), pictures
        return self._opened[1]

    def _open_dataset(self) -> h5py.Dataset:
        file = _open(self.path)
        link = file.get(self.split, getlink=True)
        if not isinstance(link, h5py.HardLink):  # absent, or leads to another file
            raise CaptioningError(
                f"expected the pictures {self.split} in {self.path}, found "
                f"{', '.join(file) or 'nothing'}; make the file with jigsaw/to_hdf5.py"
            )
        dataset = file[self.split]
        shape = getattr(dataset, "shape", ())
        if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or dataset.dtype != np.uint8:
            raise CaptioningError(
                f"expected uint8 (N, size, size, 3) in {self.split} of {self.path}, found "
                f"{dataset}; make the file with jigsaw/to_hdf5.py"
            )
        if dataset.is_virtual or dataset.external:
            raise CaptioningError(
                f"{self.split} of {self.path} keeps its pictures in other files, which is refused; "
                "make the file with jigsaw/to_hdf5.py"
            )
        return dataset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        """Pictures in the order asked for, uint8 (…, size, size, 3)."""
        rows = self._rows[key]
        if isinstance(self._pictures, np.ndarray):
            return np.take(self._pictures, rows, axis=0)
        pixels = np.empty((rows.size, *self.shape[1:]), np.uint8)
        # Row by row: given a list, HDF5 takes 300 times as long.
        for place, row in enumerate(rows.flat):
            pixels[place] = self._pictures[int(row)]
        return pixels.reshape(*rows.shape, *self.shape[1:])

    def hashes(
        self, rows: Sequence[int] | None = None, image_ids: ImageIds | None = None
    ) -> np.ndarray:
        """Hashes of the pictures' ids, see `data.seen`; none where the file has no names.

        Args:
            image_ids: of the dataset; None for those that the names alone give.
        """
        try:
            names = self.names()
        except CaptioningError:
            return seen.NONE
        image_ids = image_ids or ImageIds(names)
        chosen = names if rows is None else [names[row] for row in rows]
        return seen.hashes(map(image_ids, chosen))

    def names(self) -> list[str]:
        """The pictures' file names, relative to the folder they were read from.

        Raises:
            CaptioningError: if the file does not hold a name for each.
        """
        with _open(self.path) as file:
            link = file.get(names_of(self.split), getlink=True)
            names = file[names_of(self.split)] if isinstance(link, h5py.HardLink) else None
            if not isinstance(names, h5py.Dataset) or names.shape != self.shape[:1]:
                raise CaptioningError(
                    f"expected a file name for each picture ({names_of(self.split)}) in "
                    f"{self.path}, found none; make the file with jigsaw/to_hdf5.py"
                )
            return [os.fsdecode(name) for name in names[:]]

    def __reduce__(self):
        return Images, (self.path, self.split)


def _start_of_plain(dataset: h5py.Dataset) -> int | None:
    """Byte where the pictures begin, if they lie in the file one behind the other, unpacked."""
    file = dataset.file
    packed = dataset.id.get_create_plist().get_nfilters()
    if packed or file.userblock_size or not len(dataset):
        return None
    size = int(np.prod(dataset.shape[1:]))
    start = dataset.id.get_offset()  # None if in chunks, or not written at all
    if dataset.chunks == (1, *dataset.shape[1:]):
        chunks: list[h5py.h5d.StoreInfo] = []
        dataset.id.chunk_iter(chunks.append)
        starts = {chunk.chunk_offset[0]: chunk.byte_offset for chunk in chunks}
        first = starts.get(0, 0)
        if starts == {row: first + row * size for row in range(len(dataset))}:
            start = first
    if start is None or start + len(dataset) * size > os.path.getsize(file.filename):
        return None
    return start


def rows(path: str | os.PathLike) -> dict[str, int]:
    """Split → number of pictures."""
    with _open(os.fspath(path)) as file:
        return {split: len(file[split]) for split in SPLITS}


def has(path: str | os.PathLike, split: str) -> bool:
    """Whether a file holds pictures of a split."""
    with _open(os.fspath(path)) as file:
        return split in file


def skipped(path: str | os.PathLike) -> dict[str, str]:
    """Name → reason, of the files that could not be used when `path` was made."""
    with _open(os.fspath(path)) as file:
        names, reasons = (file[f"skipped_{what}"][:] for what in ("names", "reasons"))
    pairs = zip(names, reasons, strict=True)
    return {os.fsdecode(name): why.decode(errors="surrogateescape") for name, why in pairs}


def in_use(path: str | os.PathLike) -> CaptioningError:
    """What to say of a file that HDF5's own lock keeps from us: BlockingIOError."""
    return CaptioningError(
        f"{path} is in use by a program that writes it; wait for its end, or stop it"
    )


def _open(path: str) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise CaptioningError(
            f"expected an HDF5 file at {path}, found none; make it with jigsaw/to_hdf5.py"
        ) from None
    except BlockingIOError:
        raise in_use(path) from None
    except OSError as error:
        raise CaptioningError(
            f"{path} is not a whole HDF5 file ({printable(str(error))}); make it again with "
            "jigsaw/to_hdf5.py"
        ) from None
