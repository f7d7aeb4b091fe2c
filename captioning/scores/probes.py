"""Probes of features: how well neighbours and a linear probe tell what captions say.

They need no captioner, and take seconds for the features of Flickr8k. Everything is trained on
the train split and measured on dev. `Probe` is the socket, `registry.PROBES` lists them.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from nltk.translate import bleu_score  # noqa: F401  `bleu` loads it: not in a measured time
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import average_precision_score

from captioning.runtime.errors import CaptioningError
from captioning.scores.bleu import bleu
from captioning.scores.cider import cider
from captioning.scores.registry import PROBES

WORDS = 200  # the most frequent ones are probed
NEIGHBOURS, TEMPERATURE = 200, 0.07  # of the vote; both as in arXiv 1805.01978
STRENGTHS = (0.01, 0.1, 1, 10, 100)  # of the ridge penalty, per train image
_STOP_WORDS = ENGLISH_STOP_WORDS | {"n't", "'s", "'m", "'d", "'ll", "'re", "'ve"}
_ROUNDS = 5  # captions of the nearest image that are tried, one after the other


class Split(NamedTuple):
    """The images that a probe is trained on, or measured on.

    Attributes:
        captions: the cleaned captions of each image.
        words: bool (n, V), which of the probed words they hold.
        features: float (n, D), finite; None where chance is asked for.
    """

    captions: Sequence[Sequence[str]]
    words: np.ndarray
    features: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Probe:
    """A way to tell how good features are.

    Attributes:
        columns: key of a figure → heading of its column.
        measure: (train, dev) → the figures by their keys.
        chance: the same for features that tell nothing.
    """

    columns: Mapping[str, str]
    measure: Callable[[Split, Split], dict[str, float]]
    chance: Callable[[Split, Split], dict[str, float]]


def scores(
    train_features: np.ndarray,
    dev_features: np.ndarray,
    train_captions: Sequence[Sequence[str]],
    dev_captions: Sequence[Sequence[str]],
) -> dict[str, float]:
    """The figures of all `PROBES`, keyed as their columns.

    Args:
        train_features, dev_features: float (n, D) and (m, D), finite.
        train_captions, dev_captions: the cleaned captions of each of these images.
    """
    splits = _splits(train_captions, dev_captions, train_features, dev_features)
    return _merged(probe.measure(*splits) for probe in PROBES.values())


def chance(
    train_captions: Sequence[Sequence[str]], dev_captions: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The figures of features that tell nothing, as far as the probes have such."""
    splits = _splits(train_captions, dev_captions)
    return _merged(probe.chance(*splits) for probe in PROBES.values())


def _splits(train_captions, dev_captions, train_features=None, dev_features=None):
    vocabulary = frequent_words(train_captions)
    return (
        Split(train_captions, holds(train_captions, vocabulary), train_features),
        Split(dev_captions, holds(dev_captions, vocabulary), dev_features),
    )


