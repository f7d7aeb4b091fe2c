"""Pictures of train that are in dev or test as well, under whatever name and size.

    python -m captioning.data.overlap ~/flickr8k ~/coco
    python -m captioning.data.overlap ~/flickr8k --workdir work

Compares the train pictures of all datasets given with the dev and test pictures of all of them.
Candidates are pairs whose difference hashes (brightness against the neighbour's at 9×8 pixels, 64
bits; Krawetz 2013) are nearly alike; they are the same if their pixels are. Prints a line a pair.

Files: of several datasets overlaps.json, by which scripts 2 to 4 and the pretraining go where they
are given the same ones: these train pictures are left out. Script 1 writes it then. The splits of a
single dataset stay as they were published, and no overlaps.json is written of it.
"""

import contextlib
import filecmp
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from captioning.data import dataset, images, splits
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, refusing

# Found with pictures of Flickr8k beside copies of them, squeezed to 128×128 and compressed: see
# docs/datasets.md.
FARTHEST = 10  # bits in which the hashes of one picture may differ
MOST = 12.0  # and its pixels, of 255, on average
_SIDE = 32  # of the pictures whose pixels are compared
_ROWS = 256  # hashes compared at a time with all of the other side


class Pair(NamedTuple):
    """A train picture that is in dev or test as well.

    Attributes:
        train, held_out: image ids.
        difference: of the pixels, of 255, on average; None where the files are equal.
    """

    train: str
    held_out: str
    difference: float | None

    def __str__(self) -> str:
        alike = "equal files" if self.difference is None else f"differ by {self.difference:.1f}"
        return f"{self.train}\t{self.held_out}\t{alike}"


def difference_hash(path: Path) -> np.uint64:
    """Whether each of 8×8 places is brighter than its neighbour on the left, a bit each.

    Raises:
        UnreadableImage: see `images.load_rgb`.
    """
    picture = images.load_rgb(path, at_least=4 * _SIDE).convert("L")
    gray = np.asarray(picture.resize((9, 8), Image.Resampling.BOX), np.int16)
    return np.packbits(np.diff(gray) > 0).view(np.uint64)[0]


def _pixels(path: Path) -> np.ndarray:
    picture = images.load_rgb(path, at_least=4 * _SIDE)
    return np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)


def difference(first: Path, second: Path) -> float | None:
    """Of the pixels of two pictures at 32×32, of 255, on average; None where the files are equal.

    Raises:
        UnreadableImage: see `images.load_rgb`.
    """
    if filecmp.cmp(first, second, shallow=False):
        return None
    return float(np.abs(_pixels(first) - _pixels(second)).mean())


def alike(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int]]:
    """Places of hashes, uint64 (n,) and (m,), that differ in at most `FARTHEST` bits."""
    for start in range(0, len(first), _ROWS):
        bits = np.bitwise_count(first[start : start + _ROWS, None] ^ second[None])
        for row, column in np.argwhere(bits <= FARTHEST):
            yield start + int(row), int(column)


def find(train: Mapping[str, Path], held_out: Mapping[str, Path]) -> list[Pair]:
    """The pairs of one picture, each train picture with the one it is most like.

    Files that are no pictures are passed over: the extraction of features tells of them.
    """
    hashes = _hashes([*train.values(), *held_out.values()])
    sides = [
        [(key, path, hashes[path]) for key, path in side.items() if path in hashes]
        for side in (train, held_out)
    ]
    codes = (np.array([code for _, _, code in side], np.uint64) for side in sides)
    best: dict[str, Pair] = {}
    for row, column in alike(*codes):
        (key, path, _), (other, other_path, _) = sides[0][row], sides[1][column]
        if key == other:  # the splits say so themselves
            continue
        pair = Pair(key, other, difference(path, other_path))
        if (pair.difference or 0) <= MOST:
            best[key] = min(best.get(key, pair), pair, key=lambda pair: pair.difference or 0)
    return list(best.values())


def _hashes(paths: Sequence[Path]) -> dict[Path, np.uint64]:
    def of(path: Path) -> np.uint64 | None:
        try:
            return difference_hash(path)
        except images.UnreadableImage:
            return None

    hashes = {}
    with console.Progress(len(paths), "comparing train with dev and test") as progress:
        for path, code in images.ahead(of, paths, min(8, os.cpu_count() or 1), 256):
            if code is not None:
                hashes[path] = code
            progress.update(1)
    return hashes


def compare(
    source: dataset.Dataset | dataset.Datasets, workdir: Path, split_seed: int = 0
) -> tuple[list[Pair], list[Path]]:
    """The pairs of the datasets' splits; those of several → `overlaps.json`, unless it has them.

    Args:
        workdir, split_seed: see `splits.find_splits`.

    Returns:
        the pairs, and the paths written, with the lists of splits that were drawn.
    """
    parts = splits.of_parts(source, workdir, split_seed)
    written = [path for part in parts for path in part.written]
    groups = source.image_ids.group(source.pictures)

    def pictures(*names: str) -> dict[str, Path]:
        keys = [
            source.key(number, own)
            for number, part in enumerate(parts)
            for name in names
            for own in part.ids[name]
        ]
        return {key: groups[key][0] for key in keys if key in groups}

    train, held_out = pictures("train"), pictures("dev", "test")
    path = workdir / splits.OVERLAPS
    several, digest = len(parts) > 1, _digest(source.names, train, held_out)
    with contextlib.suppress(CaptioningError), refusing(path, "pairs"):  # damaged: made again
        if several and path.exists():
            stored = files.read_json(path)
            if stored.get("compared_sha256") == digest:
                found = stored["left_out"].items()
                return [Pair(key, is_["is"], is_["difference"]) for key, is_ in found], written
    pairs = find(train, held_out)
    console.note(
        f"{len(pairs)} of {len(train)} train pictures are in dev or test too, under other names "
        f"(compared with {len(held_out)} pictures)"
    )
    if not several:
        return pairs, written
    record = {
        "datasets": source.names,
        "compared": {"train": len(train), "dev and test": len(held_out)},
        "compared_sha256": digest,
        "farthest_bits": FARTHEST,
        "most_difference": MOST,
        "left_out": {
            pair.train: {"is": pair.held_out, "difference": pair.difference} for pair in pairs
        },
    }
    return pairs, [*written, files.write_json(path, record)]


def _digest(names: Sequence[str], *sides: Mapping[str, Path]) -> str:
    rows = [[(key, path.name, path.stat().st_size) for key, path in s.items()] for s in sides]
    return hashlib.sha256(repr((FARTHEST, MOST, names, rows)).encode()).hexdigest()


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--workdir", type=Path, default=Path(), metavar="DIR", help="default: here")
    parser.add_argument("--split-seed", type=console.natural, default=0, metavar="N")
    args = parser.parse_args()
    pairs, written = compare(dataset.of(args.datasets), args.workdir, args.split_seed)
    for pair in pairs:
        console.result(str(pair))
    console.written(written)


if __name__ == "__main__":
    console.run(main)
