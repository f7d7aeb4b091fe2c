"""A dataset's folder, asked by way of the layout that recognises it."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from captioning.data.ids import ImageIds, file_name
from captioning.data.layouts.layout import Captions, Layout
from captioning.data.layouts.registry import LAYOUTS
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, few


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A captioned image collection in any of `layouts.registry.LAYOUTS`.

    Attributes:
        folder: the folder that holds images and captions.
    """

    folder: Path

    @property
    def parts(self) -> Sequence["Dataset"]:
        """The datasets that this is, see `Datasets`: itself."""
        return (self,)

    @property
    def names(self) -> list[str]:
        """Of `parts`: the folder's name."""
        return [file_name(self.folder.resolve()) or "dataset"]

    def key(self, number: int, own: str) -> str:
        """The id of a picture of `parts`: its own, see `Datasets.key`."""
        return own

    @functools.cached_property
    def layouts(self) -> dict[str, Layout]:
        """The layouts that recognise the folder, by name; their order is that of the registry."""
        kinds = LAYOUTS.items()
        return {name: kind(self.folder) for name, kind in kinds if kind.recognises(self.folder)}

    @functools.cached_property
    def layout(self) -> Layout:
        """The layout of the folder, also of one without captions."""
        return next(iter(self.layouts.values()), Layout(self.folder))

    @property
    def image_folder(self) -> Path:
        """The folder of pictures; `CaptioningError` if there is none."""
        if found := self.layout.image_folder:
            return found
        raise CaptioningError(
            f"expected a folder of images (Flicker8k_Dataset, Images, train2017, …) in "
            f"{self.folder.resolve()}, found none; name the folder that holds it with --dataset"
        )

    @property
    def caption_file(self) -> Path:
        """`Flickr8k.token.txt`, Kaggle's `captions.txt`, …; `CaptioningError` if there is none."""
        if found := self.layout.caption_file:
            return found
        raise CaptioningError(
            f"expected {', or '.join(map(LAYOUTS.description, LAYOUTS))} in "
            f"{self.folder.resolve()}, found none; name the folder that holds captions with "
            "--dataset"
        )

    def list_pictures(self) -> list[Path]:
        """The files of the pictures; `CaptioningError` if there is no folder of them."""
        _ = self.image_folder
        return self.layout.pictures()

    @functools.cached_property
    def pictures(self) -> list[Path]:
        """The same, but none where there is no folder of them yet."""
        with contextlib.suppress(CaptioningError):
            return self.list_pictures()
        return []

    @functools.cached_property
    def parsed(self) -> Captions:
        """The captions; `CaptioningError` if there are none.

        Says where they come from, and what else was there.
        """
        path = self.caption_file
        (name, layout), *others = self.layouts.items()
        left = " and ".join(f"{other.caption_file} ({key})" for key, other in others)
        console.note(
            f"captions: of {path} (layout {name})"
            + (f"; {left} would do too: move away what is not meant" if left else "")
        )
        return layout.captions(self.pictures)

    @property
    def captions(self) -> Mapping[str, list[str]]:
        """Image id → raw captions, images and captions in file order."""
        return self.parsed.captions

    @property
    def captions_sha256(self) -> str:
        """SHA-256 of the file of captions; where each has its own, of the captions as JSON."""
        if self.caption_file.is_file():
            return files.sha256(self.caption_file)
        return hashlib.sha256(json.dumps(self.captions).encode()).hexdigest()

    @functools.cached_property
    def ids(self) -> Set[str]:
        """The ids of all pictures and captions."""
        captions = self.captions if self.layout.caption_file else ()
        return {*captions, *map(self.image_ids, self.pictures)}

    @functools.cached_property
    def image_ids(self) -> ImageIds:
        """The ids of the pictures, also of those that captions alone tell of."""
        with contextlib.suppress(CaptioningError):
            return self.parsed.image_ids
        return ImageIds(self.pictures)


