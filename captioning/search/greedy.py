"""Greedy search: the most likely next word, again and again."""

import numpy as np
from keras import ops, tree

from captioning.decoders.decoder import Decoder


def greedy(
    decoder: Decoder, start: int, end: int, features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The most likely next word, until `end`, padding, or `max_length` words.

    Equal to running the network again on every prefix (the reference's loop), but the state is
    carried from word to word and all images advance together.

    Args:
        start, end: the ids of `startseq` and `endseq`.
        features: float32 (n, k, D).

    Returns:
        ids: int32 (n, at most max_length), the end included; what follows it is 0.
        scores: float64 (n,), the log-probability of each caption, its end included.
    """
    state = decoder.start(features)
    going = np.arange(len(features))  # rows whose captions have not ended
    word = np.full(len(features), start)
    ids = np.zeros((len(features), decoder.config.max_length), np.int32)
    scores = np.zeros(len(features))
    for step in range(decoder.config.max_length):
        logits, state = decoder.step(word, state)
        chances = ops.convert_to_numpy(ops.softmax(logits))
        # numpy finds the largest many times as fast as TensorFlow does on a CPU
        word = chances.argmax(axis=-1)
        ids[going, step] = word
        scores[going] += np.log(chances[np.arange(len(word)), word], dtype=np.float64)
        stay = np.flatnonzero(~np.isin(word, [0, end]))
        if not len(stay):
            break
        if len(stay) < len(going):
            going, word = going[stay], word[stay]
            state = tree.map_structure(lambda part: ops.take(part, stay, axis=0), state)  # noqa: B023
    return ids, scores
