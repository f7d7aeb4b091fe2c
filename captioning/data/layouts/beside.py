"""Pictures with a text file of the same name beside each: dog.jpg and dog.txt, a caption a line.

They lie in the dataset's folder itself, or in the folder of pictures that every layout may have.
"""

import collections
import os
from collections.abc import Iterable
from pathlib import Path

from captioning.data import text
from captioning.data.ids import file_name, is_picture_name, stem
from captioning.data.layouts.layout import Captions, Layout, gather

_SUFFIX = ".txt"


class Beside(Layout):
    """A file of captions for each picture."""

    @property
    def image_folder(self) -> Path | None:
        """The folder of pictures, else the dataset's own."""
        return super().image_folder or self.folder

    @property
    def caption_file(self) -> Path | None:
        """The same folder, if any picture in it has a text beside it."""
        folder = self.image_folder
        names = list(map(file_name, os.listdir(folder))) if folder.is_dir() else []
        texts = {name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)}
        pictured = texts and not texts.isdisjoint(map(stem, filter(is_picture_name, names)))
        return folder if pictured else None

    def pictures(self) -> list[Path]:
        """The files that are no texts."""
        return [path for path in super().pictures() if path.suffix != _SUFFIX]

    def captions(self, pictures: Iterable[Path]) -> Captions:
        """Each line that is not blank; a text of two pictures is the first one's."""
        pictures = list(pictures)
        named = collections.defaultdict(list)  # stem → names of pictures
        for path in filter(is_picture_name, pictures):
            named[stem(path)].append(path.name)
        rows, complaints = [], []
        for path in sorted(self.caption_file.glob(f"*{_SUFFIX}")):
            names = named[file_name(path.name).removesuffix(_SUFFIX)]
            if not names:
                complaints.append(f"{path}: expected a picture of that name beside it; ignored")
                continue
            if len(names) > 1:
                complaints.append(
                    f"{path.name} belongs to two images, {names[0]} and {names[1]}: the first has "
                    "it"
                )
            lines = [" ".join(line.split()) for line in text.read_text(path).split("\n")]
            rows += [(path.name, names[0], line) for line in list(filter(None, lines)) or [""]]
        found = gather(self.caption_file, rows, pictures)
        return found._replace(complaints=[*complaints, *found.complaints])
