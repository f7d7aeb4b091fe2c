"""Features of a folder of images: skips what cannot be read, goes on where it was stopped."""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning import console, files, images
from captioning.errors import CaptioningError

if TYPE_CHECKING:  # the encoder is given: no need to load Keras for it
    from captioning.encoders import Encoder

PARTIAL = "features.partial"  # a folder of finished pieces, removed when all is done
_PIECE = 16  # batches a piece


def extract(
    encoder: "Encoder",
    paths: Sequence[Path],
    batch_size: int,
    workdir: Path,
    strict: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Features of every readable image.

    Finished pieces are kept in `workdir/features.partial`; an interrupted run with the same
    encoder goes on from them. The caller removes them by `forget` once the features are saved.

    Returns:
        features: image id → float32 (1, D), in the order of `paths`.
        skipped: file name → reason, of unreadable files and of files whose id was taken.

    Raises:
        CaptioningError: when no image could be read, or, with `strict`, at the first file that
            cannot be used.
    """
    unique, repeated = _by_id(paths)
    if strict and repeated:
        raise images.refusal(*next(iter(repeated.items())))
    skipped = {path.name: reason for path, reason in repeated.items()}
    pieces = _Pieces(workdir / PARTIAL, encoder.record)
    known = pieces.read()
    marks = {path: _fingerprint(path) for path in unique.values()}  # before they are read
    todo = [path for path, mark in marks.items() if mark not in known]
    if known:
        console.note(f"going on from {len(unique) - len(todo)} images already done")
    with console.Progress(len(todo), "features") as progress:
        for batch in images.batches(todo, encoder.size, batch_size, strict=strict):
            if batch.paths:
                known |= pieces.add(
                    [marks[path] for path in batch.paths], encoder.extract(batch.pixels, batch_size)
                )
            for path, reason in batch.unreadable.items():
                skipped[path.name] = reason
            progress.update(len(batch.paths) + len(batch.unreadable))
    pieces.flush()
    features = {key: known[marks[path]] for key, path in unique.items() if marks[path] in known}
    if not features:
        where = paths[0].parent if paths else "the folder"
        raise CaptioningError(f"expected images in {where}, found none that can be read")
    return features, skipped


def forget(workdir: Path) -> None:
    """Remove the finished pieces."""
    shutil.rmtree(workdir / PARTIAL, ignore_errors=True)


def _by_id(paths: Iterable[Path]) -> tuple[dict[str, Path], dict[Path, str]]:
    unique, repeated = {}, {}
    for path in paths:
        first = unique.setdefault(images.image_id(path), path)
        if first is not path:
            repeated[path] = f"has the id of {first.name}, which comes first"
    return unique, repeated


def _fingerprint(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path.name}:missing"
    return f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}"


class _Pieces:
    """Features on disk in pieces of a few batches: fingerprint → float32 (1, D)."""

    def __init__(self, folder: Path, record: dict):
        self.folder, self.record = folder, record
        self.waiting: list[tuple[list[str], np.ndarray]] = []
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
                known |= _rows(piece["files"].tolist(), piece["features"])
            self.count += 1
        return known

    def add(self, marks: list[str], features: np.ndarray) -> dict[str, np.ndarray]:
        self.waiting.append((marks, features))
        if len(self.waiting) == _PIECE:
            self.flush()
        return _rows(marks, features)

    def flush(self) -> None:
        if self.waiting:
            names = [name for group, _ in self.waiting for name in group]
            rows = np.concatenate([features for _, features in self.waiting])
            with files.atomic(self.folder / f"{self.count:06d}.npz") as temporary:
                np.savez(temporary, files=np.array(names), features=rows)
            self.count += 1
            self.waiting = []


def _rows(names: Iterable[str], features: np.ndarray) -> dict[str, np.ndarray]:
    return {name: features[i : i + 1] for i, name in enumerate(names)}
