"""Train, dev and test: the lists of a dataset, or a seeded draw where it has none."""

import contextlib
import dataclasses
import os
import random
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path

from captioning.data import text
from captioning.data.dataset import Dataset, Datasets
from captioning.data.ids import among
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, few, printable, refusing

SPLITS = ("train", "dev", "test")
OVERLAPS = "overlaps.json"  # in the work folder: see `data.overlap`


def split_file_name(split: str) -> str:
    """'dev' → 'Flickr_8k.devImages.txt', the published name."""
    return f"Flickr_8k.{split}Images.txt"


@dataclasses.dataclass(frozen=True)
class Splits:
    """Image ids of train, dev and test, and where they came from.

    Attributes:
        ids: split → image ids without repetition, in file order.
        folder: the folder of the three lists, or the file that tells the splits.
        made: True if the lists were drawn just now rather than found.
        others: splits of further datasets, whose train images are among those of `ids`.
    """

    ids: dict[str, list[str]]
    folder: Path
    made: bool
    others: Sequence["Splits"] = ()

    @property
    def written(self) -> list[Path]:
        """The lists, if they were drawn just now."""
        own = [self.folder / split_file_name(split) for split in SPLITS] if self.made else []
        return own + [path for other in self.others for path in other.written]

    @property
    def overlaps(self) -> list[str]:
        """One sentence per pair of splits that share images."""
        sentences = []
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
            shared = set(self.ids[first]) & set(self.ids[second])
            if shared:
                sentences.append(
                    f"{len(shared)} images are in both {first} and {second} "
                    f"(such as {min(shared)}): scores on {second} will be too high"
                )
        return sentences


def find_splits(
    dataset: Dataset | Datasets,
    workdir: str | os.PathLike,
    split_seed: int = 0,
    known: Collection[str] = (),
) -> Splits:
    """The splits of the dataset, else the work folder's lists, else a seeded new draw.

    Of several datasets train has the images of all, but for those that `OVERLAPS` leaves out; dev
    and test are the first one's. A draw for another than the first goes into a folder of its name
    within the work folder.

    Says where they come from and whether they overlap. A new draw is 6000/1000/1000 of the images
    with captions, scaled to their number, and is written into the work folder under the published
    names, so that every script sees the same. A draw that was interrupted is completed.

    Args:
        known: the ids of the dataset, where they are known: see `read_split`.

    Raises:
        CaptioningError: when some lists of a folder exist and others do not, or too few images
            have captions.
    """
    splits = _joined(dataset, Path(workdir), split_seed, known)
    sizes = "/".join(str(len(splits.ids[split])) for split in SPLITS)
    origin = f"drawn with --split-seed {split_seed} into" if splits.made else "from"
    console.note(f"splits: {sizes} images (train/dev/test), {origin} {splits.folder}")
    for other in splits.others:
        train = len(other.ids["train"])
        origin = f"drawn with --split-seed {split_seed} into" if other.made else "from"
        console.note(f"of these, train images of another dataset: {train}, {origin} {other.folder}")
    if not splits.ids["test"]:
        console.note("there is no test split: scores are of dev, which also chooses the epoch kept")
    if split_seed and not (splits.made or _was_drawn(splits, dataset, Path(workdir), split_seed)):
        console.note(f"--split-seed {split_seed} has no effect: these splits are not drawn by it")
    for sentence in splits.overlaps:
        console.note(f"warning: {sentence}")
    return splits


def of_parts(dataset: Dataset | Datasets, workdir: Path, seed: int) -> list[Splits]:
    """The splits of each of several datasets, in ids of its own; draws them where it must."""
    places = (workdir, *(workdir / name for name in dataset.names[1:]))
    pairs = zip(dataset.parts, places, strict=True)
    return [_find(part, place, seed, part.ids) for part, place in pairs]


def _joined(
    dataset: Dataset | Datasets, workdir: Path, seed: int, known: Collection[str]
) -> Splits:
    if len(dataset.parts) == 1:
        return _find(dataset, workdir, seed, known)
    first, *others = of_parts(dataset, workdir, seed)
    train = list(first.ids["train"])
    for number, other in enumerate(others, start=1):
        train += [dataset.key(number, own) for own in other.ids["train"]]
    left_out = _left_out(dataset, workdir, train)
    ids = first.ids | {"train": [key for key in train if key not in left_out]}
    return dataclasses.replace(first, ids=ids, others=others)


