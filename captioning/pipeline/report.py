"""Stage 3, when asked: the page that shows every caption of a split, see `report.page`."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data import dataset, images, text
from captioning.pipeline.checkpoints import captioner_name
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, few, printable, refusing
from captioning.scores import cider
from captioning.scores.language import LABELS
from captioning.scores.registry import COCO, SCORES

if TYPE_CHECKING:
    from captioning.search.captions import Caption


def check_output(output: Path) -> None:
    """Raise `CaptioningError` if a page that is to be written has the suffix of none."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise CaptioningError(f"expected --report to end in .html, found {str(output)!r}")


def write(
    output: Path,
    inputs: Inputs,
    found: Mapping[str, Sequence["Caption"]],
    result: Mapping,
) -> Path:
    """Write the page of a split's captions; `output` is the path returned.

    Pictures that are missing or cannot be read are counted and said, and shown as empty places.

    Args:
        inputs: the dataset's pictures and captions as people wrote them; where it has none, the
            cleaned ones are shown.
        found: image id → what the captioner says, the best first.
        result: what `bleu-dev.json` holds.
    """
    from captioning.report.page import Item, page

    source, descriptions = inputs.source, inputs.descriptions
    written = _written_captions(source)
    words = {key: said[0].words for key, said in found.items()}
    coco = text.coco_all({key: written[key] for key in words}) if "coco" in result else None
    own = cider.each(words, coco or descriptions)
    thumbnails = _thumbnails(source, list(found))
    items = [
        Item(
            key,
            best.sentence,
            written.get(key, descriptions[key]),
            thumbnails.get(key),
            score,
            [caption.sentence for caption in others],
        )
        for (key, (best, *others)), score in zip(found.items(), own, strict=True)
    ]
    html = page(
        items,
        title=f"Captions of the {result['split']} split",
        tables=_tables(result),
        curves=_curves(Path(result["model"])),
        settings=result,
    )
    return files.write_text(output, html)


def _written_captions(source: dataset.Dataset) -> Mapping[str, list[str]]:
    try:
        return source.captions
    except CaptioningError:
        console.note(f"report: {source.folder} holds no captions; the cleaned ones are shown")
        return {}


def _thumbnails(source: dataset.Dataset, ids: Sequence[str]) -> dict[str, bytes]:
    """Image id → JPEG, of the pictures that there are."""
    from captioning.report.page import THUMBNAIL, thumbnail

    def load(key: str) -> bytes | str:
        try:
            return thumbnail(images.load_rgb(paths[key][0], at_least=2 * THUMBNAIL))
        except images.UnreadableImage as error:
            return str(error)

    paths = source.image_ids.group(source.pictures)
    found, missing = {}, [f"{printable(key)}: no such file" for key in ids if key not in paths]
    present = [key for key in ids if key in paths]
    with console.Progress(len(present), "thumbnails") as progress:
        for key, made in images.ahead(load, present, workers=4, count=32):
            if isinstance(made, bytes):
                found[key] = made
            else:
                missing.append(f"{printable(key)}: {made}")
            progress.update()
    if missing:
        console.note(
            f"report: {len(missing)} of {len(ids)} images are shown without a picture "
            f"({few(missing)}); --dataset names the folder that holds them"
        )
    return found


def _tables(result: Mapping) -> list:
    """A table for each protocol, and one of what the captions say."""
    from captioning.report.page import Table

    tables = []
    for registry, found in ((SCORES, result), (COCO, result.get("coco", {}))):
        for name, score in registry.items():
            figures = zip(score.labels, score.figures(found.get(name)), strict=True)
            rows = [(label, figure) for label, figure in figures if figure is not None]
            if rows and (score.title or not tables):
                tables.append(Table(score.title.rstrip(":"), rows))
            elif rows:
                tables[-1].rows.extend(rows)
    said = result.get("language", {}).items()
    if rows := [(LABELS[key], figure) for key, figure in said if figure is not None]:
        tables.append(Table("what the captions say", rows))
    return tables


def _curves(captioner: Path) -> dict[str, list[float]]:
    """Loss and val_loss by epoch of the run that left a captioner; {} where that is not to be told.

    A history that lies beside it may be of another run: one of its epochs has to have left a
    captioner of this name.
    """
    from captioning.runtime.training import HISTORY  # loads Keras

    path = captioner.with_name(HISTORY)
    if not path.exists():
        return {}
    try:
        with refusing(path, "numbers of a training's epochs"):
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
            curves = {name: [row[name] for row in rows] for name in ("loss", "val_loss")}
            names = [captioner_name(row | {"epoch": int(row["epoch"])}) for row in rows]
    except CaptioningError as error:
        console.note(f"report: no curves: {error}")
        return {}
    if captioner.name not in names:
        console.note(f"report: no curves: {path} tells of another run than {captioner.name}'s")
        return {}
    return curves
