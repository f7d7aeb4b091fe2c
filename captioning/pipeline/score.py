"""Stage 3: captions of a split from its features, and their scores."""

from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data.captions import stack_features
from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts, checkpoints
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console, files, versions
from captioning.runtime.errors import CaptioningError
from captioning.search import registry as search

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.decoders.captioner import Captioner


def score(
    folder: Path,
    workdir: Path,
    split_seed: int,
    split: str,
    model: Path | None,
    captioners: Path | None = None,
    allow_seen: bool = False,
    how: dict | None = None,
) -> list[Path]:
    """Caption a split from its features and print its scores, see `scores.report`.

    Args:
        folder: the dataset's.
        workdir: holds `features.pkl` and `descriptions.txt`; the files written go there.
        split_seed: see `splits.find_splits`.
        split: "train", "dev" or "test".
        model: the captioner's file; None takes the best in `captioners`.
        captioners: a folder; None is `workdir`.
        allow_seen: warn, instead of raising, where the encoder was trained on images of the split.
        how: the `search` and its options, see `search.captions`; None is greedy search.

    Returns:
        the paths written: scores, captions and, where more than one of an image was asked for,
        candidates.

    Raises:
        CaptioningError: if a file is missing or damaged, or if captioner, features and captions
            do not belong together.
    """
    inputs = Inputs.read(folder, workdir, split_seed)
    features, encoder, seen = artifacts.load_features(workdir)
    flattered = inputs.check_unseen(split, seen, allow_seen)
    ids = inputs.usable(split, features)
    path = model or checkpoints.find_captioner(captioners or workdir)
    checkpoints.check_shipped(path)

    console.announce_device()

    from captioning.decoders import captioner
    from captioning.scores.report import report
    from captioning.search import captions

    checkpoints.tell_choice(path, asked_for=model is not None)
    trained = captioner.load(path)
    tokenizer = _tokenizer_of(trained, inputs.tokenizer, path.parent)
    matrix = stack_features(features, ids)
    del features
    trained.check_features(matrix.shape[1], encoder)
    how = how or {"search": search.DEFAULT}
    found = captions.candidates(trained, tokenizer, matrix, keys=ids, **how)
    said = {key: best for key, (best, *_) in zip(ids, found, strict=True)}
    captions.tell_oddities(said.values(), trained.max_length, least=2)

    result = {"model": str(path), "split": split, "images": len(ids), "search": how}
    result |= {"training": trained.record.get("settings"), artifacts.SEEN: flattered}
    words = {key: caption.words for key, caption in said.items()}
    result |= report(words, inputs.descriptions)
    result |= {"model_sha256": files.sha256(path), "encoder": encoder}
    result |= {"versions": versions.installed()}
    sentences = {key: caption.sentence for key, caption in said.items()}
    written = [
        files.write_json(workdir / f"bleu-{split}.json", result),
        files.write_json(workdir / f"captions-{split}.json", sentences),
    ]
    if how.get("candidates", 1) > 1:
        rows = {key: [c.record for c in row] for key, row in zip(ids, found, strict=True)}
        written.append(files.write_json(workdir / f"candidates-{split}.json", rows))
    return written


def _tokenizer_of(captioner: "Captioner", fitted: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer a captioner was trained with: the one fitted here, or that of its folder.

    Raises:
        CaptioningError: if neither has its vocabulary.
    """
    vocabulary = captioner.vocabulary_size, captioner.record.get("vocabulary_hash")
    beside = folder / artifacts.TOKENIZER
    try:
        fitted.check_fits(*vocabulary)
    except CaptioningError:
        if not beside.exists():
            raise
        tokenizer = artifacts.load_tokenizer(beside)
        tokenizer.check_fits(*vocabulary)
        console.note(f"word ids: from {beside}; descriptions.txt gives others")
        return tokenizer
    return fitted