def _left_out(dataset: Datasets, workdir: Path, train: Sequence[str]) -> Set[str]:
    """The train images that are in dev or test under another name, see `data.overlap`."""
    path = workdir / OVERLAPS
    stored = files.read_json(path) if path.exists() else {}
    with refusing(path, "train images that are also in dev or test"):
        if stored.get("datasets") != dataset.names:
            console.note(
                f"warning: whether train images of {dataset.folder} are in dev or test too is not "
                f"known; 1_data_preprocessor.py with the same --dataset finds out (→ {path})"
            )
            return set()
        left_out = stored["left_out"].keys() & set(train)
    if left_out:
        console.note(
            f"{len(left_out)} train images are left out: they are in dev or test too "
            f"({few(sorted(left_out))}; all are in {path})"
        )
    return left_out


def _find(dataset: Dataset, workdir: Path, seed: int, known: Collection[str]) -> Splits:
    layout = dataset.layout
    if (inside := layout.splits(known)) is not None:
        return Splits(_checked(inside, dataset.caption_file), dataset.caption_file, False)
    for folder in (*layout.list_folders, workdir):
        paths = {split: folder / split_file_name(split) for split in SPLITS}
        found = {split: path for split, path in paths.items() if path.exists()}
        if len(found) == len(SPLITS):
            ids = {
                split: read_split(path, known, or_none=split == "test")
                for split, path in found.items()
            }
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


def _was_drawn(splits: Splits, dataset: Dataset | Datasets, workdir: Path, seed: int) -> bool:
    """Whether lists in the work folder are those that this seed draws."""
    with contextlib.suppress(CaptioningError):  # no captions: nothing to draw from
        drawn = _draw(dataset.parts[0], seed)
        return splits.folder == workdir and all(splits.ids[s] == drawn[s] for s in SPLITS[1:])
    return False


def _checked(ids: Mapping[str, list[str]], path: Path) -> dict[str, list[str]]:
    """The splits that a file holds; each id once, as in `read_split`. Test may be empty."""
    ids = {split: list(dict.fromkeys(ids.get(split, ()))) for split in SPLITS}
    if empty := [split for split in SPLITS[:2] if not ids[split]]:
        raise CaptioningError(
            f"{path}: expected images of train and dev, found none of {', '.join(empty)}"
        )
    return ids


def _draw(dataset: Dataset, seed: int) -> dict[str, list[str]]:
    captions = dataset.captions
    if len(captions) < len(SPLITS):
        raise CaptioningError(
            f"expected captions of at least 3 images in {dataset.caption_file}, to draw train, dev "
            f"and test from, found {len(captions)}; add captions or split lists"
        )
    return draw(captions, seed)


def _is_begun_draw(begun: dict[str, Path], dataset: Dataset, seed: int) -> bool:
    """Whether the lists there are those of this very draw, which was interrupted."""
    ids = _draw(dataset, seed)
    return all(read_split(path, ids[split]) == ids[split] for split, path in begun.items())


def draw(ids: Iterable[str], seed: int) -> dict[str, list[str]]:
    """Shuffle and cut 6 : 1 : 1; deterministic by seed and by the set of ids."""
    ids = sorted(ids)
    random.Random(seed).shuffle(ids)
    held_out = max(1, len(ids) // 8)
    return {
        "train": ids[: len(ids) - 2 * held_out],
        "dev": ids[len(ids) - 2 * held_out : len(ids) - held_out],
        "test": ids[len(ids) - held_out :],
    }


def read_split(
    path: str | os.PathLike, known: Collection[str] = (), or_none: bool = False
) -> list[str]:
    """Image ids of a split list: one file name a line, with or without extension.

    Args:
        known: ids of the dataset; a line that is one of them as a whole name means that one.
        or_none: whether the list may be empty.

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
    if not (ids or or_none):
        raise CaptioningError(f"{path}: expected one image name a line, found no line")
    return list(ids)
