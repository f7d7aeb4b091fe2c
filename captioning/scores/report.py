"""All scores of captions, computed and printed one after the other."""

from captioning.scores.registry import SCORES
from captioning.scores.score import Captions, References


def report(captions: Captions, references: References) -> dict[str, list[float] | float]:
    """Print the scores, BLEU under a line naming each protocol.

    Returns:
        key of `SCORES` → its figure or figures, such as BLEU-1 to BLEU-4.
    """
    scores = {}
    for name, score in SCORES.items():
        scores[name] = score.compute(captions, references)
        if score.title:
            print(score.title)
        behind = score.of_one if len(captions) == 1 else ""
        for label, figure in zip(score.labels, score.figures(scores[name]), strict=True):
            print(f"{label}: {figure:f}{behind}")
    return scores
