"""All scores of captions, computed and printed one after the other."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from captioning.runtime import console
from captioning.runtime.errors import CaptioningError
from captioning.runtime.registry import Registry
from captioning.scores import language as of_language
from captioning.scores.registry import COCO, SCORES
from captioning.scores.score import Captions, References, Score


def report(
    captions: Captions,
    references: References,
    coco: tuple[Captions, References] | None = None,
    asked: Collection[str] = (),
) -> dict[str, Any]:
    """Print the scores, under a line naming each protocol.

    Args:
        captions, references: see `score.Score`.
        coco: captions and references of the coco protocol; None leaves it out.
        asked: keys of optional scores to compute.

    Returns:
        key of `SCORES` → its figure or figures, such as BLEU-1 to BLEU-4; "coco" → the same of
        `COCO`, and a signature that says how they were computed.
    """
    scores = _computed(SCORES, captions, references, asked)
    if coco:
        found = _computed(COCO, *coco, asked)
        scores["coco"] = found | {"signature": signature(found)}
    return scores


def _computed(
    registry: Registry, captions: Captions, references: References, asked: Collection[str]
) -> dict[str, list[float] | float]:
    scores = {}
    for name, score in registry.items():
        if score.optional and name not in asked:
            continue
        try:
            scores[name] = score.compute(captions, references)
        except CaptioningError as error:
            if not score.optional:
                raise
            console.note(f"{error}; {' and '.join(score.labels)} left out")
            continue
        _show(score, score.figures(scores[name]), alone=len(captions) == 1)
    return scores


def _show(score: Score, figures: Sequence[float], alone: bool) -> None:
    if score.title:
        print(score.title)
    behind = score.of_one if alone else ""
    for label, figure in zip(score.labels, figures, strict=True):
        print(f"{label}: {figure:f}{behind}")


def signature(names: Iterable[str]) -> str:
    """How figures of the coco protocol came about: to be published beside them.

    Such as "coco+eos[no]+tokens[ptb,python,1]+BLEU[nltk 3.9.2]+…".

    Args:
        names: keys of `COCO`.

    Source: in the manner of SacreEOS, arXiv 2305.12254, which shows that whether the end token
    counts moves CIDEr by points.
    """
    return "+".join(
        ["coco", "eos[no]", "tokens[ptb,python,1]", *(COCO[n].signature for n in names)]
    )


def report_language(
    captions: Captions, references: References, train: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Print and return the figures of `language.language`."""
    figures = of_language.language(captions, references, train)
    print("language:")
    for key, figure in figures.items():
        if figure is not None:
            written = f"{figure:.3f}" if isinstance(figure, float) else str(figure)
            print(f"{of_language.LABELS[key]}: {written}")
    return figures
