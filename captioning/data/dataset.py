"""A dataset's folder, asked by way of the layout that recognises it."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from captioning.data.ids import ImageIds
from captioning.data.layouts.layout import Captions, Layout
from captioning.data.layouts.registry import LAYOUTS
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A captioned image collection in any of `layouts.registry.LAYOUTS`.

    Attributes:
        folder: the folder that holds images and captions.
    """

    folder: Path

    @functools.cached_property
    def layouts(self) -> list[Layout]:
        """The layouts that recognise the folder; their order is that of the registry."""
        kinds = LAYOUTS.values()
        return [kind(self.folder) for kind in kinds if kind.recognises(self.folder)]

    @functools.cached_property
    def layout(self) -> Layout:
        """The layout of the folder, also of one without captions."""
        return next(iter(self.layouts), Layout(self.folder))

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
        first, *others = self.layouts
        if others:
            left = " and ".join(str(other.caption_file) for other in others)
            console.note(
                f"captions: of {path}; {left} would do too and is not read: move away what is not "
                "meant"
            )
        else:
            console.note(f"captions: of {path}")
        return first.captions(self.pictures)

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
    def image_ids(self) -> ImageIds:
        """The ids of the pictures, also of those that captions alone tell of."""
        with contextlib.suppress(CaptioningError):
            return self.parsed.image_ids
        return ImageIds(self.pictures)
