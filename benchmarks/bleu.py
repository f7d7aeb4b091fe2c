"""BLEU of 1,000 captions of 10 words with five references each, both protocols, both ways: seconds.

    python benchmarks/bleu.py

nltk computes it for us too; beside it stands the reference's way, one `corpus_bleu` for each order.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

from benchmarks import common
from captioning import metrics


def main() -> None:
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

    ways = {
        "ours": lambda: [metrics.bleu(captions, references, p) for p in metrics.PROTOCOLS],
        "one call an order": plain,
    }
    seconds = common.take_turns(ways, rounds=3)
    for name, time in seconds.items():
        print(f"{name:20} {time:.2f} s {seconds['one call an order'] / time:5.1f} ×")


if __name__ == "__main__":
    main()
