"""Captions and features as training takes them: which images are usable, words as ids, matrices."""

import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np

from captioning.data import text
from captioning.data.grids import Grid
from captioning.data.tokenizer import Tokenizer
from captioning.runtime import console
from captioning.runtime.errors import CaptioningError, few, printable

# words of a caption, startseq and endseq included, that a captioner may have; Flickr8k's longest
# has 34
MAX_LENGTH = 1000


def usable_ids(
    split: str,
    ids: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    features: Container[str],
    option: str = "features",
) -> list[str]:
    """The images of a split that have captions and features; the others are named and counted.

    Args:
        option: what makes the features that are lacking, behind `--only`.

    Raises:
        CaptioningError: when none is left, or there was none.
    """
    if not ids:
        raise CaptioningError(
            f"expected images of the {split} split, found none: the dataset has no such split; "
            "take another one (docs/datasets.md tells where splits come from)"
        )
    usable = [key for key in ids if key in descriptions and key in features]
    for what, half, lacking in (
        ("captions", "descriptions", [key for key in ids if key not in descriptions]),
        ("features", option, [k for k in ids if k in descriptions and k not in features]),
    ):
        if lacking:
            console.note(
                f"{split}: {len(lacking)} of {len(ids)} images have no {what} ({few(lacking)}) and "
                f"are left out; 1_data_preprocessor.py --only {half} makes them"
            )
    if not usable:
        raise CaptioningError(
            f"none of the {len(ids)} images of the {split} split has features and captions; run "
            "1_data_preprocessor.py on the folder that holds these images, or choose another split"
        )
    return usable


def stack_features(
    features: Mapping[str, np.ndarray] | Grid, ids: Iterable[str], looks: bool = False
) -> np.ndarray | Grid:
    """The features of `ids`, float32 (len(ids), D); of grids (len(ids), k, D), not read yet.

    Args:
        features: image id → (1, D), or grids.
        looks: pooled features become grids of one place, (len(ids), 1, D).
    """
    if isinstance(features, Grid):
        return features.select(ids)
    rows = [features[key] for key in ids]
    return np.stack(rows) if looks else np.concatenate(rows)


def fit_tokenizer(
    descriptions: Mapping[str, Sequence[str]],
    train_ids: Iterable[str],
    kind: str = text.REFERENCE,
    min_count: int = 1,
    sentences: Iterable[str] = (),
) -> Tokenizer:
    """The tokenizer of all train captions, whether or not their images have features.

    They are read in the order of `descriptions`, as the reference does, not in that of the split
    list: among words that are equally frequent the one that comes first has the lower id.

    Args:
        descriptions: image id → cleaned captions.
        train_ids: of the train split.
        kind: a name of `text.TEXTS`, of the descriptions.
        min_count: words that are seen less often are outside the vocabulary, see `num_words`.
        sentences: cleaned ones without pictures, counted after the captions.

    Raises:
        CaptioningError: when none of these images has a caption with a word, or `min_count` leaves
            none in the vocabulary.
    """
    tokenizer, wanted = Tokenizer.of_text(kind), set(train_ids)
    tokenizer.fit_on_texts(
        text.wrap(caption)
        for key, captions in descriptions.items()
        if key in wanted
        for caption in captions
    )
    if not tokenizer.word_index:
        raise CaptioningError(
            "no image of the train split has a caption in descriptions.txt; check that the split "
            "lists and the captions belong together"
        )
    tokenizer.fit_on_texts(map(text.wrap, sentences))
    if min_count > 1:
        _leave_out_rare(tokenizer, min_count)
    return tokenizer


def _leave_out_rare(tokenizer: Tokenizer, min_count: int) -> None:
    """Set `num_words`, as ids fall with the count; say what that leaves out."""
    counts = tokenizer.word_counts.values()
    kept = sum(count >= min_count for count in counts)
    if kept <= 2:  # startseq and endseq come first
        raise CaptioningError(
            f"expected words that are seen at least {min_count:,} times, as --min-count asks, "
            "found none; lower it"
        )
    if kept < len(counts):
        tokenizer.num_words = kept + 1
    rare = sum(count for count in counts if count < min_count)
    console.note(
        f"{len(counts) - kept:,} of {len(counts):,} words are seen less than {min_count:,} times "
        f"and left out: {rare:,} of {sum(counts):,} occurrences"
    )


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Captions as word ids, n of them; what is predicted is the word after each word.

    Attributes:
        inputs: int32 (n, longest), each word but the last, padded on the right with 0.
        targets: int32 (n, longest), the word after it; 0 where nothing is to be predicted.
        images: int32 (n,), row of the feature matrix.
    """

    inputs: np.ndarray
    targets: np.ndarray
    images: np.ndarray

    @property
    def target_count(self) -> int:
        """Number of (prefix, next word) pairs."""
        return int(np.count_nonzero(self.targets))


def encode(
    ids: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    tokenizer: Tokenizer,
    max_length: int,
) -> Sequences:
    """Captions of images `ids`, wrapped in startseq … endseq, unknown words dropped.

    Where a caption is longer than `max_length`, the words behind are predicted from the
    `max_length` words before them, as the reference's padding cuts its prefixes.
    """
    inputs, targets, images = [], [], []
    for row, key in enumerate(ids):
        wrapped = (text.wrap(caption) for caption in descriptions[key])
        for words in tokenizer.texts_to_sequences(wrapped):
            windows = [(words[:max_length], words[1 : max_length + 1])]
            for end in range(max_length + 1, len(words)):
                only_last = [0] * (max_length - 1) + [words[end]]
                windows.append((words[end - max_length : end], only_last))
            for given, predicted in windows:
                inputs.append(given[: len(predicted)])
                targets.append(predicted)
                images.append(row)
    return Sequences(_pad(inputs), _pad(targets), np.array(images, np.int32))


def longest_caption(ids: Sequence[str], descriptions: Mapping[str, Sequence[str]]) -> int:
    """Words of the longest wrapped caption: the network's `max_length`.

    Raises:
        CaptioningError: when it is longer than `MAX_LENGTH`.
    """
    lengths = (
        (len(text.wrap(caption).split()), key) for key in ids for caption in descriptions[key]
    )
    longest, key = max(lengths)
    if longest > MAX_LENGTH:
        raise CaptioningError(
            f"expected captions of at most {MAX_LENGTH:,} words, startseq and endseq "
            f"included, found one of {longest:,} for the image {printable(key)}; shorten it in "
            "descriptions.txt"
        )
    return longest


def _pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
