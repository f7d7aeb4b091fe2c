"""Flickr8k on disk: the published and the Kaggle layout, and the train/dev/test split lists."""

import contextlib
import dataclasses
import functools
import os
import random
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from captioning.data import caption_files, images, text
from captioning.data.ids import ImageIds, among
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError, printable

SPLITS = ("train", "dev", "test")

_IMAGE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
_TEXT_FOLDERS = ("Flickr8k_text", ".")
_CAPTION_FILES = ("Flickr8k.token.txt", "captions.txt")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A captioned image collection in the published or the Kaggle layout.

    Attributes:
        folder: the folder that holds images and captions.
    """

    folder: Path

    @property
    def image_folder(self) -> Path:
        """The folder of pictures; `CaptioningError` if there is none."""
        return _first_existing(
            (self.folder / name for name in _IMAGE_FOLDERS),
            f"expected a folder of images (Flicker8k_Dataset or Images) in {self.folder.resolve()}"
            ", found none; name the folder that holds it with --dataset",
        )

    @property
    def caption_file(self) -> Path:
        """`Flickr8k.token.txt` or Kaggle's `captions.txt`; `CaptioningError` if there is none."""
        return _first_existing(
            (self.folder / sub / name for sub in _TEXT_FOLDERS for name in _CAPTION_FILES),
            "expected Flickr8k_text/Flickr8k.token.txt or captions.txt in "
            f"{self.folder.resolve()}, found neither; name the folder that holds them with "
            "--dataset",
        )

    @functools.cached_property
    def pictures(self) -> list[Path]:
        """The files of the image folder; none where there is no such folder yet."""
        with contextlib.suppress(CaptioningError):
            return images.list_files(self.image_folder)
        return []

    @functools.cached_property
    def parsed(self) -> caption_files.Captions:
        """The caption file; `CaptioningError` if there is none, or no caption in it."""
        return caption_files.parse_captions(self.caption_file, self.pictures)

    @property
    def captions(self) -> Mapping[str, list[str]]:
        """Image id → raw captions, images and captions in file order."""
        return self.parsed.captions

    @functools.cached_property
    def image_ids(self) -> ImageIds:
        """The ids of the pictures, also of those that captions alone tell of."""
        with contextlib.suppress(CaptioningError):
            return self.parsed.image_ids
        return ImageIds(self.pictures)


def _first_existing(candidates: Iterable[Path], complaint: str) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise CaptioningError(complaint)


def split_file_name(split: str) -> str:
    """'dev' → 'Flickr_8k.devImages.txt', the published name."""
    return f"Flickr_8k.{split}Images.txt"


@dataclasses.dataclass(frozen=True)
class Splits:
    """Image ids of train, dev and test, and where they came from.

    Attributes:
        ids: split → image ids without repetition, in file order.
        folder: the folder of the three lists.
        made: True if the lists were drawn just now rather than found.
    """

    ids: dict[str, list[str]]
    folder: Path
    made: bool

    @property
    def written(self) -> list[Path]:
        """The lists, if they were drawn just now."""
        return [self.folder / split_file_name(split) for split in SPLITS] if self.made else []

    @property
    def overlaps(self) -> list[str]:
        """One sentence per pair of splits that share images."""
        sentences = []
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
            shared = set(self.ids[first]) & set(self.ids[second])
            if shared:
                sentences.append(
                    f"{len(shared)} images are in both {first} and {second} "
                    f"(such as {min(shared)}): scores on {second} will flatter"
                )
        return sentences


def splits(
    dataset: Dataset, workdir: str | os.PathLike, seed: int = 0, known: Collection[str] = ()
) -> Splits:
    """The published lists of the dataset, else the work folder's, else a seeded new draw.

    A new draw is 6000/1000/1000 of the images with captions, scaled to their number, and is
    written into the work folder under the published names, so that every script sees the same.
    A draw that was interrupted is completed.

    Args:
        known: the ids of the dataset, where they are known: see `read_split`.

    Raises:
        CaptioningError: when some lists of a folder exist and others do not, or too few images
            have captions.
    """
    workdir = Path(workdir)
    for folder in (*(dataset.folder / sub for sub in _TEXT_FOLDERS), workdir):
        paths = {split: folder / split_file_name(split) for split in SPLITS}
        found = {split: path for split, path in paths.items() if path.exists()}
        if len(found) == len(SPLITS):
            ids = {split: read_split(path, known) for split, path in found.items()}
            return Splits(ids, folder, False)
        if found and not _is_begun_draw(found, dataset, seed):
            missing = ", ".join(paths[split].name for split in SPLITS if split not in found)
            raise CaptioningError(
                f"expected three split lists in {folder}, found {len(found)} "
                f"(no {missing}); add the missing or remove the others"
            )
    ids = _draw(dataset, seed)
    for split, keys in ids.items():
        files.write_text(workdir / split_file_name(split), "".join(f"{k}\n" for k in keys))
    return Splits(ids, workdir, True)


def _draw(dataset: Dataset, seed: int) -> dict[str, list[str]]:
    captions = dataset.captions
    if len(captions) < len(SPLITS):
        raise CaptioningError(
            f"expected captions of at least 3 images in {dataset.caption_file}, to draw train, dev "
            f"and test from, found {len(captions)}; add captions or split lists"
        )
    return draw_splits(captions, seed)


def _is_begun_draw(begun: dict[str, Path], dataset: Dataset, seed: int) -> bool:
    """Whether the lists there are those of this very draw, which was interrupted."""
    ids = _draw(dataset, seed)
    return all(read_split(path, ids[split]) == ids[split] for split, path in begun.items())


def draw_splits(ids: Iterable[str], seed: int) -> dict[str, list[str]]:
    """Shuffle and cut 6 : 1 : 1; deterministic by seed and by the set of ids."""
    ids = sorted(ids)
    random.Random(seed).shuffle(ids)
    held_out = max(1, len(ids) // 8)
    return {
        "train": ids[: len(ids) - 2 * held_out],
        "dev": ids[len(ids) - 2 * held_out : len(ids) - held_out],
        "test": ids[len(ids) - held_out :],
    }


def read_split(path: str | os.PathLike, known: Collection[str] = ()) -> list[str]:
    """Image ids of a split list: one file name a line, with or without extension.

    Args:
        known: ids of the dataset; a line that is one of them as a whole name means that one.

    Raises:
        CaptioningError: for a missing, empty or non-UTF-8 file, or a line that is no image's name.
    """
    ids = {}
    for number, line in enumerate(text.read_text(path).split("\n"), start=1):
        if line := line.strip():
            ids[among(line, known)] = None
            if "" in ids:
                raise CaptioningError(
                    f"{path}, line {number}: expected an image's name, found {printable(line)!r}; "
                    "correct or remove the line"
                )
    if not ids:
        raise CaptioningError(f"{path}: expected one image name a line, found no line")
    return list(ids)
