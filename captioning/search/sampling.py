"""Sampling: each word is drawn by its probability."""

import hashlib
from collections.abc import Sequence

import numpy as np
from keras import ops

from captioning.decoders.decoder import Decoder
from captioning.search.walk import Found, one_by_one, take


def sample(
    decoder: Decoder,
    start: int,
    end: int,
    features: np.ndarray,
    keys: Sequence | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    candidates: int = 1,
) -> list[Found]:
    """Captions whose words are drawn, in float64, until `end` or `max_length` words.

    Padding and the start are never drawn. What is drawn for an image depends on its key and on the
    seed, and not on the images beside it.

    Args:
        start, end: the ids of `startseq` and `endseq`.
        features: float32 (n, k, D).
        keys: a name or number of each image; None numbers them.
        temperature: above 0; logits are divided by it, so that below 1 likely words are likelier.
        top_p: above 0 to 1; words are drawn from the fewest most likely ones whose probabilities
            add up to it (nucleus sampling, Holtzman et al., arXiv 1904.09751).
        seed: at least 0.
        candidates: captions of an image; the first ones are the same however many.

    Returns:
        for each image its captions, the most likely first; log-probabilities are the decoder's,
        at temperature 1 and over all words.
    """
    count, longest = len(features), decoder.config.max_length
    sources = [_generator(seed, key) for key in (range(count) if keys is None else keys)]
    chosen = np.concatenate([source.random((candidates, longest)) for source in sources])

    def draw(logits, going, step):
        logits = ops.convert_to_numpy(logits).astype(np.float64)
        rows = np.arange(len(logits))
        logits -= logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits).sum(axis=1))
        sayable = logits.copy()
        sayable[:, [0, start]] = -np.inf
        chances = _sharpened(sayable, temperature)
        words = _draw(_nucleus(chances, top_p) if top_p < 1 else chances, chosen[going, step])
        return words, logits[rows, words] - total

    state = take(decoder.start(features), np.arange(count).repeat(candidates))
    rows = one_by_one(decoder, start, end, state, count * candidates, draw)
    return [
        sorted(rows[i : i + candidates], key=lambda caption: -caption[1])
        for i in range(0, len(rows), candidates)
    ]


def _generator(seed: int, key: object) -> np.random.Generator:
    digest = hashlib.sha256(str(key).encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def _sharpened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The distribution of logits / temperature: float64 (n, vocabulary_size), rows sum to 1."""
    with np.errstate(over="ignore"):  # at a temperature near 0 a difference may become infinite
        chances = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return chances / chances.sum(axis=1, keepdims=True)


def _nucleus(chances: np.ndarray, top_p: float) -> np.ndarray:
    """A distribution without the words outside of each row's nucleus; rows no longer sum to 1."""
    kept = np.zeros_like(chances)
    least = (1 - top_p) / chances.shape[1]  # rarer words together hold less than what is left out
    for row, new in zip(chances, kept, strict=True):
        likely = np.flatnonzero(row >= least)  # a tenth of them, say, which are sorted sooner
        likely = likely[np.argsort(-row[likely], kind="stable")]
        likely = likely[: np.searchsorted(np.cumsum(row[likely]), top_p) + 1]
        new[likely] = row[likely]
    return kept


def _draw(chances: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """A word for each row, the one at which the sum exceeds the share `chosen` (n,) in [0, 1).

    Returns:
        int64 (n,)
    """
    reached = np.cumsum(chances, axis=1)
    # a product that is rounded up to the total must not reach words behind it, of probability 0
    aim = np.minimum(chosen * reached[:, -1], np.nextafter(reached[:, -1], 0))
    return (reached <= aim[:, None]).sum(axis=1)
