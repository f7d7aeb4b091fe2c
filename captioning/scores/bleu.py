"""BLEU, computed by nltk under three protocols that must never be mixed.

The reference's protocol counts `startseq` and `endseq` as words, and its weights of BLEU-3 sum to
.9, which raises it. The cleaned protocol, "standard" in files, counts neither and weighs evenly.
The coco protocol does the same with all the words of the raw captions instead of cleaned ones.
"""

import functools
import warnings
from importlib import metadata

from captioning.data.text import END, START
from captioning.scores.score import Captions, References, Score, words_only

WEIGHTS = {
    "reference": [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.3, 0.3, 0.3, 0), (0.25, 0.25, 0.25, 0.25)],
    "standard": [(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4)],
}


def bleu(captions: Captions, references: References, protocol: str) -> list[float]:
    """BLEU-1 to BLEU-4 of generated captions.

    Args:
        captions, references: see `score.Score`.
        protocol: 'reference' counts `startseq` and `endseq` as words of caption and references
            and weighs BLEU-3 by .3; 'standard' counts neither and weighs by 1/3.

    Source: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation",
    ACL 2002.
    """
    from nltk.translate.bleu_score import corpus_bleu  # takes most of a second to load

    if protocol == "reference":
        hypotheses = [[START, *words] for words in captions.values()]
        targets = [[[START, *text.split(), END] for text in references[key]] for key in captions]
    else:
        hypotheses, targets = words_only(captions, references)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk explains a BLEU-4 of 0 at length
        return [float(score) for score in corpus_bleu(targets, hypotheses, WEIGHTS[protocol])]


_LABELS = [f"BLEU-{n}" for n in range(1, 5)]
REFERENCE = Score(
    functools.partial(bleu, protocol="reference"),
    _LABELS,
    "reference protocol, BLEU-1 / 2 / 3 / 4",
    "reference protocol (start and end tokens count as words, BLEU-3 weights .3):",
)
CLEANED = Score(
    functools.partial(bleu, protocol="standard"),
    _LABELS,
    "cleaned protocol, BLEU-1 / 2 / 3 / 4",
    "cleaned protocol (no start and end tokens, BLEU-3 weights 1/3):",
)
COCO = Score(
    functools.partial(bleu, protocol="standard"),
    _LABELS,
    "coco protocol, BLEU-1 / 2 / 3 / 4",
    "coco protocol (all words of the raw captions as PTB tokens, as coco-caption scores):",
    signature=f"BLEU[nltk {metadata.version('nltk')}]",
)
