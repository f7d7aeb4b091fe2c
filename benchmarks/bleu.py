"""Scores of 1,000 captions of 10 words with five references each: two protocols of BLEU, and all.

    python benchmarks/bleu.py

nltk computes BLEU for us too; beside it stands the reference's way, one `corpus_bleu` for each
order. All is what 3_BLEU.py prints: BLEU, CIDEr-D and ROUGE-L.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

from benchmarks import common
from captioning.runtime import console
from captioning.scores.registry import SCORES


def main() -> None:
    console.parser(__doc__).parse_args()
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(20)])

    def caption() -> list[str]:
        return list(random.choice(words, common.WORDS))

    captions = {str(i): [*caption(), "endseq"] for i in range(1000)}
    references = {key: [" ".join(caption()) for _ in range(5)] for key in captions}

    def plain() -> list[float]:
        scores = []
        for wrap in ["startseq {} endseq", "{}"]:
            targets = [
                [wrap.format(text).split() for text in texts] for texts in references.values()
            ]
            found = [wrap.format(" ".join(words[:-1])).split() for words in captions.values()]
            for order in range(1, 5):
                scores.append(corpus_bleu(targets, found, [1 / order] * order))
        return scores

    def bleu() -> list:
        return [SCORES[name].compute(captions, references) for name in ("reference", "standard")]

    def everything() -> list:
        return [score.compute(captions, references) for score in SCORES.values()]

    ways = {"BLEU": bleu, "BLEU, one call an order": plain, "all": everything}
    seconds = common.take_turns(ways, rounds=3)
    for name, time in seconds.items():
        print(f"{name:24} {time:.2f} s {seconds['BLEU, one call an order'] / time:5.1f} ×")


if __name__ == "__main__":
    main()
