"""Caption text: reading caption files, cleaning, and the descriptions that training reads."""

import collections
import csv
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from captioning.errors import CaptioningError, printable
from captioning.images import image_id

START, END = "startseq", "endseq"

# Which of an image's captions: name.jpg#0, and in one place of Flickr8k name.jpg.1#0.
_NUMBER = re.compile(r"(\.\d+)?#\d+$")
_DELETE_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(caption: str) -> str:
    """Lower-case words of letters, two or more: 'A dog, running!' → 'dog running'.

    The reference's order: split on white space, lower-case, delete punctuation, drop words of
    one character, drop words that are not alphabetic.
    """
    words = (word.lower().translate(_DELETE_PUNCTUATION) for word in caption.split())
    return " ".join(word for word in words if len(word) > 1 and word.isalpha())


def wrap(caption: str) -> str:
    """'dog running' → 'startseq dog running endseq', as the captioner is trained."""
    return f"{START} {caption} {END}" if caption else f"{START} {END}"


def ngrams(words: Sequence[str]) -> collections.Counter:
    """Words in a row, one to four → how often."""
    counts = collections.Counter()
    for n in range(1, 5):
        counts.update(zip(*(words[i:] for i in range(n)), strict=False))
    return counts


def read_text(path: str | os.PathLike) -> str:
    """Decode a text file: UTF-8 with or without a byte-order mark, any line ends.

    Raises:
        CaptioningError: for a missing file or bytes that are not UTF-8 (with the line).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise CaptioningError(
            f"expected a text file at {path}, found none; check the path"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CaptioningError(
            f"{path}, line {line}: expected UTF-8 text, found byte 0x{data[error.start]:02x}; "
            "save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_captions(path: str | os.PathLike) -> tuple[dict[str, list[str]], list[str]]:
    """Read a caption file: the published `name.jpg#0<TAB>caption` or Kaggle's `image,caption`.

    Returns:
        captions: image id → raw captions, images and captions in file order.
        complaints: one sentence per line that could not be used.

    Raises:
        CaptioningError: when the file holds no caption at all.
    """
    text = read_text(path)
    rows = _kaggle_rows(text) if _is_kaggle(text) else _published_rows(text)
    captions, complaints = {}, []
    names, labels = {}, {}  # image id → file name, `name.jpg#0` → line: where first seen

    def complain(sentence: str) -> None:
        complaints.append(f"{path}, line {line}: {sentence}")

    for line, label, caption in rows:
        name = _NUMBER.sub("", label)
        shown = repr(printable(name))
        key = image_id(name)
        if not key or not caption:
            complain("expected an image name and a caption; ignored")
        elif key.split() != [key]:
            complain(f"expected an image name without spaces, found {shown}; ignored")
        else:
            captions.setdefault(key, []).append(caption)
            if names.setdefault(key, name) != name:
                first = printable(names[key])
                complain(f"{shown} has the id of {first!r}, whose captions are added to")
            if label != name and labels.setdefault(label, line) != line:
                complain(
                    f"{printable(label)!r} stands on line {labels[label]} already; both are kept"
                )
    if not captions:
        raise CaptioningError(
            f"{path}: expected lines `name.jpg#0<TAB>caption` or `image,caption`, found none"
        )
    return captions, complaints


def cleaned(path: str | os.PathLike) -> dict[str, list[str]]:
    """Image id → cleaned captions of a caption file, as `parse_captions` reads it."""
    captions, _ = parse_captions(path)
    return {key: list(map(clean, group)) for key, group in captions.items()}


def _is_kaggle(text: str) -> bool:
    return text.partition("\n")[0].strip().lower() == "image,caption"


def _kaggle_rows(text: str) -> Iterable[tuple[int, str, str]]:
    for line, row in enumerate(text.split("\n")[1:], start=2):
        if row.strip():  # each line by itself: a quote left open must not swallow the rest
            try:
                name, *caption = next(csv.reader([row]))
            except csv.Error:  # a field beyond any caption's length
                name, caption = "", []
            # an unquoted comma inside a caption makes more than two fields
            yield line, name.strip(), ",".join(caption).strip()


def _published_rows(text: str) -> Iterable[tuple[int, str, str]]:
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            name, _, caption = row.partition("\t") if "\t" in row else row.partition(" ")
            yield line, name.strip(), caption.strip()


def format_descriptions(captions: Mapping[str, Iterable[str]]) -> str:
    """Cleaned captions as `descriptions.txt`: `id word word …`, no newline at the end."""
    return "\n".join(f"{key} {clean(text)}" for key, texts in captions.items() for text in texts)


def parse_descriptions(text: str) -> dict[str, list[str]]:
    """The reverse of `format_descriptions`: image id → cleaned captions, possibly empty ones."""
    descriptions = {}
    for line in text.split("\n"):
        key, _, caption = line.strip().partition(" ")
        if key:
            descriptions.setdefault(key, []).append(caption.strip())
    return descriptions
