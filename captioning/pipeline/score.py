"""Stage 3: captions of a split from its features, and their scores."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.data import text
from captioning.data.captions import stack_features
from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts, checkpoints
from captioning.pipeline import report as pages
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console, files, versions
from captioning.runtime.errors import CaptioningError
from captioning.search import registry as search

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.decoders.captioner import Captioner


def score(
    folder: Path | Sequence[Path],
    workdir: Path,
    split_seed: int,
    split: str,
    model: Path | None,
    captioners: Path | None = None,
    allow_seen: bool = False,
    report_file: Path | None = None,
    asked: Collection[str] = (),
    how: dict | None = None,
) -> list[Path]:
    """Caption a split from its features and print its scores, see `scores.report`.

    Args:
        folder: the dataset's, or those of several.
        workdir: holds `features.pkl` and `descriptions.txt`, and `features-grid.hdf5` for a
            captioner that was trained on grids; the files written go there.
        split_seed: see `splits.find_splits`.
        split: "train", "dev" or "test".
        model: the captioner's file; None takes the best in `captioners`.
        captioners: a folder; None is `workdir`.
        allow_seen: warn, instead of raising, where the encoder was trained on images of the split.
        report_file: a page to write besides, see `pipeline.report`.
        asked: optional scores to compute, see `scores.report`.
        how: the `search` and its options, see `search.captions`; None is greedy search.

    Returns:
        the paths written: scores, captions and, where more than one of an image was asked for,
        candidates; the page.

    Raises:
        CaptioningError: if a file is missing or damaged, or if captioner, features and captions
            do not belong together.
    """
    if report_file:
        pages.check_output(report_file)
    inputs = Inputs.read(folder, workdir, split_seed)
    datasets = inputs.source.names
    # what is wrong with it shows before Keras is loaded
    found = artifacts.load_features(workdir, datasets=datasets)
    path = model or checkpoints.find_captioner(captioners or workdir)
    checkpoints.check_shipped(path)

    console.announce_device()

    from captioning.decoders import captioner
    from captioning.search import captions

    checkpoints.tell_choice(path, asked_for=model is not None)
    trained = captioner.load(path)
    tokenizer = _tokenizer_of(trained, inputs.tokenizer, path.parent)
    if trained.takes_grid:
        found = artifacts.load_features(workdir, grid=True, datasets=datasets)
    features, encoder, seen = found
    flattered = inputs.check_unseen(split, seen, allow_seen)
    ids = inputs.usable(split, features)
    matrix = stack_features(features, ids, trained.decoder.looks)
    del found, features
    trained.check_features(matrix.shape[-1], encoder, math.prod(matrix.shape[1:-1]))
    how = how or {"search": search.DEFAULT}
    every = captions.candidates(trained, tokenizer, matrix, keys=ids, **how)
    found = dict(zip(ids, every, strict=True))
    said = {key: best for key, (best, *_) in found.items()}
    captions.tell_oddities(said.values(), trained.max_length, least=2)

    result = {"model": str(path), "split": split, "images": len(ids), "search": how}
    result |= {"training": trained.record.get("settings"), artifacts.SEEN: flattered}
    result |= reported({key: caption.words for key, caption in said.items()}, inputs, asked)
    result |= {"model_sha256": files.sha256(path), "encoder": encoder}
    result |= {"versions": versions.installed()}
    sentences = {key: caption.sentence for key, caption in said.items()}
    written = [
        files.write_json(workdir / f"bleu-{split}.json", result),
        files.write_json(workdir / f"captions-{split}.json", sentences),
    ]
    candidates = workdir / f"candidates-{split}.json"
    if how.get("candidates", 1) > 1:
        rows = {key: [caption.record for caption in row] for key, row in found.items()}
        written.append(files.write_json(candidates, rows))
    elif candidates.exists():
        console.note(
            f"{candidates} is of an earlier run and stays as it is: --candidates writes it anew"
        )
    if report_file:
        written.append(pages.write(report_file, inputs, found, result))
    return written


def reported(
    words: Mapping[str, Sequence[str]], inputs: Inputs, asked: Collection[str] = ()
) -> dict[str, Any]:
    """Print and return the scores of captions under every protocol, and what they say.

    Args:
        words: image id → words, `endseq` included where reached.
        asked: see `score`.
    """
    from captioning.scores.report import report, report_language

    said, references = words, {key: inputs.descriptions[key] for key in words}
    if inputs.tokenizer.text != text.REFERENCE:  # the figures of cleaned text stay comparable
        said = {key: _cleaned(own) for key, own in words.items()}
        references = {key: list(map(text.clean, own)) for key, own in references.items()}
    coco = inputs.coco_references(words)
    result = {"text": inputs.tokenizer.text}
    result |= report(said, references, coco and (words, coco), asked)
    train = [inputs.descriptions[k] for k in inputs.splits["train"] if k in inputs.descriptions]
    return result | {"language": report_language(words, inputs.descriptions, train)}


def _cleaned(words: Sequence[str]) -> list[str]:
    """A caption as the reference would have cleaned it, with the end token where it had one."""
    ended = list(words[-1:]) == [text.END]
    return text.clean(" ".join(words)).split() + [text.END] * ended  # `clean` drops all markers


def _tokenizer_of(captioner: "Captioner", fitted: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer a captioner was trained with: the one fitted here, or that of its folder.

    Raises:
        CaptioningError: if neither has its vocabulary, or the descriptions are of another text.
    """
    beside = folder / artifacts.TOKENIZER
    try:
        fitted.check_fits(*captioner.vocabulary)
    except CaptioningError:
        if not beside.exists() or captioner.vocabulary[2] not in (None, fitted.text):
            raise
        tokenizer = artifacts.load_tokenizer(beside)
        tokenizer.check_fits(*captioner.vocabulary)
        console.note(f"word ids: from {beside}; descriptions.txt gives others")
        return tokenizer
    return fitted