class Datasets:
    """Several datasets as one: train splits together, dev and test of the first.

    It is asked what a `Dataset` is. Where an id is also one of a dataset before, the dataset's name
    stands before it: `coco:1`.

    Attributes:
        parts: two or more.
    """

    def __init__(self, parts: Sequence[Dataset]):
        self.parts = tuple(parts)
        if len({part.folder.resolve() for part in parts}) < len(parts):
            raise CaptioningError(
                f"expected different datasets, found {self.folder}: name each --dataset once"
            )

    @property
    def folder(self) -> str:
        """The folders, for sentences."""
        return " and ".join(str(part.folder) for part in self.parts)

    @functools.cached_property
    def names(self) -> list[str]:
        """The folders' names; a second one of the same name has its number behind it."""
        names = []
        for number, part in enumerate(self.parts, start=1):
            (name,) = part.names
            names.append(f"{name}-{number}" if name in names else name)
        return names

    @functools.cached_property
    def _taken(self) -> list[Set[str]]:
        """Of each part, the ids that a part before it has too."""
        before, taken = set(), []
        for part in self.parts:
            taken.append(part.ids & before)
            before |= part.ids
        return taken

    def key(self, number: int, own: str) -> str:
        """The id of a picture by its id within a part.

        Args:
            number: of the part, from 0.
        """
        return f"{self.names[number]}:{own}" if own in self._taken[number] else own

    @property
    def image_folder(self) -> Path:
        """That of the first dataset."""
        return self.parts[0].image_folder

    @property
    def caption_file(self) -> Path:
        """That of the first dataset."""
        return self.parts[0].caption_file

    def list_pictures(self) -> list[Path]:
        """The pictures of all; `CaptioningError` if one has no folder of them."""
        return [path for part in self.parts for path in part.list_pictures()]

    @functools.cached_property
    def pictures(self) -> list[Path]:
        """The same, but none of a dataset whose folder of them is not there yet."""
        return [path for part in self.parts for path in part.pictures]

    @functools.cached_property
    def parsed(self) -> Captions:
        """The captions of all; `CaptioningError` if one has none. Says which ids are renamed."""
        captions, complaints = {}, []
        for number, part in enumerate(self.parts):
            captions |= {self.key(number, own): group for own, group in part.captions.items()}
            complaints += part.parsed.complaints
            if taken := sorted(self._taken[number]):
                console.note(
                    f"{len(taken)} ids of {part.folder} are of a dataset before it too: theirs "
                    f"begin with its name ({few([self.key(number, own) for own in taken])})"
                )
        return Captions(captions, complaints, self.image_ids)

    @property
    def captions(self) -> Mapping[str, list[str]]:
        """Image id → raw captions, one dataset after the other."""
        return self.parsed.captions

    @property
    def captions_sha256(self) -> str:
        """SHA-256 of those of the parts."""
        return hashlib.sha256("".join(p.captions_sha256 for p in self.parts).encode()).hexdigest()

    @functools.cached_property
    def image_ids(self) -> ImageIds:
        """The ids of the pictures of all."""
        return _JoinedIds(self)


class _JoinedIds(ImageIds):
    """Ids of the pictures of several datasets, by the folder that a picture lies in.

    The end of that folder's path will do, as names in an HDF5 file have it. Where none has it, or
    several have, a picture is of the first dataset that has its id.
    """

    def __init__(self, source: Datasets):
        self.source = source
        self.ambiguous = {
            (number, key): group
            for number, part in enumerate(source.parts)
            for key, group in part.image_ids.ambiguous.items()
        }
        self.folders = {
            path.parent: number
            for number, part in enumerate(source.parts)
            for path in part.pictures
        }
        self.endings = {}  # folder as names have it → the dataset's number, None if not to be told

    def __call__(self, name: str | os.PathLike) -> str:
        folder, parts = Path(name).parent, self.source.parts
        number = self.folders.get(folder)
        if number is None:
            if folder not in self.endings:
                self.endings[folder] = self._ending_in(folder)
            number = self.endings[folder]
        if number is None:
            number = next((n for n, p in enumerate(parts) if p.image_ids(name) in p.ids), 0)
        return self.source.key(number, parts[number].image_ids(name))

    def _ending_in(self, folder: Path) -> int | None:
        last = folder.parts
        found = {
            n for path, n in self.folders.items() if path.resolve().parts[-len(last) :] == last
        }
        return found.pop() if len(found) == 1 else None


def of(folders: Path | Sequence[Path] | None) -> Dataset | Datasets:
    """The dataset of one folder, or of several together; of the current one for None.

    Raises:
        CaptioningError: if a folder is given twice.
    """
    if not folders or isinstance(folders, Path):
        return Dataset(folders or Path())
    parts = list(map(Dataset, folders))
    return Datasets(parts) if len(parts) > 1 else parts[0]
