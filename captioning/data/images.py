"""Pictures on disk → arrays: decode anything Pillow opens, resize, batch while the network runs."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from captioning.runtime import console
from captioning.runtime.errors import CaptioningError, printable

PICTURE_SUFFIXES = (".png", ".jpg", ".webp", ".tif")
MAX_PIXELS = 178_956_970  # a larger picture is refused: Pillow's own bound against bombs
warnings.filterwarnings("ignore", module=r"PIL\.")  # `load_rgb` uses a picture or tells why not


class UnreadableImage(CaptioningError):
    """A file that cannot be used as a picture; the message is the reason, without the name."""

    def __init__(self, reason: str):  # often a decoder's, with whatever a damaged file makes it say
        super().__init__(printable(reason.rstrip(".")))


def check_suffix(output: Path, option: str = "--output") -> None:
    """Raise `CaptioningError` if a picture that is to be drawn has the suffix of none."""
    if output.suffix.lower() not in PICTURE_SUFFIXES:
        raise CaptioningError(
            f"expected {option} to end in {', '.join(PICTURE_SUFFIXES)}, found {str(output)!r}"
        )


def list_files(folder: str | os.PathLike) -> list[Path]:
    """Everything visible in a folder, sorted by name, whatever its extension.

    Folders too: `load_rgb` tells why they are of no use, so that nothing is left out in silence.
    Where there is nothing but one folder, as archives often unpack, what that one holds.

    Raises:
        CaptioningError: if there is no such folder, or several folders and nothing else.
    """
    try:
        paths = _visible(folder)
        while len(paths) == 1 and paths[0].is_dir():
            console.note_once(f"the files of {folder} are in {paths[0]}")
            folder, paths = paths[0], _visible(paths[0])
    except OSError as error:
        raise CaptioningError(
            f"expected a folder of images at {folder}, found none ({error.strerror.lower()})"
        ) from None
    if paths and all(path.is_dir() for path in paths):
        holding = max(paths, key=lambda path: len(_visible(path)))
        raise CaptioningError(
            f"expected images in {folder}, found none there but {len(paths)} folders, such as "
            f"{holding.name} with {len(_visible(holding))} files; move all images into one folder"
        )
    return paths


def _visible(folder: str | os.PathLike) -> list[Path]:
    return [Path(folder, n) for n in sorted(os.listdir(folder)) if not n.startswith(".")]


def load_rgb(path: str | os.PathLike, at_least: int | None = None) -> Image.Image:
    """Decode a picture of any mode to 8-bit RGB, upright.

    The first frame of an animation; EXIF orientation applied; transparency over white; 16-bit
    and float samples scaled to 8 bits. With `at_least`, a JPEG may come at a half, a quarter or
    an eighth of its size, decoded as much faster, while both sides keep that many pixels.

    Raises:
        UnreadableImage: with the reason, for anything that is not a whole picture.
    """
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # opening a pipe would wait for ever
            raise UnreadableImage("a directory" if stat.S_ISDIR(kind) else "not a regular file")
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(
                    f"{width}×{height} pixels, more than the {MAX_PIXELS:,} accepted"
                )
            if at_least:
                image.draft(None, (at_least, at_least))
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            return _to_rgb(image)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_why_unidentified(path)) from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from None
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from None
    except Exception as error:  # decoders raise almost anything on damaged files
        raise UnreadableImage(f"damaged ({type(error).__name__}: {error})") from None


def is_picture(path: str | os.PathLike) -> bool:
    """Whether a file begins as one of a format that Pillow knows; the rest of it is not read."""
    try:
        with Image.open(path):
            return True
    except Exception:  # decoders raise almost anything
        return False


def _why_unidentified(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp":  # ISO/IEC 23008-12: HEIC as phones take it, and its relatives
        return "HEIC or alike, which Pillow reads only with a plug-in; convert it to JPEG"
    return "not an image" if start else "an empty file"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray, also when held in 32-bit integers
        samples = np.asarray(image).astype(np.int64)
        image = Image.fromarray((samples.clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        samples = np.nan_to_num(np.asarray(image))
        scale = 255 if samples.max(initial=0) <= 1 else 1
        image = Image.fromarray((samples * scale).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def load_array(path: str | os.PathLike, size: int) -> np.ndarray:
    """Decode and resize to uint8 (size, size, 3): bilinear, no crop, as the reference does.

    Raises:
        UnreadableImage: see `load_rgb`.
    """
    return np.asarray(load_rgb(path).resize((size, size), Image.Resampling.BILINEAR))


def refusal(path: str | os.PathLike, reason: str) -> CaptioningError:
    """The error of a script that was told by --strict to skip nothing."""
    return CaptioningError(f"{path}: {reason}; --strict stops here")


@dataclasses.dataclass
class Batch:
    """Pictures that could be read, and those that could not.

    Attributes:
        paths: the readable ones, in the order asked for.
        pixels: uint8 (len(paths), size, size, 3).
        unreadable: path → reason.
    """

    paths: list[Path]
    pixels: np.ndarray
    unreadable: dict[Path, str]


def batches(
    paths: Sequence[Path],
    size: int,
    batch_size: int,
    workers: int | None = None,
    strict: bool = False,
) -> Iterator[Batch]:
    """Yield `paths` decoded in order, `batch_size` at a time.

    Threads decode ahead while the caller computes on the last batch; at most three batches are
    held in memory.

    Raises:
        CaptioningError: with `strict`, at the first file that cannot be read.
    """
    workers = workers or min(8, os.cpu_count() or 1)
    load = functools.partial(_try_load, size=size)
    results = ahead(load, paths, workers, 2 * batch_size)
    with contextlib.closing(results):
        while group := list(itertools.islice(results, batch_size)):
            batch = _collect(group, size)
            if strict and batch.unreadable:
                raise refusal(*next(iter(batch.unreadable.items())))
            yield batch


def ahead(
    function: Callable[[Any], Any], items: Iterable, workers: int, count: int
) -> Iterator[tuple[Any, Any]]:
    """Each item with what a function makes of it, in order, computed by threads `count` ahead.

    Pillow releases the interpreter lock, so that threads decode in parallel.
    """
    pool, pending = ThreadPoolExecutor(workers), collections.deque()
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > count:
                item, future = pending.popleft()
                yield item, future.result()
        for item, future in pending:
            yield item, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _try_load(path: Path, size: int) -> np.ndarray | str:
    try:
        return load_array(path, size)
    except UnreadableImage as error:
        return str(error)


def _collect(group: Iterable[tuple[Path, np.ndarray | str]], size: int) -> Batch:
    readable, arrays, unreadable = [], [], {}
    for path, result in group:
        if isinstance(result, str):
            unreadable[path] = result
        else:
            readable.append(path)
            arrays.append(result)
    pixels = np.stack(arrays) if arrays else np.zeros((0, size, size, 3), np.uint8)
    return Batch(readable, pixels, unreadable)