def _merged(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    return {key: figure for some in figures for key, figure in some.items()}


def retrieval(
    nearest: np.ndarray,
    train_captions: Sequence[Sequence[str]],
    dev_captions: Sequence[Sequence[str]],
) -> dict[str, float]:
    """How well the captions of train images describe dev images.

    Args:
        nearest: int (m,), for each dev image the train image whose captions it takes.

    Returns:
        bleu4, cider: means over five rounds, each with another caption of the train image.
        recall: of the content words in the captions of the dev images, the share that stands in
            those of their train images.
    """
    references = {str(i): captions for i, captions in enumerate(dev_captions)}
    taken = [train_captions[i] for i in nearest]
    bleu4s, ciders = [], []
    for number in range(_ROUNDS):
        said = {str(i): own[number % len(own)].split() for i, own in enumerate(taken)}
        bleu4s.append(bleu(said, references, "standard")[3])
        ciders.append(cider(said, references))
    wanted = list(map(content_words, dev_captions))
    found = [own & content_words(others) for own, others in zip(wanted, taken, strict=True)]
    recall = sum(map(len, found)) / max(1, sum(map(len, wanted)))
    return {"bleu4": float(np.mean(bleu4s)), "cider": float(np.mean(ciders)), "recall": recall}


def neighbours(
    train_features: np.ndarray,
    dev_features: np.ndarray,
    train_words: np.ndarray,
    dev_words: np.ndarray,
    k: int = NEIGHBOURS,
) -> float:
    """Mean average precision of words voted for by the k nearest train images.

    Nearness is the cosine c of the features as they are, and a vote weighs exp(c / .07). Cheap
    enough for every few epochs of a pretraining.

    Args:
        train_features, dev_features: float (n, D) and (m, D).
        train_words, dev_words: bool (n, V) and (m, V), the words each image's captions hold.
        k: how many vote; all where there are fewer.

    Returns:
        from 0 to 1, or NaN: see `mean_average_precision`.

    Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination", arXiv 1805.01978.
    """
    cosines = _cosines(dev_features, train_features)  # (m, n)
    k = min(k, len(train_features))
    voters = np.argpartition(cosines, -k, axis=1)[:, -k:]  # (m, k)
    # the nearest has weight 1: no overflow, and the division below takes any factor out
    closeness = np.take_along_axis(cosines, voters, axis=1) - cosines.max(axis=1, keepdims=True)
    votes = np.zeros_like(cosines)
    np.put_along_axis(votes, voters, np.exp(closeness / TEMPERATURE), axis=1)
    votes /= votes.sum(axis=1, keepdims=True)
    return mean_average_precision(votes @ train_words.astype(np.float32), dev_words)


def linear(
    train_features: np.ndarray,
    dev_features: np.ndarray,
    train_words: np.ndarray,
    dev_words: np.ndarray,
) -> float:
    """Mean average precision of a linear probe for all words.

    Ridge regression on features standardised by the train split, because it has a closed form:
    its cost is that of one matrix product for 200 words and five strengths. The strength is the
    one that does best on every fifth train image after training on the others; then the probe is
    trained on all of them.

    Args:
        train_features, dev_features: float (n, D) and (m, D).
        train_words, dev_words: bool (n, V) and (m, V), the words each image's captions hold.

    Returns:
        from 0 to 1, or NaN: see `mean_average_precision`.
    """
    train, dev = (np.asarray(rows, np.float32) for rows in (train_features, dev_features))
    mean, scale = train.mean(axis=0), train.std(axis=0)
    scale[scale == 0] = 1
    train, dev = (train - mean) / scale, (dev - mean) / scale
    targets = (train_words - train_words.mean(axis=0)).astype(np.float32)
    held = np.arange(len(train)) % 5 == 0
    fitted, rest = (_products(train[part], targets[part]) for part in (~held, held))

    def precision_on_held(strength: float) -> float:
        weights = _ridge(*fitted, strength * (~held).sum())
        return mean_average_precision(train[held] @ weights, train_words[held])

    best = max(STRENGTHS, key=precision_on_held)
    weights = _ridge(fitted[0] + rest[0], fitted[1] + rest[1], best * len(train))
    return mean_average_precision(dev @ weights, dev_words)


def _products(rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """XᵀX (D, D) and XᵀY (D, V): sums over the rows, so those of two parts add up."""
    return rows.T @ rows, rows.T @ targets


def _ridge(gram: np.ndarray, moments: np.ndarray, penalty: float) -> np.ndarray:
    """Weights (D, V) from the products."""
    return np.linalg.solve(gram + np.float32(penalty) * np.eye(len(gram), dtype="float32"), moments)


def mean_average_precision(predicted: np.ndarray, words: np.ndarray) -> float:
    """Mean over the words that any image has; chance is about their mean frequency.

    Args:
        predicted: float (m, V), higher for words more likely to be there.
        words: bool (m, V), what is there.

    Returns:
        from 0 to 1, or NaN if no image has any of the words.
    """
    there = words.any(axis=0)
    if not there.any():
        return float("nan")
    return float(average_precision_score(words[:, there], predicted[:, there], average="macro"))


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float32 (m, n): cosine of each row of `first` and each of `second`."""

    def unit(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths == 0, 1, lengths)

    return unit(first) @ unit(second).T


def content_words(captions: Sequence[str]) -> set[str]:
    """The words of an image's captions that are no stop words.

    Those are scikit-learn's English list, words of one letter, and the ends that `ptb` cuts off.
    """
    words = {word for caption in captions for word in caption.split()} - _STOP_WORDS
    return {word for word in words if not (word.isascii() and len(word) == 1)}


def frequent_words(captions: Sequence[Sequence[str]], count: int = WORDS) -> list[str]:
    """The content words that most images have in their captions, the most frequent first.

    Raises:
        CaptioningError: when there is no content word.
    """
    counts = collections.Counter(word for own in captions for word in sorted(content_words(own)))
    if not counts:
        raise CaptioningError(
            f"expected English words in the captions of {len(captions)} train images, found none "
            "that says anything; check the captions"
        )
    return [word for word, _ in counts.most_common(count)]


def holds(captions: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> np.ndarray:
    """bool (len(captions), len(vocabulary)): whether an image's captions hold a word."""
    return np.array([[word in own for word in vocabulary] for own in map(content_words, captions)])


def effective_rank(features: np.ndarray) -> float:
    """How many directions features (n, D) vary in: exp of the entropy of their singular values.

    Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    shares = values / max(values.sum(), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _of_nearest(train: Split, dev: Split) -> dict[str, float]:
    nearest = _cosines(dev.features, train.features).argmax(axis=1)
    return retrieval(nearest, train.captions, dev.captions)


def _of_anyone(train: Split, dev: Split) -> dict[str, float]:
    anyone = np.random.default_rng(0).integers(len(train.captions), size=len(dev.captions))
    return retrieval(anyone, train.captions, dev.captions)


def _of_words(key: str, heading: str, measure: Callable[..., float]) -> Probe:
    """A probe that tells words from features; by chance, each as likely as it is frequent."""
    return Probe(
        {key: heading},
        lambda train, dev: {key: measure(train.features, dev.features, train.words, dev.words)},
        lambda train, dev: {key: float(dev.words[:, dev.words.any(axis=0)].mean())},
    )


DIMENSION = Probe(
    {"dimension": "D"},
    lambda train, dev: {"dimension": train.features.shape[1]},
    lambda train, dev: {},
)
NEAREST = Probe(
    {
        "bleu4": "nearest: BLEU-4",
        "cider": "nearest: CIDEr",
        "recall": "nearest: content words",
    },
    _of_nearest,
    _of_anyone,
)
VOTE = _of_words("neighbours", "vote: mAP", neighbours)
LINEAR = _of_words("linear", "linear probe: mAP", linear)
