"""Features of a folder of images: skips what cannot be read, goes on where it was stopped."""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from captioning.data import grids, images
from captioning.data.ids import ImageIds, is_picture_name
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

if TYPE_CHECKING:  # the encoder is given: no need to load Keras for it
    from captioning.encoders.loading import Encoder

PARTIAL = "features.partial"  # a folder of finished pieces, removed when all is done
_PIECE = 16  # batches a piece, fewer where they are large
_LARGE = 2**25  # bytes of grids
_TAKEN = "has the id of {}, which comes first"


class Extracted(NamedTuple):
    """What was found in a folder of images.

    Attributes:
        features: image id → float32 (tokens, D), in the order of the paths.
        skipped: file name → reason, of unreadable files and of pictures whose id was taken.
        grids: rows of `features` int (n,) with their grids float16 (n, k, D), piece by piece, read
            from the disk; none if they were not asked for.
    """

    features: dict[str, np.ndarray]
    skipped: dict[str, str]
    grids: Iterator[tuple[np.ndarray, np.ndarray]]


def extract(
    encoder: "Encoder",
    paths: Sequence[Path],
    batch_size: int,
    workdir: Path,
    strict: bool,
    image_ids: ImageIds,
    grid: bool = False,
) -> Extracted:
    """Features of every readable image.

    An id belongs to the first of its files that can be read as a picture. Other files beside it
    that are none (`red.caption` beside `red.jpg`) are counted and otherwise ignored.

    Finished pieces are kept in `workdir/features.partial`; an interrupted run with the same
    encoder goes on from them. The caller removes them by `forget` once the features are saved.

    Args:
        image_ids: of the files' names.
        grid: keep their grids too, which memory never holds all at once.

    Raises:
        CaptioningError: when no image could be read, or, with `strict`, at the first file that
            cannot be used; for grids that there are none of, or that 16 bits do not hold.
    """
    if image_ids.notice:
        console.note_once(image_ids.notice)
    waiting = image_ids.group(paths)
    if strict:
        for first, *others in waiting.values():
            if taken := [path for path in others if is_picture_name(path)]:
                raise images.refusal(taken[0], _TAKEN.format(first.name))
    record = encoder.grid_record if grid else encoder.record
    pieces = _Pieces(workdir / PARTIAL, record, grid)
    known = pieces.read()
    chosen: dict[str, tuple[Path, str]] = {}  # id → its picture, and the mark of its features
    unreadable: dict[Path, str] = {}
    while waiting:
        firsts = {files_of[0]: key for key, files_of in waiting.items()}
        marks = {path: _fingerprint(path) for path in firsts}  # before they are read
        todo = [path for path, mark in marks.items() if mark not in known]
        if known and not chosen and len(todo) < len(firsts):
            console.note(f"going on from {len(firsts) - len(todo)} images already done")
        with console.Progress(len(todo), "features") as progress:
            for batch in images.batches(todo, encoder.size, batch_size, strict=strict):
                if batch.paths and grid:
                    made, places = encoder.extract_both(batch.pixels, batch_size)
                    places = grids.narrowed(places, batch.paths)
                elif batch.paths:
                    made, places = encoder.extract(batch.pixels, batch_size), None
                if batch.paths:
                    known |= pieces.add([marks[path] for path in batch.paths], made, places)
                unreadable |= batch.unreadable
                progress.update(len(batch.paths) + len(batch.unreadable))
        found = {key: path for path, key in firsts.items() if marks[path] in known}
        chosen |= {key: (path, marks[path]) for key, path in found.items()}
        waiting = {
            key: files_of[1:]
            for key, files_of in waiting.items()
            if key not in found and len(files_of) > 1
        }
    pieces.flush()
    if not chosen:
        where = paths[0].parent if paths else "the folder"
        raise CaptioningError(f"expected images in {where}, found none that can be read")
    skipped = _skipped(paths, image_ids, chosen, unreadable)
    if strict and skipped:
        raise images.refusal(*next(iter(skipped.items())))
    order = dict.fromkeys(map(image_ids, paths))
    found = {key: chosen[key][1] for key in order if key in chosen}
    return Extracted(
        {key: known[mark] for key, mark in found.items()},
        {path.name: reason for path, reason in skipped.items()},
        pieces.grids(list(found.values())) if grid else iter(()),
    )


