"""Captions in a table: the published one of Flickr8k, Kaggle's, and those that resemble them.

A table is recognised by what stands in it: a column of picture names, one of captions, and
others, which are passed over.
"""

import csv
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from captioning.data import text
from captioning.data.ids import is_picture_name
from captioning.data.layouts.layout import (
    NUMBER,
    TEXT_FOLDERS,
    Captions,
    Layout,
    first_existing,
    gather,
)
from captioning.runtime.errors import CaptioningError, printable

_PUBLISHED = re.compile(r"(?P<name>.*?#\d+)(?:\s+(?P<caption>.*))?$")
_PLAIN = re.compile(r"(?P<name>[^\s,;|\"]+)\s+(?P<caption>\S.*)$")  # name.jpg A caption
_DELIMITERS = ",;|\t"
_NAME_WORDS = {
    *("image", "images", "name", "file", "picture", "photo", "img", "path", "id"),
    *("imagename", "filename", "imagefile", "imageid", "imagepath", "filepath", "imgname"),
}
_CAPTION_WORDS = {
    *("caption", "captions", "description", "descriptions", "comment", "text", "sentence"),
    *("sentences", "title", "label", "captiontext"),
}
_NO_CAPTION = re.compile(r"\s*(\d*|train|val|dev|test|restval)\s*$", re.IGNORECASE)
_NUMBERED = re.compile(r"\s*(\d{1,3})\s+(\S.*)", re.DOTALL)
_SAMPLE = 200  # lines that decide what a file is
_LONGEST_QUOTE = 50  # lines within quotes; more of them were never closed


class TableLayout(Layout):
    """A layout whose captions are one file, which may be any table of names and captions.

    Attributes:
        caption_names: that it may have, in the dataset's folder or in Flickr8k_text/.
    """

    caption_names: tuple[str, ...]

    @property
    def caption_file(self) -> Path | None:
        """The table; None if there is none."""
        paths = (self.folder / sub / name for name in self.caption_names for sub in TEXT_FOLDERS)
        return first_existing(paths)

    def captions(self, pictures: Iterable[Path]) -> Captions:
        """What the table holds, see `parse_captions`."""
        return parse_captions(self.caption_file, pictures)


def parse_captions(path: str | os.PathLike, pictures: Iterable[str | os.PathLike] = ()) -> Captions:
    """Read a caption file.

    Known are the published `name.jpg#0<TAB>caption`, and tables with a column of picture names
    and one of captions, such as Kaggle's `image,caption`: delimited by comma, semicolon, bar or
    tab, quoted as in RFC 4180 or not at all, with a header or without, with more columns.

    Args:
        pictures: names of the dataset's pictures, which decide about ids: see `ids.ImageIds`.

    Raises:
        CaptioningError: when the file is of no known kind, or holds no caption at all.
    """
    mended = []
    rows = _rows(text.read_text(path).split("\n"), path, mended)
    found = gather(path, ((f"line {n}", label, caption) for n, label, caption in rows), pictures)
    if not found.captions:
        raise CaptioningError(
            f"{path}: expected lines `name.jpg#0<TAB>caption` or `image,caption`, found none"
        )
    found.complaints.extend(
        f"{path}, line {number}: expected a separator before the caption, found none; read as if "
        "it were there"
        for number in mended
    )
    return found


def _rows(
    lines: Sequence[str], path: str | os.PathLike, mended: list[int]
) -> Iterable[tuple[int, str, str]]:
    """Line number, label and caption of each caption; a label is a name, perhaps with its #0.

    The numbers of lines whose caption had to be told from the number before it go to `mended`.
    """
    sample = [line for line in lines if line.strip()][:_SAMPLE]
    if _most(_PUBLISHED.match(line.strip()) for line in sample):
        return _matched(_PUBLISHED, lines)
    for delimiter in _DELIMITERS:
        table = _Table.recognise(sample, delimiter, path)
        if table:
            return table.rows(lines, mended)
    if _most(_PLAIN.match(line.strip()) for line in sample):
        return _matched(_PLAIN, lines)
    first = next((n for n, line in enumerate(lines, start=1) if line.strip()), 1)
    raise CaptioningError(
        f"{path}, line {first}: expected `name.jpg#0<TAB>caption`, or a table with a column of "
        f"image names and one of captions, found {printable(lines[first - 1])!r}; write a first "
        "line `image,caption` over these columns"
    )


def _most(found: Iterable[object]) -> bool:
    found = list(map(bool, found))
    return bool(found) and sum(found) > 0.8 * len(found)


