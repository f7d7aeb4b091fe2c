"""The socket of layouts: what a dataset's folder is asked, and captions as every layout gives them.

A layout is a subclass of `Layout`. It says by `recognises` whether a folder is laid out so, where
pictures and captions are, and overrides what else differs: `captions` need not come from a table,
`pictures` not from one folder, and splits may stand in the file of captions (`splits`).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from captioning.data import images
from captioning.data.ids import ImageIds, file_name
from captioning.runtime.errors import printable

# Looked through in this order, whatever the captions' layout: any mixture will do.
IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
TEXT_FOLDERS = ("Flickr8k_text", ".")

# Which of an image's captions: name.jpg#0, and in one place of Flickr8k name.jpg.1#0.
NUMBER = re.compile(r"(\.\d+)?#\d+$")


class Captions(NamedTuple):
    """The captions of a dataset.

    Attributes:
        captions: image id → raw captions, images and captions in file order.
        complaints: one sentence per entry that could not be used.
        image_ids: of the names beside the captions and of the dataset's pictures.
    """

    captions: Mapping[str, list[str]]
    complaints: list[str]
    image_ids: ImageIds


class Layout:
    """How a dataset lies in `folder`: as it is, one without captions.

    Attributes:
        folder: the folder that holds pictures and captions.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether the folder holds captions in this layout; cheap, and without a complaint."""
        return cls(folder).caption_file is not None

    @property
    def image_folder(self) -> Path | None:
        """The folder of pictures, or the one that holds all folders of them; None without."""
        return first_existing(self.folder / name for name in IMAGE_FOLDERS)

    def pictures(self) -> list[Path]:
        """The files of the pictures; none where there is no folder of them yet."""
        return images.list_files(self.image_folder) if self.image_folder else []

    @property
    def caption_file(self) -> Path | None:
        """The file that captions come from, or the folder where each has its own; None without."""
        return None

    def captions(self, pictures: Iterable[Path]) -> Captions:
        """The captions; `gather` makes them of names and captions.

        Args:
            pictures: the dataset's, whose names decide about ids: see `ids.ImageIds`.

        Raises:
            CaptioningError: when they cannot be read.
        """
        raise NotImplementedError

    @property
    def list_folders(self) -> list[Path]:
        """Folders where three lists `Flickr_8k.trainImages.txt`, … may be, the first ones first."""
        return [self.folder / name for name in TEXT_FOLDERS]

    def splits(self, known: Collection[str]) -> Mapping[str, list[str]] | None:
        """Train, dev and test → image ids, where `caption_file` holds the splits; else None.

        Args:
            known: the ids of the dataset, where they are known: see `ids.among`.
        """
        return None


def first_existing(paths: Iterable[Path]) -> Path | None:
    """The first of several paths that is there."""
    return next((path for path in paths if path.exists()), None)


def _is_text(key: str) -> bool:
    """Whether it can be written as UTF-8, which a name of other bytes cannot."""
    return key.isascii() or key.encode("utf-8", "ignore").decode() == key


def gather(
    source: object, rows: Iterable[tuple[str, str, str]], pictures: Iterable[str | Path] = ()
) -> Captions:
    """Captions by image id, with a complaint about every row that lacks a name or a caption.

    Args:
        source: the file, for complaints.
        rows: where it stands (`line 3`), the picture's name, perhaps with the caption's number
            (`name.jpg#0`), and the caption.
        pictures: the dataset's, whose names decide about ids: see `ids.ImageIds`.
    """
    rows = list(rows)
    image_ids = ImageIds([*pictures, *(NUMBER.sub("", label) for _, label, _ in rows)])
    captions, complaints = {}, []
    names, labels = {}, {}  # image id → file name, `name.jpg#0` → place: where first seen

    def complain(sentence: str) -> None:
        complaints.append(f"{source}, {place}: {sentence}")

    for place, label, caption in rows:
        name = NUMBER.sub("", label)
        key = image_ids(name)
        if not key or not caption or not _is_text(key):
            complain("expected an image name and a caption; ignored")
            continue
        captions.setdefault(key, []).append(caption)
        if file_name(names.setdefault(key, name)) != file_name(name):
            first, shown = printable(names[key]), printable(name)
            complain(f"{shown!r} has the id of {first!r}, whose captions are added to")
        if label != name and labels.setdefault(label, place) != place:
            complain(f"{printable(label)!r} stands on {labels[label]} already; both are kept")
    return Captions(captions, complaints, image_ids)
