"""ROUGE-L, as coco-caption has it."""

import collections
from collections.abc import Sequence

import numpy as np

from captioning.scores.score import Captions, References, Score, words_only

_BETA = 1.2  # how much more recall weighs than precision


def rouge_l(captions: Captions, references: References) -> float:
    """ROUGE-L, the mean over the images; `startseq` and `endseq` do not count.

    As in coco-caption, the precision is that of the reference which gives the highest, the
    recall that of the reference, perhaps another, which gives the highest. An empty caption scores
    0 (coco-caption gives it 1 where a reference is empty too).

    Args:
        captions, references: see `score.Score`.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    scores = []
    for words, texts in zip(*words_only(captions, references), strict=True):
        common = [_common(words, text) for text in texts]
        precision = max(c / (len(words) or 1) for c in common)
        recall = max(c / (len(text) or 1) for c, text in zip(common, texts, strict=True))
        weighted = recall + _BETA**2 * precision
        scores.append((1 + _BETA**2) * precision * recall / weighted if weighted else 0.0)
    return float(np.mean(scores))


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit i of `open_` stands for word i of `first`: an addition moves a whole row of the usual
    table. Source: Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004.
    """
    places = collections.defaultdict(int)
    for i, word in enumerate(first):
        places[word] |= 1 << i
    all_ = open_ = (1 << len(first)) - 1
    for word in second:
        matched = open_ & places.get(word, 0)
        open_ = (open_ + matched | open_ - matched) & all_
    return len(first) - open_.bit_count()


ROUGE_L = Score(rouge_l, ["ROUGE-L"], "ROUGE-L")
COCO = Score(rouge_l, ["ROUGE-L"], "coco ROUGE-L", signature=f"ROUGE-L[b{_BETA}]")