def _matched(pattern: re.Pattern, lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            match = pattern.match(line.strip()) or _PLAIN.match(line.strip())
            label, caption = match.group("name", "caption") if match else ("", "")
            yield number, label.strip(), (caption or "").strip()


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table of captions: columns before the caption, the caption, columns behind it.

    Attributes:
        before, behind: how many columns there are; what lies between is the caption, which may
            hold the delimiter unquoted.
        name: the column of picture names, counted from the end where it lies behind the caption.
        header: whether the first row names the columns by words that we do not know.
    """

    delimiter: str
    before: int
    behind: int
    name: int
    header: bool

    @classmethod
    def recognise(
        cls, sample: Sequence[str], delimiter: str, path: str | os.PathLike
    ) -> "_Table | None":
        """The table that these lines begin; None if they are no table with this delimiter.

        Raises:
            CaptioningError: if there is a column of names, but which one holds the captions is
                not to be told.
        """
        rows = [fields for _, fields in _records(sample, delimiter)]
        headers = [fields for fields in rows if _is_header(fields)]
        if not headers and not _most(len(fields) > 1 for fields in rows):
            return None
        # Without headers the first row may be one all the same: it says nothing of those below
        body = [fields for fields in rows[not headers and len(rows) > 1 :] if len(fields) > 1]
        body = [fields for fields in body if fields not in headers]
        width = min(map(len, [*body, *headers[:1]]), default=0)

        def holds(test: Callable[[str], object], i: int) -> bool:
            return bool(body) and _most(test(fields[i]) for fields in body)

        if headers:
            words = list(map(_plain, headers[0]))
            named = [i for i, word in enumerate(words) if word in _NAME_WORDS]
            before = next(i for i, word in enumerate(words) if word in _CAPTION_WORDS)
            pictured = [i for i in named if i < width and holds(_is_label, i)]
            name = (pictured or named)[0]
            behind = len(words) - 1 - before
            return cls(delimiter, before, behind, name - len(words) * (name > before), False)
        places = {}  # of columns that are not the caption: whether they hold names
        before, behind = 0, 0
        while before + 1 < width and (holds(_is_label, before) or holds(_is_empty, before)):
            places[before] = holds(_is_label, before)
            before += 1
        while before + behind + 1 < width and (
            holds(_is_label, -1 - behind) or holds(_is_empty, -1 - behind)
        ):
            behind += 1
            places[-behind] = holds(_is_label, -behind)
        name = next((i for i, is_name in places.items() if is_name), None)
        if name is None:
            return None
        header = not _is_label(rows[0][name])
        between = rows[0][before : len(rows[0]) - behind]
        # without a header they may be commas within captions, but not as many in each
        alike = len(body) > 2 and len({len(fields) for fields in body}) == 1
        if len(between) > 1 and (header or alike):
            raise CaptioningError(
                f"{path}: expected one column of captions beside the image names, found "
                f"{len(between)} ({', '.join(map(printable, between))}); write a first line over "
                "the columns that calls one 'image' and one 'caption'"
            )
        return cls(delimiter, before, behind, name, header)

    def rows(self, lines: Sequence[str], mended: list[int]) -> Iterator[tuple[int, str, str]]:
        """Line number, label and caption of each row."""
        records = _records(lines, self.delimiter)
        if self.header:
            next(records)
        for number, fields in records:
            if _is_header(fields):  # files joined one behind the other hold several
                continue
            if len(fields) == self.before + self.behind and (parts := self._unseparated(fields)):
                fields[self.before - 1 : self.before] = parts
                mended.append(number)
            if len(fields) <= self.before + self.behind:
                yield number, "", ""
                continue
            caption = self.delimiter.join(fields[self.before : len(fields) - self.behind])
            yield number, fields[self.name].strip(), " ".join(caption.split())

    def _unseparated(self, fields: Sequence[str]) -> Sequence[str]:
        """A caption's number and the caption, where no delimiter parts them (Flickr30k)."""
        place = self.before - 1
        match = _NUMBERED.match(fields[place]) if place >= 0 and place != self.name else None
        return match.groups() if match else ()


def _plain(field: str) -> str:
    return re.sub(r"[\W_]", "", field).lower()


def _is_header(fields: Sequence[str]) -> bool:
    """Whether a row names the columns."""
    words = set(map(_plain, fields))
    return bool(words & _NAME_WORDS and words & _CAPTION_WORDS)


def _is_label(field: str) -> bool:
    return is_picture_name(NUMBER.sub("", field.strip()))


def _is_empty(field: str) -> bool:
    """Whether a field is a number, the name of a split, or nothing."""
    return _NO_CAPTION.match(field) is not None


def _records(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, and fields, of each record that is not blank.

    A field in quotes may go over several lines (RFC 4180); a quote that is never closed, or
    closed by one of another record, belongs to its line alone.
    """
    place = 0
    while place < len(lines):
        record, used = _fields(lines[place], delimiter, strict=True), 1
        while record is None and place + used < len(lines) and used < _LONGEST_QUOTE:
            following = lines[place + used]
            if _is_label(following.partition(delimiter)[0].strip('" ')):
                break
            used += 1
            record = _fields("\n".join(lines[place : place + used]), delimiter, strict=True)
        if record is None:
            record, used = _fields(lines[place], delimiter, strict=False) or [], 1
        if any(map(str.strip, record)) or (not record and lines[place].strip()):
            yield place + 1, record
        place += used


def _fields(line: str, delimiter: str, strict: bool) -> list[str] | None:
    """The fields of one record, or None if it is not whole."""
    try:
        records = list(csv.reader(line.splitlines(True), delimiter=delimiter, strict=strict))
    except csv.Error:  # a quote left open; not strict: a field beyond any caption's length
        return None
    return records[0] if len(records) == 1 else None if records else []
