"""Stage 5: captions of any images."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data import images
from captioning.pipeline import artifacts, checkpoints
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

CELL_WIDTH = 240  # pixels of a picture on a contact sheet

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.decoders.captioner import Captioner
    from captioning.encoders.loading import Encoder


def caption(
    inputs: Sequence[Path],
    workdir: Path,
    *,
    model: Path | None,
    tokenizer_file: Path | None,
    encoder_name: str | None,
    output: Path | None,
    as_json: bool,
    strict: bool = False,
) -> int:
    """Caption images and folders of images, and print a line `path<TAB>caption` for each image.

    Args:
        inputs: files and folders of images.
        workdir: where a captioner and its tokenizer are looked for.
        model: the captioner's file; None takes the best in `workdir`.
        tokenizer_file: None takes that of `workdir`.
        encoder_name: name or file of the encoder; None takes the one that the captioner's record
            names.
        output: a picture to draw, a contact sheet of all images with their captions.
        as_json: print a list of {"image", "caption"} instead, when all is done.
        strict: see `images.batches`.

    Returns:
        the exit code: 3 if some files were no readable images, else 0.

    Raises:
        CaptioningError: if no image can be read, if captioner, tokenizer and encoder do not belong
            together or one of them cannot be had, or, with `strict`, at the first file that cannot
            be read.
    """
    if output:
        images.check_suffix(output)
    paths = _images_of(inputs)
    tokenizer_file = tokenizer_file or workdir / artifacts.TOKENIZER
    tokenizer = artifacts.load_tokenizer(tokenizer_file)
    path = model or checkpoints.find_captioner(workdir)
    checkpoints.check_shipped(path, tokenizer_file)
    console.announce_device()

    from captioning.decoders import captioner
    from captioning.search import captions as search

    checkpoints.tell_choice(path, asked_for=model is not None)
    trained = captioner.load(path)
    tokenizer.check_fits(*trained.vocabulary)
    encoder = _encoder_of(trained, encoder_name, path.parent)
    extract, record, tokens = encoder.extract, encoder.record, encoder.tokens
    if trained.takes_grid:
        extract, record = encoder.extract_grid, encoder.grid_record
        tokens = math.prod(encoder.grid)
    trained.check_features(encoder.dimension, record, tokens)
    captions, skipped = {}, {}
    with console.Progress(len(paths), "captions") as progress:
        for batch in images.batches(paths, encoder.size, 16, strict=strict):
            skipped |= batch.unreadable
            if batch.paths:
                found = search.write(trained, tokenizer, extract(batch.pixels))
                captions |= {
                    path: caption.sentence for path, caption in zip(batch.paths, found, strict=True)
                }
            if not as_json:
                for file in batch.paths:
                    console.result(f"{file}\t{captions[file]}")
            progress.update(len(batch.paths) + len(batch.unreadable))
    if as_json:
        rows = [{"image": str(file), "caption": line} for file, line in captions.items()]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    for file, reason in skipped.items():
        console.note(f"skipped {file}: {reason}")
    if not captions:
        raise CaptioningError("expected at least one readable image, found none")
    if output:
        console.written([_draw(captions, output)], sys.stderr if as_json else sys.stdout)
    return console.SOME_SKIPPED if skipped else console.DONE


def _images_of(inputs: Sequence[Path]) -> list[Path]:
    paths = []
    for path in inputs:
        if not path.exists():
            raise CaptioningError(f"expected an image or a folder at {path}, found neither")
        paths += images.list_files(path) if path.is_dir() else [path]
    return list(dict.fromkeys(paths))


def _encoder_of(network: "Captioner", name: str | None, folder: Path) -> "Encoder":
    """The encoder a captioner was trained with, as its record has it.

    `name` may say where its weights are now, and names the encoder of models that carry no record.
    `folder` is the captioner's: a file of weights may have been copied with it.
    """
    from captioning.encoders import loading, sources

    record = network.record.get("encoder")
    published = name in sources.NAMES
    if record and published and name != record["name"]:
        given = {"name": name}
        network.check_features(sources.dimension(name), given)  # refuses, before a download
    if record and (not name or published or record["sha256"]):
        if name and not published:
            record, folder = record | {"file": name}, None
        try:
            return loading.from_record(record, beside=folder)
        except (KeyError, TypeError, ValueError) as error:  # a record as untrusted as its file
            raise CaptioningError(
                f"the captioner's record of its encoder lacks {error}, or holds a wrong one; "
                "name the encoder with --encoder"
            ) from None
    name = name or sources.DEFAULT
    if name in sources.NAMES:  # refused, if at all, before it is downloaded
        network.check_features(sources.dimension(name), None)
    return loading.load(name)


def _draw(captions: dict[Path, str], output: Path) -> Path:
    from captioning.report.contact_sheet import contact_sheet

    pictures = []
    for path, line in captions.items():
        picture = images.load_rgb(path)
        picture.thumbnail((2 * CELL_WIDTH, 2 * CELL_WIDTH))  # a folder of photos must fit in memory
        pictures.append((picture, line))
    sheet = contact_sheet(pictures, width=CELL_WIDTH)
    with files.atomic(output) as temporary:
        sheet.save(temporary)
    return output
