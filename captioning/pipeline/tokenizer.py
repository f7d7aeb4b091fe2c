"""Stage 4: the tokenizer of the train captions → tokenizer.pkl."""

from pathlib import Path

from captioning.pipeline import artifacts
from captioning.pipeline.inputs import Inputs
from captioning.runtime import console


def make_tokenizer(folder: Path, workdir: Path, split_seed: int = 0) -> list[Path]:
    """Fit the tokenizer on the train captions → `tokenizer.pkl`."""
    tokenizer = Inputs.read(folder, workdir, split_seed).tokenizer
    console.note(f"vocabulary size: {tokenizer.vocabulary_size}")
    return [artifacts.save_tokenizer(workdir / artifacts.TOKENIZER, tokenizer)]
