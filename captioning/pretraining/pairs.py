"""Pictures of an HDF5 file and the captions that a dataset has for them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from captioning.data import dataset, hdf5, images, text
from captioning.data.captions import fit_tokenizer
from captioning.data.tokenizer import Tokenizer
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The captioned pictures among those of an HDF5 file, and those of the dev split.

    Attributes:
        rows: int (n,), pictures of the file that are in the train split.
        train: cleaned captions of each of `rows`.
        dev: cleaned captions of each of the dev pictures.
        dev_pictures: uint8 (m, size, size, 3), of the size of those in the file.
        tokenizer: of all train captions.
    """

    rows: np.ndarray
    train: list[list[str]]
    dev: list[list[str]]
    dev_pictures: np.ndarray
    tokenizer: Tokenizer

    @classmethod
    def find(
        cls,
        source: dataset.Dataset,
        ids: Mapping[str, Sequence[str]],
        pictures: hdf5.Images,
    ) -> "Pairs":
        """Captions and dev pictures of a dataset, whose splits are `ids`.

        Raises:
            CaptioningError: when none of the pictures is in the train split, or dev has none.
        """
        captions, _ = text.clean_all(source.captions)
        names = list(map(source.image_ids, pictures.names()))
        known = set(ids["train"]) & captions.keys()
        rows = [row for row, key in enumerate(names) if key in known]
        if outside := len(set(names) - set(ids["train"])):
            console.note(
                f"{outside} pictures of {pictures.path} are not of the train split: only "
                "methods without captions learn from them"
            )
        wanted = set(ids["dev"]) & captions.keys()
        groups = source.image_ids.group(source.list_pictures())
        paths = [paths[0] for key, paths in groups.items() if key in wanted]
        dev, dev_pictures = [], []
        for batch in images.batches(paths, pictures.shape[1], 100):
            dev += [captions[source.image_ids(path)] for path in batch.paths]
            dev_pictures.append(batch.pixels)
            for path, reason in batch.unreadable.items():
                console.note(f"left out {path}: {reason}")
        if not rows or not dev:
            raise CaptioningError(
                f"expected pictures of the train split in {pictures.path} and of the dev split in "
                f"{source.image_folder}, found {len(rows)} and {len(dev)}; check --hdf5 and "
                "--dataset"
            )
        return cls(
            np.array(rows),
            [captions[names[row]] for row in rows],
            dev,
            np.concatenate(dev_pictures),
            fit_tokenizer(captions, ids["train"]),
        )