def _skipped(
    paths: Sequence[Path],
    image_ids: ImageIds,
    chosen: Mapping[str, tuple[Path, str]],
    unreadable: Mapping[Path, str],
) -> dict[Path, str]:
    """The pictures without features of their own, and why; files beside a picture are counted."""
    skipped, beside = {}, []
    for path in paths:
        taken, _ = chosen.get(image_ids(path), (None, None))
        if taken == path:
            continue
        if taken and not is_picture_name(path) and not images.is_picture(path):
            beside.append(path.name)
        else:
            skipped[path] = unreadable.get(path) or _TAKEN.format(taken.name)
    if beside:
        more = ", …" if len(beside) > 1 else ""
        console.note(
            f"{len(beside)} files that lie beside pictures of the same name are no pictures "
            f"({beside[0]}{more})"
        )
    return skipped


def forget(workdir: Path) -> None:
    """Remove the finished pieces."""
    shutil.rmtree(workdir / PARTIAL, ignore_errors=True)


def _fingerprint(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path}:missing"
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


class _Pieces:
    """Features on disk in pieces of a few batches: fingerprint → float32 (tokens, D).

    Grids lie in the same files and stay there.
    """

    def __init__(self, folder: Path, record: dict, grid: bool):
        self.folder, self.record, self.grid = folder, record, grid
        self.waiting: list[dict[str, np.ndarray]] = []
        self.places: dict[str, tuple[Path, int]] = {}  # fingerprint → file of its grid, and row
        self.count = 0

    def read(self) -> dict[str, np.ndarray]:
        settings = self.folder / "encoder.json"
        if settings.exists() and files.read_json(settings) != json.loads(json.dumps(self.record)):
            shutil.rmtree(self.folder)
        files.write_json(settings, self.record)
        known = {}
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            damaged = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile)
            with contextlib.suppress(*damaged), np.load(path, allow_pickle=False) as piece:
                names, features = piece["files"].tolist(), piece["features"]
                if self.grid:
                    _ = piece["grids"]  # whole, or the piece is done again
                    self._place(names, path)
                known |= _rows(names, features)
            self.count += 1
        return known

    def add(
        self, marks: list[str], features: np.ndarray, places: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        made = {"files": np.array(marks), "features": features}
        self.waiting.append(made if places is None else made | {"grids": places})
        large = places is not None and len(self.waiting) * places.nbytes >= _LARGE
        if len(self.waiting) == _PIECE or large:
            self.flush()
        return _rows(marks, features)

    def flush(self) -> None:
        if self.waiting:
            piece = {
                name: np.concatenate([made[name] for made in self.waiting])
                for name in self.waiting[0]
            }
            path = self.folder / f"{self.count:06d}.npz"
            with files.atomic(path) as temporary:
                np.savez(temporary, **piece)
            if self.grid:
                self._place(piece["files"].tolist(), path)
            self.count += 1
            self.waiting = []

    def _place(self, marks: Sequence[str], path: Path) -> None:
        self.places |= {mark: (path, row) for row, mark in enumerate(marks)}

    def grids(self, marks: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices into `marks` with their grids, piece by piece."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for index, mark in enumerate(marks):
            path, row = self.places[mark]
            wanted.setdefault(path, []).append((index, row))
        for path, pairs in wanted.items():
            indices, rows = np.transpose(pairs)
            with np.load(path, allow_pickle=False) as piece:
                yield indices, piece["grids"][rows]


def _rows(names: Iterable[str], features: np.ndarray) -> dict[str, np.ndarray]:
    if features.ndim == 2:  # of a piece that a former version left: one token, without its axis
        features = features[:, None]
    return dict(zip(names, features, strict=True))
