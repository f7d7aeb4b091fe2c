"""CIDEr-D, as coco-caption has it."""

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np

from captioning.data.text import ngrams
from captioning.scores.score import Captions, References, Score, words_only

_SIGMA = 6  # of CIDEr-D's length penalty, in words


def cider(captions: Captions, references: References) -> float:
    """CIDEr-D, from 0 to 10: the mean of `each`."""
    return float(np.mean(each(captions, references)))


def each(captions: Captions, references: References) -> np.ndarray:
    """CIDEr-D of each image, as coco-caption computes it; `startseq` and `endseq` do not count.

    The inverse document frequencies are those of the references of the images in `captions`, so
    a single image scores 0.

    Args:
        captions, references: see `score.Score`.

    Returns:
        float64 (n,), from 0 to 10, in the order of `captions`.

    Source: Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation",
    CVPR 2015.
    """
    hypotheses, targets = words_only(captions, references)
    said = [ngrams(words) for words in hypotheses]
    human = [[ngrams(words) for words in texts] for texts in targets]
    holding = collections.Counter()  # n-gram → images with a reference that holds it
    for texts in human:
        holding.update(set().union(*texts))
    idf = collections.defaultdict(lambda: math.log(len(said)))
    idf |= {gram: math.log(len(said) / count) for gram, count in holding.items()}
    return np.array([_consensus(said[i], human[i], idf) for i in range(len(said))])


def _consensus(
    caption: collections.Counter, references: Sequence[collections.Counter], idf: Mapping
) -> float:
    """CIDEr-D of one caption, from the n-grams of it and of its references."""
    norms = _norms(caption, idf)
    total = 0.0
    for reference in references:
        products = [0.0] * 4
        for gram in caption.keys() & reference.keys():
            clipped = min(caption[gram], reference[gram])
            products[len(gram) - 1] += clipped * reference[gram] * idf[gram] ** 2
        longer = _bigrams(caption) - _bigrams(reference)
        scales = (a * b for a, b in zip(norms, _norms(reference, idf), strict=True))
        cosines = sum(p / scale for p, scale in zip(products, scales, strict=True) if scale)
        total += cosines / 4 * math.exp(-(longer**2) / (2 * _SIGMA**2))
    return 10 * total / len(references)


def _norms(grams: collections.Counter, idf: Mapping) -> list[float]:
    squares = [0.0] * 4
    for gram, count in grams.items():
        squares[len(gram) - 1] += (count * idf[gram]) ** 2
    return [math.sqrt(square) for square in squares]


def _bigrams(grams: collections.Counter) -> int:
    """How long a caption is in coco-caption's length penalty: its words but one."""
    return sum(count for gram, count in grams.items() if len(gram) == 2)


_OF_ONE = " (always 0 for one image: it weighs words by how few other images have them)"
CIDER = Score(cider, ["CIDEr"], "CIDEr", of_one=_OF_ONE)
COCO = Score(
    cider,
    ["CIDEr"],
    "coco CIDEr",
    of_one=_OF_ONE,
    signature=f"CIDEr-D[n4,s{_SIGMA},df of the references scored]",
)
