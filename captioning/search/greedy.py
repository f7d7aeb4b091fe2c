"""Greedy search: the most likely next word, again and again."""

import numpy as np

from captioning.decoders.decoder import Decoder
from captioning.search.walk import Found, distribution, one_by_one


def greedy(
    decoder: Decoder, start: int, end: int, features: np.ndarray, keys: object = None
) -> list[Found]:
    """The most likely next word, until `end`, padding, or `max_length` words.

    Equal to running the network again on every prefix (the reference's loop), but the state is
    carried from word to word and all images advance together.

    Args:
        start, end: the ids of `startseq` and `endseq`.
        features: float32 (n, k, D).
        keys: not used.

    Returns:
        one caption an image.
    """

    def most_likely(logits, going, step):
        chances = distribution(logits)
        # numpy finds the largest many times as fast as TensorFlow does on a CPU
        words = chances.argmax(axis=-1)
        return words, np.log(chances[np.arange(len(words)), words], dtype=np.float64)

    state = decoder.start(features)
    found = one_by_one(decoder, start, end, state, len(features), most_likely)
    return [[caption] for caption in found]
