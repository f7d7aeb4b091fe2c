"""Sentences without pictures, from which a decoder first learns the language of captions."""

import dataclasses
from collections.abc import Container
from pathlib import Path

from captioning.data import text
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Sentences that are cleaned as the captions beside them are.

    Attributes:
        texts: cleaned sentences, none of them empty.
        file: name of the file.
        sha256: of the file.
    """

    texts: list[str]
    file: str
    sha256: str

    @classmethod
    def read(cls, path: Path, kind: str, longest: int, held_out: Container[str]) -> "Sentences":
        """Read a text file of a sentence a line; what is left out is counted and said.

        Args:
            kind: a name of `text.TEXTS`, of the captions.
            longest: words that a sentence may have, startseq and endseq included.
            held_out: cleaned captions of dev and test, which must not be among the sentences.

        Raises:
            CaptioningError: for a file that is missing or no text, or holds no usable sentence.
        """
        lines = [line for line in text.read_text(path).split("\n") if line.strip()]
        cleaned, notices = text.clean_all({path.name: lines}, kind)
        for notice in notices:
            console.note(f"{path.name}: {notice}")
        texts, left_out = [], dict.fromkeys(("word", "length", "split"), 0)
        for sentence in cleaned[path.name]:
            if not sentence:
                left_out["word"] += 1
            elif len(text.wrap(sentence).split()) > longest:
                left_out["length"] += 1
            elif sentence in held_out:
                left_out["split"] += 1
            else:
                texts.append(sentence)
        said = (
            f"{len(texts):,} of the {len(lines):,} sentences of {path.name}; left out: "
            f"{left_out['word']:,} that clean to nothing, {left_out['length']:,} longer than any "
            f"train caption, {left_out['split']:,} that are captions of dev or test"
        )
        if not texts:
            raise CaptioningError(
                f"expected sentences to learn from, found {said}; give --sentences a text file "
                "with a sentence a line"
            )
        console.note(said)
        return cls(texts, path.name, files.sha256(path))

    @property
    def record(self) -> dict:
        """What a captioner's file says of them."""
        return {"file": self.file, "sha256": self.sha256, "count": len(self.texts)}
