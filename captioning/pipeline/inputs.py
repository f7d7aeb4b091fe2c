"""What scripts 2, 3 and 4 read: descriptions, splits, the tokenizer that follows from them."""

import dataclasses
from collections.abc import Collection, Container, Sequence, Set
from pathlib import Path
from typing import Any

from captioning.data import dataset, text
from captioning.data.captions import fit_tokenizer, longest_caption, usable_ids
from captioning.data.grids import Grid
from captioning.data.sentences import Sentences
from captioning.data.splits import find_splits
from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError, few


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Captions and splits of a work folder.

    Attributes:
        descriptions: image id → cleaned captions.
        splits: split → image ids, in the order of its list.
        tokenizer: of the train captions, and of the sentences.
        source: the dataset, for what its captions were before they were cleaned.
        sentences: without pictures, if there are any.
        min_count: see `fit_tokenizer`.
    """

    descriptions: dict[str, list[str]]
    splits: dict[str, list[str]]
    tokenizer: Tokenizer
    source: dataset.Dataset
    sentences: Sentences | None = None
    min_count: int = 1

    @classmethod
    def read(
        cls,
        folder: Path | Sequence[Path],
        workdir: Path,
        split_seed: int,
        min_count: int = 1,
        sentences: Path | None = None,
    ) -> "Inputs":
        """Read `descriptions.txt` of the work folder and the splits of the dataset in `folder`.

        Args:
            min_count, sentences: what the tokenizer follows from besides the captions, see
                `fit_tokenizer`; the latter a file, see `Sentences.read`.

        Raises:
            CaptioningError: when a file is missing or damaged, or they do not belong together.
        """
        descriptions = artifacts.load_descriptions(workdir)
        source = dataset.of(folder)
        kind, found = artifacts.text_of(workdir, source.names), None
        splits = find_splits(source, workdir, split_seed, descriptions).ids
        train = [key for key in splits["train"] if key in descriptions]
        if sentences and train:
            held_out = {
                caption
                for split in ("dev", "test")
                for key in splits[split]
                for caption in descriptions.get(key, ())
            }
            found = Sentences.read(sentences, kind, longest_caption(train, descriptions), held_out)
        texts = found.texts if found else ()
        tokenizer = fit_tokenizer(descriptions, train, kind, min_count, texts)
        return cls(descriptions, splits, tokenizer, source, found, min_count)

    @property
    def beside_captions(self) -> dict[str, Any]:
        """What the tokenizer follows from besides the captions, for a captioner's settings."""
        found = {"min_count": self.min_count} if self.min_count > 1 else {}
        return found | ({"sentences": self.sentences.record} if self.sentences else {})

    def usable(self, split: str, features: Container[str]) -> list[str]:
        """The images of a split that have captions and features: see `usable_ids`."""
        option = "features --grid" if isinstance(features, Grid) else "features"
        return usable_ids(split, self.splits[split], self.descriptions, features, option)

    def coco_references(self, ids: Collection[str]) -> dict[str, list[str]] | None:
        """Of images, the raw captions of the dataset as the coco protocol has them.

        Where the dataset has none, or none of some image, a note, and None.
        """
        try:
            raw = self.source.captions
            lacking = [key for key in ids if not any(map(str.strip, raw.get(key, ())))]
            if lacking:
                raise CaptioningError(
                    f"expected captions of all {len(ids)} images in {self.source.caption_file}, "
                    f"found none of {len(lacking)} ({few(lacking)})"
                )
        except CaptioningError as error:
            console.note(f"{error}; coco protocol left out")
            return None
        return text.coco_all({key: raw[key] for key in ids})

    def check_unseen(self, split: str, seen: Set[str] | None, allowed: bool) -> int | None:
        """Refuse a split whose images the encoder was trained on; with `allowed`, warn.

        Returns:
            how many of them it was trained on; None where `seen` is unknown.
        """
        if seen is None:
            return None
        keys = self.splits[split]
        found = [key for key in keys if key in seen]
        if found:
            fault = (
                f"the encoder was trained on {len(found)} of the {len(keys)} images of the {split} "
                f"split (such as {found[0]}), so that scores on them are too high"
            )
            if not allowed:
                raise CaptioningError(
                    f"{fault}; use the split lists that it was pretrained with (put them into the "
                    "work folder), or insist with --allow-seen"
                )
            console.note(f"warning: {fault}")
        return len(found)
