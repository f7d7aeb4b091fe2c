"""Stage 1: captions → descriptions.txt, and its record where one is needed."""

from collections.abc import Set
from pathlib import Path

from captioning.data import dataset, text
from captioning.data.splits import find_splits
from captioning.pipeline import artifacts
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError, few, printable

_MOST_COMPLAINTS = 20  # printed about one file
_LEAST = {text.REFERENCE: " of two or more letters", text.FULL: ""}


def describe(
    source: dataset.Dataset, workdir: Path, split_seed: int = 0, kind: str = text.REFERENCE
) -> list[Path]:
    """Clean the captions of a dataset into `descriptions.txt`; draw splits where none are given.

    Says on stderr what could not be used.

    Args:
        workdir: where the files go.
        split_seed: see `splits.find_splits`.
        kind: a name of `text.TEXTS`.

    Returns:
        the paths written: `descriptions.txt`, its record, if any, and the lists of the splits that
        were drawn.

    Raises:
        CaptioningError: if there are no captions, or no words in them; see `splits.find_splits`.
    """
    captions, complaints, image_ids = source.parsed
    for complaint in complaints[:_MOST_COMPLAINTS]:
        console.note(complaint)
    if len(complaints) > _MOST_COMPLAINTS:
        console.note(f"and {len(complaints) - _MOST_COMPLAINTS} more lines like these")
    if image_ids.notice:
        console.note_once(image_ids.notice)
    _require_images(source, captions.keys())
    cleaned, notices = text.clean_all(captions, kind)
    vocabulary = {word for group in cleaned.values() for text_ in group for word in text_.split()}
    if not vocabulary:
        raise CaptioningError(
            f"expected words{_LEAST[kind]} in the captions of {source.caption_file}, found none; "
            "check that file"
        )
    written = artifacts.save_descriptions(workdir, cleaned, kind, source.names)
    empty = sum(not caption for group in cleaned.values() for caption in group)
    console.note(
        f"captions: {sum(map(len, cleaned.values()))} of {len(cleaned)} images, "
        f"{len(vocabulary)} words" + (f", {empty} clean to nothing" if empty else "")
    )
    for notice in notices:
        console.note(notice)
    _compare_with_images(source, captions.keys())
    return [*written, *find_splits(source, workdir, split_seed, captions).written]


def _require_images(source: dataset.Dataset, captioned: Set[str]) -> None:
    """Refuse captions of which none is of a picture of the dataset, where there are pictures."""
    if source.pictures and captioned.isdisjoint(map(source.image_ids, source.pictures)):
        raise CaptioningError(
            f"expected captions of the pictures in {source.folder}, such as "
            f"{printable(source.pictures[0].name)}, found those of others in {source.caption_file} "
            f"({few(sorted(captioned))}); check the names"
        )


def _compare_with_images(source: dataset.Dataset, captioned: Set[str]) -> None:
    """Say which captions have no image, and which images no caption."""
    found = set(map(source.image_ids, source.pictures))
    if not found:  # captions alone will do for now
        return
    for what, keys in (
        ("images with captions have no file", captioned - found),
        ("image files have no caption", found - captioned),
    ):
        if keys:
            console.note(f"{len(keys)} {what} in {source.folder} ({few(sorted(keys))})")
