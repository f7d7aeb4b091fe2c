"""What the searches share: the next word's distribution, rows of a state, word after word."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops, tree

from captioning.decoders.decoder import Decoder

Found = list[tuple[np.ndarray, float]]  # ids of an image's captions, log-probabilities, best first


def distribution(logits: Any) -> np.ndarray:
    """The softmax of logits (n, vocabulary_size): float32 of that shape, which may be changed."""
    return np.require(ops.convert_to_numpy(ops.softmax(logits)), requirements="W")


def take(state: Any, rows: np.ndarray) -> Any:
    """The rows (m,) of a decoder's state, in that order and as often as they are named."""
    return tree.map_structure(lambda part: ops.take(part, rows, axis=0), state)


def one_by_one(
    decoder: Decoder,
    start: int,
    end: int,
    state: Any,
    rows: int,
    choose: Callable[[Any, np.ndarray, int], tuple[np.ndarray, np.ndarray]],
) -> Found:
    """A caption for each row of a state; its next word does not depend on what other rows say.

    Args:
        start, end: the ids of `startseq` and `endseq`.
        state: before the first word, of `rows` rows.
        choose: (logits (m, vocabulary_size), which m of the rows these are, words so far) → the
            next words (m,) and their log-probabilities (m,).

    Returns:
        ids int32 (at most max_length,), up to `end` or padding, and the log-probability of each.
    """
    longest = decoder.config.max_length
    going = np.arange(rows)  # those whose captions have not ended
    words = np.full(rows, start)
    ids, lengths = np.zeros((rows, longest), np.int32), np.full(rows, longest)
    scores = np.zeros(rows)
    for step in range(longest):
        logits, state = decoder.step(words, state)
        words, gains = choose(logits, going, step)
        ids[going, step] = words
        scores[going] += gains
        over = np.isin(words, [0, end])
        lengths[going[over]] = step + 1
        if over.all():
            break
        if over.any():
            stay = np.flatnonzero(~over)
            going, words, state = going[stay], words[stay], take(state, stay)
    return [(row[:n], float(score)) for row, n, score in zip(ids, lengths, scores, strict=True)]
