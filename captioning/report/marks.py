"""The marks that a report's page exported: how many, and a contact sheet of the marked captions.

    python -m captioning.report.marks marks.csv --images Flicker8k_Dataset --output marked.png

Prints how many captions were found good (green), adequate (amber) and unacceptable (red), with 95 %
confidence intervals; the captions in the picture have these colours.
"""

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

from captioning.data import images
from captioning.data.ids import ImageIds
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, few, printable, refusing

MARKS = ("good", "adequate", "unacceptable")
# Green, amber and red that are legible on white and told apart with any colour vision.
INKS = {"good": "#00735c", "adequate": "#9a5b00", "unacceptable": "#b0123b"}
Z = 1.959963984540054  # of 95 %: the normal distribution's 97.5 % quantile
COLUMNS = ("image", "mark", "caption")
_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Marked(NamedTuple):
    """A row of the file: the image's id, one of `MARKS`, and the caption that was judged."""

    image: str
    mark: str
    caption: str


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, `count` of `total`, which is at least 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 1927.
    """
    share, extra = count / total, Z**2 / total
    middle = (share + extra / 2) / (1 + extra)
    half = Z / (1 + extra) * math.sqrt(share * (1 - share) / total + extra / total / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def read(path: Path) -> list[Marked]:
    """Read marks as the page exports them, also when a spreadsheet has saved them with semicolons.

    Raises:
        CaptioningError: if there is a row that is no mark, an image twice, or no mark at all.
    """
    with refusing(path, "the marks that a report's page exports"):
        text = path.read_bytes().decode("utf-8-sig")  # line ends within a caption as they are
        delimiter = ";" if text.partition("\n")[0].count(";") else ","
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header, lines = rows.fieldnames or [], []
        for row in rows:
            lines.append((rows.line_num, row))
    if not set(COLUMNS) <= set(header):
        raise CaptioningError(
            f"{path}: expected a first line {','.join(COLUMNS)}, found "
            f"{printable(','.join(header))!r}; export the marks from a report's page"
        )
    marks = {}
    for number, row in lines:
        marked = Marked(*(_unguarded(row[name] or "") for name in COLUMNS))
        if marked.mark not in MARKS or not marked.image:
            raise CaptioningError(
                f"{path}, line {number}: expected an image and {', '.join(MARKS[:-1])} or "
                f"{MARKS[-1]}, found {printable(marked.image)!r} and {printable(marked.mark)!r}; "
                "mend the line"
            )
        if marked.image in marks:
            raise CaptioningError(
                f"{path}, line {number}: expected each image once, found "
                f"{printable(marked.image)!r} again; delete one of the lines"
            )
        marks[marked.image] = marked
    if not marks:
        raise CaptioningError(f"{path}: expected marks, found none; mark some captions first")
    return list(marks.values())


def _unguarded(cell: str) -> str:
    """A cell without the apostrophe that keeps spreadsheets from running it as a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in (*_RUN_BY_SPREADSHEETS, "'") else cell


def tally(marks: list[Marked]) -> list[str]:
    """A line for each of `MARKS`: `good: 12 of 30, 40.0 % (24.6 to 57.7)`."""
    lines, total = [], len(marks)
    for name in MARKS:
        count = sum(marked.mark == name for marked in marks)
        low, high = (100 * bound for bound in wilson(count, total))
        share = f"{100 * count / total:.1f} % ({low:.1f} to {high:.1f})"
        lines.append(f"{name}: {count} of {total}, {share}")
    return lines


def draw(marks: list[Marked], folder: Path, output: Path) -> Path:
    """Draw the pictures of a folder under which there is a mark, with their captions coloured.

    Pictures that are missing or cannot be read are counted and said.

    Raises:
        CaptioningError: if there is no folder, or no picture of the marked images in it.
    """
    from captioning.report.contact_sheet import contact_sheet  # loads Matplotlib

    paths = images.list_files(folder)
    found = ImageIds(paths).group(paths)
    items, inks, missing = [], [], []
    for marked in marks:
        try:
            if marked.image not in found:
                raise images.UnreadableImage("no such file")
            picture = images.load_rgb(found[marked.image][0], at_least=240)
        except images.UnreadableImage as error:
            missing.append(f"{printable(marked.image)}: {error}")
            continue
        picture.thumbnail((480, 480))  # many photographs must fit in memory
        items.append((picture, marked.caption))
        inks.append(INKS[marked.mark])
    if not items:
        raise CaptioningError(
            f"expected pictures of the {len(marks)} marked images in {folder}, found none "
            f"({few(missing)}); name their folder with --images"
        )
    if missing:
        console.note(f"{len(missing)} marked images are left out ({few(missing)})")
    sheet = contact_sheet(items, inks=inks)
    with files.atomic(output) as temporary:
        sheet.save(temporary)
    return output


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("marks", type=Path, metavar="CSV", help="as a report's page exports it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--output", type=Path, metavar="PNG", help="the picture to draw")
    args = parser.parse_args()
    if bool(args.images) != bool(args.output):
        parser.error("--images and --output belong together")
    if args.output:
        images.check_suffix(args.output)
    marks = read(args.marks)
    for line in tally(marks):
        console.result(line)
    if args.output:
        console.written([draw(marks, args.images, args.output)])


if __name__ == "__main__":
    console.run(main)
