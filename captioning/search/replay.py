"""A known caption said once more: how likely each word was, where the decoder looked."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from captioning.decoders.decoder import Decoder


def replay(
    decoder: Decoder, start: int, ids: Sequence[int], features: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-probabilities and places of the words of one caption, by the steps that found them.

    Args:
        start: the id of `startseq`.
        ids: (T,), without `startseq`.
        features: float32 (1, k, D), of its image.

    Returns:
        scores: float64 (T,), the log-probability of each word after those before it.
        maps: float32 (T, k), the weights of the places, rows sum to 1; None if the decoder does not
            look.
    """
    state, word = decoder.start(features), start
    scores, maps = np.zeros(len(ids)), np.zeros((len(ids), features.shape[1]), np.float32)
    for i, following in enumerate(ids):
        logits, state = decoder.step(np.array([word]), state)
        scores[i] = ops.convert_to_numpy(ops.log_softmax(logits))[0, following]
        if decoder.looks:
            maps[i] = ops.convert_to_numpy(decoder.where(state))[0]
        word = following
    return scores, maps if decoder.looks else None
