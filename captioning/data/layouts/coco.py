"""COCO as its authors offer it: annotations/captions_train2017.json beside train2017/, val alike.

Those of 2014 too. Of the two years, that is taken whose pictures are there. Pictures and
annotations may also lie one folder deeper, in images/. COCO publishes no captions of its test
pictures: train is train, val is dev, and there is no test.
https://cocodataset.org/#format-data
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from captioning.data import images
from captioning.data.ids import among
from captioning.data.layouts import annotations
from captioning.data.layouts.layout import Captions, Layout, first_existing, gather
from captioning.runtime.errors import refusing

YEARS = ("2017", "2014")
_PARTS = {"train": "train", "dev": "val"}  # split → COCO's word for it
_ROOTS = (".", "images", "Images")  # of the folders train2017, …


def picture_folders(folder: Path, year: str) -> list[Path]:
    """Those of train2017/ and val2017/ that are there."""
    places = ([folder / root / f"{part}{year}" for root in _ROOTS] for part in _PARTS.values())
    return [found for paths in places if (found := first_existing(paths))]


class _File(NamedTuple):
    """What a file of captions holds.

    Attributes:
        names: of its pictures, in file order.
        rows: for `layout.gather`.
    """

    names: list[str]
    rows: list[tuple[str, str, str]]


class Coco(Layout):
    """Captions in two JSON files, which are the splits."""

    @functools.cached_property
    def year(self) -> str | None:
        """The year whose captions are read; None where there are none."""
        years = [year for year in YEARS if self._files(year)]
        pictured = [year for year in years if picture_folders(self.folder, year)]
        return next(iter(pictured or years), None)

    def _files(self, year: str) -> dict[str, Path]:
        """Split → the file of its captions."""
        names = {split: f"captions_{part}{year}.json" for split, part in _PARTS.items()}
        paths = {split: self.folder / "annotations" / name for split, name in names.items()}
        return {split: path for split, path in paths.items() if path.is_file()}

    @property
    def caption_file(self) -> Path | None:
        """The folder of the two files."""
        return self.folder / "annotations" if self.year else None

    @property
    def image_folder(self) -> Path | None:
        """The folder that holds train2017/ and val2017/."""
        folders = picture_folders(self.folder, self.year)
        return folders[0].parent if folders else None

    def pictures(self) -> list[Path]:
        """Those of train and val; pictures of test2017/ and unlabeled2017/ have no captions."""
        folders = picture_folders(self.folder, self.year)
        return [path for folder in folders for path in images.list_files(folder)]

    @functools.cached_property
    def _read(self) -> dict[str, _File]:
        return {split: _read(path) for split, path in self._files(self.year).items()}

    def captions(self, pictures: Iterable[Path]) -> Captions:
        """The captions of both files."""
        rows = [row for file in self._read.values() for row in file.rows]
        found = gather(self.caption_file, rows, pictures)
        if len(years := [year for year in YEARS if self._files(year)]) > 1:
            found.complaints.append(
                f"{self.caption_file} holds captions of {' and '.join(years)}: those of "
                f"{self.year} are taken"
            )
        return found

    def splits(self, known: Collection[str]) -> Mapping[str, list[str]] | None:
        """The pictures of each file; None where there is only one, to draw from."""
        if len(self._files(self.year)) < len(_PARTS):
            return None
        return {
            split: [among(name, known) for name in file.names] for split, file in self._read.items()
        }


def _read(path: Path) -> _File:
    with refusing(path, "COCO's `images` and their `annotations`"):
        stored = annotations.read(
            path, ("images", "annotations", "id", "file_name", "image_id", "caption")
        )
        names = {entry["id"]: str(entry["file_name"]) for entry in stored["images"]}
        rows = [
            (
                f"{path.name}, annotation {number}",
                names.get(entry["image_id"], ""),
                annotations.one_line(entry.get("caption")),
            )
            for number, entry in enumerate(stored["annotations"], start=1)
        ]
    return _File(list(names.values()), rows)
