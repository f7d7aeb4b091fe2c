"""Image ids: the key that ties a picture, its features and its captions together.

An id is the picture's file name up to the first dot, as the reference has it. Where that is the
same for several pictures (`walk.0001.jpg`, `walk.0002.jpg`), theirs are the whole names without
the suffix.
"""

import collections
import os
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

# Suffixes of pictures, in lower case. Files without one may be pictures too, which
# `images.load_rgb` tells by their bytes, but their names never make an id ambiguous.
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".ppm", ".pgm", ".tga", ".ico"),
}


def file_name(path: str | os.PathLike) -> str:
    """The last part of a path of any system, NFC, with `_` for white space.

    `Images\\\\x.jpg` is `x.jpg`, also where a Windows archive was unpacked elsewhere; a name that
    macOS wrote in decomposed letters equals the one in a caption file; an id is one word of
    `descriptions.txt`.
    """
    name = os.fspath(path).replace("\\", "/").rpartition("/")[2]
    return "_".join(unicodedata.normalize("NFC", name).split())


def image_id(path: str | os.PathLike) -> str:
    """File name up to the first dot, as the reference keys its features and captions."""
    return file_name(path).split(".")[0]


def is_picture_name(path: str | os.PathLike) -> bool:
    """Whether the name ends in the suffix of a picture."""
    return os.path.splitext(file_name(path))[1].lower() in SUFFIXES


def stem(path: str | os.PathLike) -> str:
    """File name without the suffix of a picture: 'walk.0001.jpg' → 'walk.0001'."""
    name = file_name(path)
    return os.path.splitext(name)[0] if is_picture_name(name) else name


class ImageIds:
    """The id of each picture of a dataset, from the names of all of them.

    Attributes:
        ambiguous: what several pictures have before the first dot → their stems, sorted.
    """

    def __init__(self, names: Iterable[str | os.PathLike]):
        stems = collections.defaultdict(set)
        for name in filter(is_picture_name, names):
            stems[image_id(name)].add(stem(name))
        self.ambiguous = {key: sorted(group) for key, group in stems.items() if len(group) > 1}

    def __call__(self, name: str | os.PathLike) -> str:
        """The id of a picture by its name."""
        short, whole = image_id(name), stem(name)
        return whole if whole in self.ambiguous.get(short, ()) else short

    def group(self, paths: Iterable[Path]) -> dict[str, list[Path]]:
        """Id → its files in their order, but those named like pictures before others."""
        groups = collections.defaultdict(list)
        for path in sorted(paths, key=lambda path: not is_picture_name(path)):  # stable
            groups[self(path)].append(path)
        return groups

    @property
    def notice(self) -> str | None:
        """One sentence on ids that are whole names, if there are any."""
        if not self.ambiguous:
            return None
        count = sum(map(len, self.ambiguous.values()))
        examples = ", ".join(next(iter(self.ambiguous.values()))[:2])
        return (
            f"{count} pictures share what stands before the first dot of their names: their ids "
            f"are the whole names without the suffix ({examples}, …)"
        )


def among(name: str, known: Collection[str]) -> str:
    """The id that a line of a split list means, where the ids of the dataset are `known`."""
    whole = stem(name)
    return whole if whole in known else image_id(name)
