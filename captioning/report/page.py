"""One self-contained HTML page of captions: scores, curves, and every image to look at and judge.

Pictures, styles and the script are inside, so that the page works from disk and asks no network
for anything, which its content security policy forbids besides. Texts from outside reach it as JSON
alone and are shown as text, whatever they hold.

Captions are judged as the reference's authors judged theirs: green (good), yellow (adequate) and
red (unacceptable). `marks` reads the judgements that the page exports.
"""

import base64
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from captioning.report.marks import MARKS, Z

THUMBNAIL = 160  # pixels: 1,000 photographs are about 9 MB in the page
_HERE = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Item:
    """An image of the page.

    Attributes:
        image: its id.
        caption: what the captioner says of it.
        references: what people say of it.
        thumbnail: a JPEG file's bytes, see `thumbnail`; None where the picture is missing.
        cider: the caption's own CIDEr-D, 0 to 10, by which the page sorts.
        candidates: other captions that were found, best first.
    """

    image: str
    caption: str
    references: Sequence[str]
    thumbnail: bytes | None
    cider: float
    candidates: Sequence[str] = ()


class Table(NamedTuple):
    """Figures under a title: (label, figure) in the order of the rows."""

    title: str
    rows: Sequence[tuple[str, int | float]]


def page(
    items: Sequence[Item],
    *,
    title: str,
    tables: Sequence[Table],
    curves: Mapping[str, Sequence[float]],
    settings: object,
) -> str:
    """The page's HTML, to be written as UTF-8.

    Args:
        items: the images, in the order in which the page shows them first.
        title: of the page.
        tables: the scores of all captions.
        curves: name → a number for each epoch, such as loss and val_loss; {} leaves them out.
        settings: how the scores were made, for JSON.
    """
    from jinja2 import Environment, FileSystemLoader  # a page alone needs it

    style, script = ((_HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    judged = [[item.image, item.caption] for item in items]
    data = {
        # the marks that a browser keeps belong to these captions of these images
        "key": "marks " + hashlib.sha256(json.dumps(judged).encode()).hexdigest(),
        "items": [dataclasses.asdict(item) | {"thumbnail": _base64(item)} for item in items],
        "settings": json.dumps(settings, indent=2, ensure_ascii=False),
        "marks": MARKS,
        "z": Z,
    }
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html.j2").render(
        title=title,
        tables=tables,
        chart=_chart(curves),
        data=data,
        style=style,
        script=script,
        hashes={"style": _policy_hash(style), "script": _policy_hash(script)},
    )


def thumbnail(picture: Image.Image) -> bytes:
    """An RGB picture as a small JPEG file."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80, optimize=True)
    return file.getvalue()


def _base64(item: Item) -> str | None:
    return item.thumbnail and base64.b64encode(item.thumbnail).decode()


def _policy_hash(code: str) -> str:
    """What a content security policy allows this code by, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _chart(curves: Mapping[str, Sequence[float]]) -> dict | None:
    """Where the template draws the curves, in a box of 600 by 200; numbers not finite are gaps."""
    finite = [y for curve in curves.values() for y in curve if math.isfinite(y)]
    if not finite:
        return None
    low, high, epochs = min(finite), max(finite), max(map(len, curves.values()))

    def place(i: int, y: float) -> str:
        across, up = i / max(1, epochs - 1), (y - low) / (high - low or 1)
        return f"{600 * across:.1f},{200 * (1 - up):.1f}"

    lines = {
        name: " ".join(place(i, y) for i, y in enumerate(curve) if math.isfinite(y))
        for name, curve in curves.items()
    }
    return {"low": low, "high": high, "epochs": epochs, "lines": lines}
