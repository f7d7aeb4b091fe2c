"""Stage 4: the tokenizer of the train captions → tokenizer.pkl."""

from pathlib import Path

from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts, checkpoints
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError


def make_tokenizer(
    folder: Path,
    workdir: Path,
    split_seed: int = 0,
    min_count: int = 1,
    sentences: Path | None = None,
) -> list[Path]:
    """Fit the tokenizer on the train captions → `tokenizer.pkl`.

    One that the captioner of the folder was trained with is kept, unless `min_count` or
    `sentences` ask for another, see `Inputs.read`.

    Returns:
        the path, unless it was kept.
    """
    path = workdir / artifacts.TOKENIZER
    fitted = Inputs.read(folder, workdir, split_seed, min_count, sentences).tokenizer
    console.note(f"vocabulary size: {fitted.vocabulary_size}")
    if min_count == 1 and not sentences and _is_captioners(path, fitted):
        console.note(
            f"kept {path}: the captioner beside it was trained with it, by --sentences or "
            "--min-count, and not with the words of descriptions.txt alone"
        )
        return []
    return [artifacts.save_tokenizer(path, fitted)]


def _is_captioners(path: Path, fitted: Tokenizer) -> bool:
    """Whether a tokenizer is the captioner's beside it, made of more than the descriptions."""
    if not path.exists() or not checkpoints.captioners(path.parent):
        return False
    try:
        found = artifacts.load_tokenizer(path).vocabulary_hash
    except CaptioningError:  # it is to be replaced
        return False
    if found == fitted.vocabulary_hash:
        return False

    from captioning.decoders import captioner  # loads Keras

    record = captioner.read_record(checkpoints.find_captioner(path.parent))
    settings = record.get("settings")
    asked = isinstance(settings, dict) and ("sentences" in settings or "min_count" in settings)
    return asked and record.get("vocabulary_hash") == found
