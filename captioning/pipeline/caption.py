"""Stage 5: captions of any images."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.data import images
from captioning.pipeline import artifacts, checkpoints
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError
from captioning.search import registry

CELL_WIDTH = 240  # pixels of a picture on a contact sheet

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from PIL.Image import Image

    from captioning.decoders.captioner import Captioner
    from captioning.encoders.loading import Encoder
    from captioning.search.captions import Caption


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
    attention: Path | None = None,
    how: dict | None = None,
) -> int:
    """Caption images and folders of images, and print a line `path<TAB>caption` for each image.

    Where several candidates of an image are asked for, a line
    `path<TAB>caption<TAB>score<TAB>score per word` each.

    Args:
        inputs: files and folders of images.
        workdir: where a captioner and its tokenizer are looked for.
        model: the captioner's file; None takes the best in `workdir`.
        tokenizer_file: None takes that of `workdir`.
        encoder_name: name or file of the encoder; None takes the one that the captioner's record
            names.
        output: a picture to draw, a contact sheet of all images with their captions.
        as_json: print a list of {"image", "caption", "candidates"} instead, when all is done;
            candidates are `Caption.record`, the best first.
        strict: see `images.batches`.
        attention: a picture to draw, where the decoder looked for each word; of one image.
        how: the `search` and its options, see `search.captions`; None is greedy search.

    Returns:
        the exit code: 3 if some files were no readable images, else 0.

    Raises:
        CaptioningError: if no image can be read, if captioner, tokenizer and encoder do not belong
            together or one of them cannot be had, or, with `strict`, at the first file that cannot
            be read; with `attention`, if there are several images, the decoder does not look, or
            `output` is the same file.
    """
    how = how or {"search": registry.DEFAULT}
    for picture, option in ((output, "--output"), (attention, "--attention")):
        if picture:
            images.check_suffix(picture, option)
    if output and attention and output.resolve() == attention.resolve():
        raise CaptioningError(f"expected two files for --output and --attention, found {output}")
    paths = _images_of(inputs)
    if attention and len(paths) != 1:
        raise CaptioningError(f"expected one image for --attention, found {len(paths):,}; name one")
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
    if attention and not (trained.decoder.looks and trained.decoder.config.tokens > 1):
        pooled = ", trained on pooled features" if trained.decoder.looks else ""
        raise CaptioningError(
            "expected a captioner whose decoder looks at places of the picture for --attention, "
            f"found the decoder {trained.decoder.name!r}{pooled}; train one that does "
            "(1_data_preprocessor.py --grid, 2_train_IC_model.py --decoder attention)"
        )
    encoder = _encoder_of(trained, encoder_name, path.parent)
    extract, record, tokens = encoder.extract, encoder.record, encoder.tokens
    if trained.takes_grid:
        extract, record = encoder.extract_grid, encoder.grid_record
        tokens = math.prod(encoder.grid)
    trained.check_features(encoder.dimension, record, tokens)
    found, skipped, maps = {}, {}, None
    with console.Progress(len(paths), "captions") as progress:
        for batch in images.batches(paths, encoder.size, 16, strict=strict):
            skipped |= batch.unreadable
            if batch.paths:
                features = extract(batch.pixels)
                names = [file.name for file in batch.paths]
                said = search.candidates(trained, tokenizer, features, keys=names, **how)
                found |= zip(batch.paths, said, strict=True)
                if attention:
                    maps = search.look(trained, tokenizer, features[0], said[0][0])
            if not as_json:
                for file in batch.paths:
                    _print(file, found[file], scores=how.get("candidates", 1) > 1)
            progress.update(len(batch.paths) + len(batch.unreadable))
    if as_json:
        print(json.dumps([_row(*image) for image in found.items()], indent=2, ensure_ascii=False))
    best = {file: said[0] for file, said in found.items()}
    search.tell_oddities(best.values(), trained.max_length)
    for file, reason in skipped.items():
        console.note(f"skipped {file}: {reason}")
    if not found:
        raise CaptioningError("expected at least one readable image, found none")
    written = [_draw(best, output)] if output else []
    if attention:
        written += [_draw_attention(*image, maps, attention) for image in best.items()]
    console.written(written, sys.stderr if as_json else sys.stdout)
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


def _print(file: Path, said: Sequence["Caption"], scores: bool) -> None:
    for caption in said:
        tail = f"\t{caption.score:.3f}\t{caption.per_word:.3f}" if scores else ""
        console.result(f"{file}\t{caption.sentence}{tail}")


def _row(file: Path, said: Sequence["Caption"]) -> dict:
    candidates = [caption.record for caption in said]
    return {"image": str(file), "caption": said[0].sentence, "candidates": candidates}


def _draw(captions: dict[Path, "Caption"], output: Path) -> Path:
    from captioning.report.contact_sheet import contact_sheet

    pictures = [(_thumbnail(path), caption.sentence) for path, caption in captions.items()]
    return _save(contact_sheet(pictures, width=CELL_WIDTH), output)


def _draw_attention(path: Path, caption: "Caption", maps: np.ndarray, output: Path) -> Path:
    from captioning.report.attention import attention_page

    return _save(attention_page(_thumbnail(path), caption.sentence.split(), maps), output)


def _thumbnail(path: Path) -> "Image":
    picture = images.load_rgb(path)
    picture.thumbnail((2 * CELL_WIDTH, 2 * CELL_WIDTH))  # a folder of photos must fit in memory
    return picture


def _save(page: "Image", output: Path) -> Path:
    with files.atomic(output) as temporary:
        page.save(temporary)
    return output
