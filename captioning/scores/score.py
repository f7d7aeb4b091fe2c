"""The socket of scores: how one is computed from captions and references, and how it is printed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from captioning.data.text import END

Captions = Mapping[str, Sequence[str]]  # image id → words as the captioner gave them, see `Score`
References = Mapping[str, Sequence[str]]  # image id → captions by humans, words joined by spaces


@dataclasses.dataclass(frozen=True)
class Score:
    """A score of generated captions.

    Attributes:
        compute: the figure, or one for each of the `labels`, from captions (image id → words as
            the captioner gave them, `endseq` included where reached) and references (image id →
            captions as the protocol has them: cleaned, or tokens of `data.ptb`).
        labels: what is printed before each figure.
        column: heading of its column in the table of several runs.
        title: a line to print above the figures.
        of_one: what is printed behind the figures where a single image is scored.
        optional: it is computed where it is asked for, and left out with a sentence where `compute`
            raises `CaptioningError`.
        signature: how it is computed, in short, for scores of the coco protocol.
    """

    compute: Callable[[Captions, References], float | list[float]]
    labels: Sequence[str]
    column: str
    title: str = ""
    of_one: str = ""
    optional: bool = False
    signature: str = ""

    def figures(self, value: float | Sequence[float] | None) -> list[float | None]:
        """What `compute` returned, as a list; None for each figure of a run without this score."""
        if value is None:
            return [None] * len(self.labels)
        return list(value) if isinstance(value, Sequence) else [value]


def words_only(
    captions: Captions, references: References
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Words of the captions without `endseq`, and of their references."""
    hypotheses = [[word for word in words if word != END] for words in captions.values()]
    return hypotheses, [[text.split() for text in references[key]] for key in captions]
