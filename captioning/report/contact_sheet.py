"""Pictures with their captions beneath, on one page.

    python -m captioning.report.contact_sheet scenes.png photographs.png --output captions.png

puts pages one below the other.
"""

import functools
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from captioning.data import images
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

PAPER, FRAME, INK = "white", (222, 222, 222), (40, 40, 40)
FONT_SIZE = 14
MARGIN = 14  # pixels around the page and between cells
CAPTION_GAP = 8  # pixels between a picture and its caption


def contact_sheet(
    items: Sequence[tuple[Image.Image, str]],
    columns: int | None = None,
    width: int = 240,
    inks: Sequence[str] | None = None,
) -> Image.Image:
    """Lay pictures out in an even grid, each with its caption wrapped beneath.

    A picture is reduced to fit a square and never enlarged; a row is as high as it needs to be.

    Args:
        items: RGB pictures and captions, at least one, in reading order.
        columns: cells in a row; by default about as many as make a page of 4:3.
        width: of a cell in pixels.
        inks: a colour for each caption, `#rrggbb`; by default nearly black.

    Returns:
        The page, RGB.
    """
    fonts = [load_font(caption) for _, caption in items]
    if missing := missing_letters(caption for _, caption in items):
        console.note(
            f"no installed font has the letters {' '.join(missing[:10])}, which will be boxes in "
            "the picture; install one that has, such as Noto Sans of that script"
        )
    line_height = max(sum(font.getmetrics()) for font in fonts) + 3
    thumbnails = [_thumbnail(image, width) for image, _ in items]
    texts = [wrap(c, font, width) for (_, c), font in zip(items, fonts, strict=True)]
    columns = min(columns or math.ceil(math.sqrt(len(items) * 4 / 3)), len(items))
    rows = [range(i, min(i + columns, len(items))) for i in range(0, len(items), columns)]
    picture_heights = [max(thumbnails[i].height for i in row) for row in rows]
    text_heights = [line_height * max(len(texts[i]) for i in row) for row in rows]
    height = sum(picture_heights) + sum(text_heights) + len(rows) * (CAPTION_GAP + MARGIN) + MARGIN
    page = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, height), PAPER)
    draw = ImageDraw.Draw(page)
    top = MARGIN
    for row, picture_height, text_height in zip(rows, picture_heights, text_heights, strict=True):
        for column, i in enumerate(row):
            left, thumbnail = MARGIN + column * (width + MARGIN), thumbnails[i]
            x = left + (width - thumbnail.width) // 2
            y = top + picture_height - thumbnail.height  # on its caption, whatever its shape
            corner = (x + thumbnail.width, y + thumbnail.height)
            draw.rectangle(((x - 1, y - 1), corner), outline=FRAME)  # pale pictures end somewhere
            page.paste(thumbnail, (x, y))
            for number, line in enumerate(texts[i]):
                baseline = top + picture_height + CAPTION_GAP + number * line_height
                ink = inks[i] if inks else INK
                draw.text((left + width / 2, baseline), line, ink, fonts[i], anchor="ma")
        top += picture_height + CAPTION_GAP + text_height + MARGIN
    return page


def stack(pages: Sequence[Image.Image]) -> Image.Image:
    """Pages one below the other, as wide as the widest."""
    stacked = Image.new("RGB", (max(p.width for p in pages), sum(p.height for p in pages)), PAPER)
    top = 0
    for page in pages:
        stacked.paste(page, ((stacked.width - page.width) // 2, top))
        top += page.height
    return stacked


def load_font(text: str = "") -> ImageFont.FreeTypeFont:
    """A font that has the letters of a text, on one line of any script.

    DejaVu Sans, which Matplotlib brings (Latin, Greek, Cyrillic, Arabic), or one that is installed.
    Where none has them all, DejaVu Sans: see `missing_letters`.
    """
    return ImageFont.truetype(_find_font(_needed(text))[0], FONT_SIZE)


def missing_letters(texts: Iterable[str]) -> list[str]:
    """The letters of texts that `load_font` finds no font for, sorted."""
    return sorted(map(chr, set().union(*(_find_font(_needed(text))[1] for text in texts))))


def _needed(text: str) -> frozenset[int]:
    return frozenset(map(ord, text)) - _unseen()


@functools.cache
def _unseen() -> frozenset[int]:
    """Characters that need no picture: spaces, joiners."""
    return frozenset(i for i in range(0x2100) if not chr(i).isprintable() or chr(i).isspace())


@functools.cache
def _find_font(letters: frozenset[int]) -> tuple[Path, frozenset[int]]:
    """The file of a font, and which of the letters it lacks."""
    usual = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    missing = letters - _letters_of(usual)
    if missing:
        from matplotlib import font_manager  # looks at every font, which takes a second

        for path in sorted(map(Path, font_manager.findSystemFonts())):
            if letters <= _letters_of(path):
                return path, frozenset()
    return usual, missing


@functools.cache
def _letters_of(path: Path) -> frozenset[int]:
    """The characters of a font; none where Pillow cannot draw with it."""
    from matplotlib.ft2font import FT2Font

    try:
        ImageFont.truetype(path, FONT_SIZE)
        return frozenset(FT2Font(os.fspath(path)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _thumbnail(image: Image.Image, width: int) -> Image.Image:
    thumbnail = image.convert("RGB")  # a copy: `thumbnail` works in place
    thumbnail.thumbnail((width, width), Image.Resampling.LANCZOS)
    return thumbnail


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` into lines at most `width` pixels long: at spaces, or within a longer word."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE")
    parser.add_argument("--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args()
    images.check_suffix(args.output)
    pages = []
    for path in args.pages:
        try:
            pages.append(images.load_rgb(path))
        except images.UnreadableImage as error:
            raise CaptioningError(f"{path}: {error}; name a picture") from None
    stacked = stack(pages)
    with files.atomic(args.output) as temporary:
        stacked.save(temporary)
    console.written([args.output])


if __name__ == "__main__":
    console.run(main)
