"""Karpathy's splits: dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json.

Each holds the captions and the splits of pictures that lie beside it as their authors offer them.
Karpathy and Fei-Fei, arXiv 1412.2306. COCO's pictures may be those of 2014, which the file names,
or of 2017, which are the same under other names.
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from captioning.data import images
from captioning.data.ids import among
from captioning.data.layouts import annotations, coco, flickr30k
from captioning.data.layouts.layout import (
    IMAGE_FOLDERS,
    TEXT_FOLDERS,
    Captions,
    Layout,
    first_existing,
    gather,
)
from captioning.runtime.errors import CaptioningError, printable, refusing

NAMES = ("dataset_flickr8k.json", "dataset_flickr30k.json", "dataset_coco.json")
# `restval` are the pictures of COCO's val that are neither dev nor test.
_SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


class _Picture(NamedTuple):
    name: str
    split: str
    captions: list[str]


class Karpathy(Layout):
    """Captions and splits in one JSON file."""

    @property
    def caption_file(self) -> Path | None:
        """The JSON file."""
        folders = (*TEXT_FOLDERS, "annotations")
        return first_existing(self.folder / sub / name for name in NAMES for sub in folders)

    @functools.cached_property
    def _coco(self) -> tuple[str, list[Path]]:
        """The year of COCO's pictures that are there, and their folders; 2014 is the file's own."""
        found = {year: coco.picture_folders(self.folder, year) for year in ("2014", "2017")}
        return next(((year, folders) for year, folders in found.items() if folders), ("2014", []))

    @property
    def image_folder(self) -> Path | None:
        """The folder of pictures, or the one that holds COCO's folders of them."""
        if self._coco[1]:
            return self._coco[1][0].parent
        names = (*flickr30k.IMAGE_FOLDERS, *IMAGE_FOLDERS)
        return first_existing(self.folder / name for name in names)

    def pictures(self) -> list[Path]:
        """Those of all splits."""
        if not self._coco[1]:
            return super().pictures()
        return [path for folder in self._coco[1] for path in images.list_files(folder)]

    @functools.cached_property
    def _read(self) -> list[_Picture]:
        path = self.caption_file
        fields = ("images", "filename", "cocoid", "split", "sentences", "raw")
        with refusing(path, "Karpathy's `images` with `filename`, `split` and `sentences`"):
            return [self._picture(entry) for entry in annotations.read(path, fields)["images"]]

    def _picture(self, entry: dict) -> _Picture:
        name, split = str(entry["filename"]), str(entry["split"])
        if "cocoid" in entry and self._coco[0] == "2017":
            name = f"{entry['cocoid']:012d}.jpg"
        if split not in _SPLITS:
            raise CaptioningError(
                f"{self.caption_file}: expected a split of {', '.join(_SPLITS)}, found "
                f"{printable(split)!r} for {printable(name)}; correct it"
            )
        captions = [annotations.one_line(sentence.get("raw")) for sentence in entry["sentences"]]
        return _Picture(name, _SPLITS[split], captions)

    def captions(self, pictures: Iterable[Path]) -> Captions:
        """The sentences as they were written (`raw`)."""
        rows = (
            (f"picture {number}", picture.name, caption)
            for number, picture in enumerate(self._read, start=1)
            for caption in picture.captions
        )
        return gather(self.caption_file, rows, pictures)

    def splits(self, known: Collection[str]) -> Mapping[str, list[str]]:
        """As the file has them; `restval` joins train."""
        ids = {split: [] for split in _SPLITS.values()}
        for picture in self._read:
            ids[picture.split].append(among(picture.name, known))
        return ids
