"""BLEU of captions under the reference's protocol and under the standard one (nltk computes)."""

import warnings
from collections.abc import Mapping, Sequence

from nltk.translate.bleu_score import corpus_bleu

from captioning.text import END, START

PROTOCOLS = {
    "reference": "reference protocol (start and end tokens count as words, BLEU-3 weights .3):",
    "standard": "standard protocol (no start and end tokens, BLEU-3 weights 1/3):",
}
WEIGHTS = {
    # the reference's BLEU-3 weights sum to .9, which raises it; they are part of its protocol
    "reference": [(1, 0, 0, 0), (0.5, 0.5, 0, 0), (0.3, 0.3, 0.3, 0), (0.25, 0.25, 0.25, 0.25)],
    "standard": [(1,), (1 / 2, 1 / 2), (1 / 3, 1 / 3, 1 / 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4)],
}


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
        hypotheses = [[word for word in words if word != END] for words in captions.values()]
        targets = [[text.split() for text in references[key]] for key in captions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk explains a BLEU-4 of 0 at length
        return [float(score) for score in corpus_bleu(targets, hypotheses, WEIGHTS[protocol])]


def report(
    captions: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]
) -> dict[str, list[float]]:
    """Print BLEU under each protocol, under a line naming it, and return protocol → scores."""
    scores = {}
    for protocol, title in PROTOCOLS.items():
        scores[protocol] = bleu(captions, references, protocol)
        print(title)
        for n, score in enumerate(scores[protocol], start=1):
            print(f"BLEU-{n}: {score:f}")
    return scores
