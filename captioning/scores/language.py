"""What captions say, whatever they score: BLEU hides a captioner that says little, or by heart."""

from collections.abc import Mapping, Sequence
from typing import Any

from captioning.data.text import END
from captioning.runtime.errors import CaptioningError
from captioning.scores.probes import content_words, frequent_words
from captioning.scores.score import Captions, References

LABELS = {
    "words": "different words said",
    "distinct": "distinct captions",
    "mean_length": "mean length in words",
    "in_train": "share of captions that stand in the train split",
    "recall": "recall of frequent content words",
}


def language(
    captions: Captions, references: References, train: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The figures named in `LABELS`.

    The frequent content words are the 200 that most train images have in their captions (stop
    words aside); of those in the references of the images, the recall is the share that stands
    in the images' own captions. Where the train split has no content word it is None.

    Args:
        captions: image id → words as the captioner gave them.
        references: image id → captions, of the same text.
        train: the captions of each train image, of the same text.
    """
    said = {key: " ".join(word for word in words if word != END) for key, words in captions.items()}
    known = {caption for own in train for caption in own}
    return {
        "words": len({word for sentence in said.values() for word in sentence.split()}),
        "distinct": len(set(said.values())),
        "mean_length": sum(len(sentence.split()) for sentence in said.values()) / len(said),
        "in_train": sum(sentence in known for sentence in said.values()) / len(said),
        "recall": _recall(said, references, train),
    }


def _recall(
    said: Mapping[str, str], references: References, train: Sequence[Sequence[str]]
) -> float | None:
    try:
        frequent = set(frequent_words(train))
    except CaptioningError:
        return None
    wanted = {key: content_words(references[key]) & frequent for key in said}
    found = sum(len(words & set(said[key].split())) for key, words in wanted.items())
    return found / (sum(map(len, wanted.values())) or 1)
