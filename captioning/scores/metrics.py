"""BLEU under two protocols (nltk computes it), CIDEr-D and ROUGE-L as coco-caption has them."""

import collections
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from nltk.translate.bleu_score import corpus_bleu

from captioning.data.text import END, START, ngrams

PROTOCOLS = {
    "reference": "reference protocol (start and end tokens count as words, BLEU-3 weights .3):",
    "standard": "standard protocol (no start and end tokens, BLEU-3 weights 1/3):",
}
WEIGHTS = {
    # the reference's BLEU-3 weights sum to .9, which raises it; they are part of its protocol
    "reference": [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.3, 0.3, 0.3, 0), (0.25, 0.25, 0.25, 0.25)],
    "standard": [(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4)],
}
_SIGMA = 6  # of CIDEr-D's length penalty, in words
_BETA = 1.2  # how much more recall weighs than precision in ROUGE-L


def bleu(
    captions: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[str]],
    protocol: str,
) -> list[float]:
    """BLEU-1 to BLEU-4 of generated captions.

    Args:
        captions: image id → words as the captioner gave them, `endseq` included where reached.
        references: image id → cleaned captions.
        protocol: 'reference' counts `startseq` and `endseq` as words of caption and references
            and weighs BLEU-3 by .3; 'standard' counts neither and weighs by 1/3.

    Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation",
    ACL 2002.
    """
    if protocol == "reference":
        hypotheses = [[START, *words] for words in captions.values()]
        targets = [[[START, *text.split(), END] for text in references[key]] for key in captions]
    else:
        hypotheses, targets = _words_only(captions, references)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk explains a BLEU-4 of 0 at length
        return [float(score) for score in corpus_bleu(targets, hypotheses, WEIGHTS[protocol])]


def cider(captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]) -> float:
    """CIDEr-D, from 0 to 10, as coco-caption computes it; `startseq` and `endseq` do not count.

    The inverse document frequencies are those of the references of the images in `captions`, so
    a single image scores 0.

    Args:
        captions, references: as in `bleu`.

    Source: Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation",
    CVPR 2015.
    """
    hypotheses, targets = _words_only(captions, references)
    said = [ngrams(words) for words in hypotheses]
    human = [[ngrams(words) for words in texts] for texts in targets]
    holding = collections.Counter()  # n-gram → images with a reference that holds it
    for texts in human:
        holding.update(set().union(*texts))
    idf = collections.defaultdict(lambda: math.log(len(said)))
    idf |= {gram: math.log(len(said) / count) for gram, count in holding.items()}
    return float(np.mean([_consensus(said[i], human[i], idf) for i in range(len(said))]))


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


def rouge_l(
    captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]
) -> float:
    """ROUGE-L, the mean over the images; `startseq` and `endseq` do not count.

    As in coco-caption, the precision is that of the reference which gives the highest, the
    recall that of the reference, perhaps another, which gives the highest. An empty caption scores
    0 (coco-caption gives it 1 where a reference is empty too).

    Args:
        captions, references: as in `bleu`.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    scores = []
    for words, texts in zip(*_words_only(captions, references), strict=True):
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


def _words_only(
    captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Words of the captions without `endseq`, and of their references."""
    hypotheses = [[word for word in words if word != END] for words in captions.values()]
    return hypotheses, [[text.split() for text in references[key]] for key in captions]


def report(
    captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]
) -> dict[str, list[float] | float]:
    """Print the scores, BLEU under a line naming each protocol.

    Returns:
        protocol → BLEU-1 to BLEU-4, and the floats `cider` and `rouge_l`.
    """
    scores = {}
    for protocol, title in PROTOCOLS.items():
        scores[protocol] = bleu(captions, references, protocol)
        print(title)
        for n, score in enumerate(scores[protocol], start=1):
            print(f"BLEU-{n}: {score:f}")
    scores["cider"], scores["rouge_l"] = cider(captions, references), rouge_l(captions, references)
    of_one = " (always 0 for one image: it weighs words by how few other images have them)"
    print(f"CIDEr: {scores['cider']:f}" + (of_one if len(captions) == 1 else ""))
    print(f"ROUGE-L: {scores['rouge_l']:f}")
    return scores
