"""A folder of pictures → one HDF5 file of square ones, in constant memory, whatever interrupts."""

import dataclasses
import functools
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from captioning.data import dataset, hdf5, images
from captioning.data.ids import stem
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

SAVE_EVERY = 5.0  # seconds of work that a kill may cost


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the resulting file depends on, besides the pictures.

    Attributes:
        size: side of the squares in pixels.
        val, test: shares of the pictures in `val_img` and `test_img`; the rest is `train_img`.
        seed: of the shuffle into splits and of the crops.
        limit: number of pictures to take, drawn at random; None for all.
    """

    size: int = 256
    val: float = 0.10
    test: float = 0.05
    seed: int = 0
    limit: int | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `pack` did.

    Attributes:
        rows: split → number of pictures in the file.
        skipped: name → reason, of the files that could not be used.
        seconds: taken by this run for the `packed` pictures that it added.
    """

    rows: dict[str, int]
    skipped: dict[str, str]
    seconds: float = 0.0
    packed: int = 0


def find(folder: str | os.PathLike, but: Path | None = None) -> list[str]:
    """Every visible file below a folder, as sorted names relative to it.

    Links to folders are not followed. `but`, a file that `pack` is to write, is left out.

    Raises:
        OSError: if the folder, or one in it, cannot be listed.
    """

    def refuse(error: OSError):
        raise error

    ours = {os.path.abspath(path) for path in (but, *_unfinished(but))} if but else set()
    names = []
    for parent, folders, found in os.walk(os.path.abspath(folder), onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (os.path.join(parent, name) for name in found if not name.startswith("."))
        names += [os.path.relpath(path, folder) for path in paths if path not in ours]
    return sorted(names, key=os.fsencode)


def _unfinished(output: Path) -> tuple[Path, Path]:
    """The file that becomes `output`, and the journal that says how much of it there is."""
    return tuple(output.with_name(output.name + end) for end in (".partial", ".partial.json"))


def read_list(path: str | os.PathLike, folder: str | os.PathLike) -> list[str]:
    """The files that a list names, one a line relative to `folder`, with or without extension.

    A name without a file stays in the list; it is skipped, with the reason, when it is opened.

    Raises:
        CaptioningError: if there is a file for none of the names.
    """
    lines = Path(path).read_text("utf-8-sig", errors="surrogateescape").split("\n")
    names = dict.fromkeys(line.strip() for line in lines if line.strip())
    missing = [name for name in names if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        found = find(folder)[::-1]
        by_stem = {stem(name): name for name in found}  # of any system's path and letters
        by_stem |= {os.path.splitext(name)[0]: name for name in found}
        resolved = {name: by_stem.get(name) or by_stem.get(stem(name), name) for name in missing}
        names = dict.fromkeys(resolved.get(name, name) for name in names)
        if all(resolved[name] == name for name in missing) and len(missing) == len(names):
            raise CaptioningError(
                f"expected the names of files in {folder} in {path}, found none among its "
                f"{len(names)} lines; check --images and --list"
            )
    return list(names)


def of_train(
    source: dataset.Dataset | dataset.Datasets, ids: Iterable[str]
) -> tuple[Path, list[str]]:
    """The files of a dataset's train images.

    Returns:
        folder: the one that holds them all, at some depth.
        names: relative to it.

    Raises:
        CaptioningError: if there is none.
    """
    groups = source.image_ids.group(source.list_pictures())
    found = (groups[key][0] for key in ids if key in groups)
    paths = [path.parent.resolve() / path.name for path in found]
    if not paths:
        raise CaptioningError(
            f"expected pictures of the train split in {source.image_folder}, found none; check the "
            "split lists"
        )
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder, [os.path.relpath(path, folder) for path in paths]


def assign(names: list[str], settings: Settings) -> dict[str, list[str]]:
    """Shuffle the names into splits."""
    order = np.random.default_rng(settings.seed).permutation(len(names))[: settings.limit]
    shuffled = [names[i] for i in order]
    test, val = (round(share * len(shuffled)) for share in (settings.test, settings.val))
    train = len(shuffled) - val - test
    return {
        "train_img": shuffled[:train],
        "val_img": shuffled[train : train + val],
        "test_img": shuffled[train + val :],
    }


def load_square(path: str | os.PathLike, size: int, place: float) -> np.ndarray:
    """Decode, crop a square along the longer side and resize it (Lanczos): uint8 (size, size, 3).

    Args:
        place: of the square between the ends of the longer side, from 0 to 1.

    Raises:
        UnreadableImage: see `images.load_rgb`.
    """
    # From twice the size, the result is less than one gray level off on average, and much faster.
    image = images.load_rgb(path, at_least=2 * size)
    side = min(image.size)
    left, top = (round(place * (length - side)) for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def pack(
    folder: Path,
    output: Path,
    splits: dict[str, list[str]],
    settings: Settings,
    workers: int,
    strict: bool = False,
) -> Outcome:
    """Write the pictures of `splits` (see `assign`) to the HDF5 file `output`.

    Interrupted at any moment and started again, it goes on where it stopped and ends with the
    same bytes. With another setting, or when a picture has changed, it starts from scratch. The
    caller keeps other runs out with `files.locked`.

    Raises:
        CaptioningError: if no file can be used, the disk is too full, or, with `strict`, at the
            first file that cannot be used.
    """
    todo = [(split, name) for split in hdf5.SPLITS for name in splits[split]]
    if output.is_dir():
        raise CaptioningError(
            f"expected a file to write at {output}, found a folder; name a file in it with --output"
        )
    fingerprint = _fingerprint(folder, todo, settings)
    if _is_whole(output, fingerprint):
        for path in _unfinished(output):  # a kill may have come between the last two steps
            path.unlink(missing_ok=True)
        console.note(f"{output} is whole, from the same pictures and settings: nothing to do")
        return Outcome(hdf5.rows(output), hdf5.skipped(output))
    with _Work(output, fingerprint, settings.size) as work:
        left = todo[work.done :]
        _check_space(output, len(left) * settings.size**2 * 3)
        packed = -work.writer.total
        with console.Progress(len(left), "packing") as progress:
            load = functools.partial(_try_load, folder, settings)
            for (split, name), result in images.ahead(load, left, workers, 4 * workers):
                if strict and isinstance(result, str):
                    raise CaptioningError(f"{folder / name}: {result}; --strict stops here")
                work.add(split, name, result)
                progress.update()
        work.finish(todo, settings)
    packed += work.writer.total
    seconds = time.monotonic() - progress.start
    return Outcome(work.writer.rows, work.skipped, seconds, packed)


def _fingerprint(folder: Path, todo: list[tuple[str, str]], settings: Settings) -> str:
    """Hexadecimal digest of the settings and of each file's split, name, size and time."""
    digest = hashlib.sha256(repr(settings).encode())
    for split, name in todo:
        try:
            status = os.stat(folder / name)
            seen = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            seen = "missing"
        digest.update(f"{split} {seen} ".encode() + os.fsencode(name) + b"\0")
    return digest.hexdigest()


def _is_whole(output: Path, fingerprint: str) -> bool:
    try:
        with h5py.File(output, "r") as file:
            return file.attrs.get("fingerprint") == fingerprint
    except BlockingIOError:
        raise hdf5.in_use(output) from None
    except OSError:  # none yet, or not HDF5
        return False


def _check_space(output: Path, needed: int) -> None:
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise CaptioningError(
            f"expected {console.readable_size(needed)} free for {output}, found "
            f"{console.readable_size(free)}; free some, or choose another --output or a --limit"
        )


class _Work:
    """The unfinished file, `output` + '.partial', and its journal, '.partial.json'.

    Files are worked on in a fixed order, so the number of those done is all there is to know. A
    row that was written after the journal is written again.

    Attributes:
        done: number of files worked on.
        skipped: name → reason.
    """

    def __init__(self, output: Path, fingerprint: str, size: int):
        self.output, self.fingerprint = output, fingerprint
        self.partial, self.journal = _unfinished(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        state = self._state()
        self.done, self.skipped = state["done"], state["skipped"]
        self.writer = hdf5.ImageWriter(self.partial, size, state["rows"])
        self.saved = time.monotonic()
        self.finished = False

    def _state(self) -> dict:
        if self.partial.exists() and self.journal.exists():
            state = files.read_json(self.journal)
            if state["fingerprint"] == self.fingerprint:
                console.note(f"going on with {self.partial} behind its first {state['done']} files")
                return state
            console.note(f"{self.partial} is from other pictures or settings: starting again")
        self.journal.unlink(missing_ok=True)  # before the rows that it counts go
        return {"done": 0, "skipped": {}, "rows": None}

    def add(self, split: str, name: str, result: np.ndarray | str) -> None:
        """Count one file: its pixels, or the reason why there are none."""
        if isinstance(result, str):
            console.note(f"skipped {name}: {result}")
            self.skipped[name] = result
        else:
            self.writer.append(split, result)
        self.done += 1
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Put on the disk first the rows, then how many they are."""
        self.writer.sync()
        keys = ("fingerprint", "done", "skipped")
        state = {key: getattr(self, key) for key in keys} | {"rows": self.writer.rows}
        files.write_text(self.journal, json.dumps(state))
        self.saved = time.monotonic()

    def finish(self, todo: list[tuple[str, str]], settings: Settings) -> None:
        """Turn the partial file into HDF5 and move it into place.

        Raises:
            CaptioningError: if there is no picture in it.
        """
        self.save()
        if not self.writer.total:
            self.partial.unlink()
            self.journal.unlink()
            self.finished = True
            raise CaptioningError(
                f"expected pictures, found none among {len(todo)} files; check --images"
            )
        texts = {hdf5.names_of(split): [] for split in hdf5.SPLITS}
        for split, name in todo:
            if name not in self.skipped:
                texts[hdf5.names_of(split)].append(os.fsencode(name))
        texts["skipped_names"] = [os.fsencode(name) for name in self.skipped]
        reasons = self.skipped.values()
        texts["skipped_reasons"] = [why.encode(errors="surrogateescape") for why in reasons]
        attributes = dataclasses.asdict(settings) | {"limit": settings.limit or 0}
        self.writer.finish(texts, attributes | {"fingerprint": self.fingerprint})
        os.replace(self.partial, self.output)
        self.journal.unlink()
        self.finished = True

    def __enter__(self) -> "_Work":
        return self

    def __exit__(self, *exception) -> None:
        if not self.finished:
            self.save()
        self.writer.close()


def _try_load(folder: Path, settings: Settings, entry: tuple[str, str]) -> np.ndarray | str:
    """Pixels of an entry (split, name), or the reason for none."""
    _, name = entry
    # Seeded by name, so that neither order nor workers nor interruptions change the crop.
    place = random.Random(os.fsencode(f"{settings.seed} {name}")).random()
    path = folder / name
    if os.path.exists(path) and not os.path.isfile(path):
        return "not a file"  # opening a pipe would wait for ever
    try:
        return load_square(path, settings.size, place)
    except images.UnreadableImage as error:
        return str(error)
