"""A search that draws each word by its probability, in a batch all from one source.

As captioning/search/toy.py it needs one more line, in search/registry.py:

    "dice": ("captioning.search.toy:dice", "each word by its probability"),
"""

import numpy as np
from keras import ops


def dice(decoder, start, end, features, keys, seed=0):
    rng, count = np.random.default_rng(seed), len(features)
    state, words = decoder.start(features), np.full(count, start)
    ids = np.zeros((count, decoder.config.max_length), np.int32)
    scores, going = np.zeros(count), np.full(count, True)
    for step in range(decoder.config.max_length):
        logits, state = decoder.step(words, state)
        chances = ops.convert_to_numpy(ops.softmax(logits)).astype(np.float64)
        edges = np.cumsum(chances, axis=1) / chances.sum(axis=1, keepdims=True)
        words = (edges > rng.random((count, 1))).argmax(axis=1)
        ids[going, step] = words[going]
        scores[going] += np.log(chances[np.arange(count), words])[going]
        going &= (words != end) & (words != 0)
    return [[caption] for caption in zip(ids, scores, strict=True)]  # one of each image
