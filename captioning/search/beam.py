"""Beam search: the most likely captions that can be found by keeping a few at a time."""

import heapq

import numpy as np

from captioning.decoders.decoder import Decoder
from captioning.search.walk import Found, distribution, take


def beam(
    decoder: Decoder,
    start: int,
    end: int,
    features: np.ndarray,
    keys: object = None,
    beam: int = 3,
    length_penalty: float = 1.0,
    candidates: int = 1,
) -> list[Found]:
    """The captions of the highest log-probability / length ** length_penalty that are found.

    Of all continuations of an image's unfinished captions, the most likely live on, as many as the
    beam has places; one that ends leaves its place for good, as in Xu et al., arXiv 1502.03044. So
    a beam of 1 is greedy search, whatever the penalty. An image is done when none of its unfinished
    captions, were all its further words certain, could still come before its best `candidates`.
    Padding and the start are never said; probabilities are the decoder's all the same.

    Args:
        start, end: the ids of `startseq` and `endseq`.
        features: float32 (n, k, D).
        keys: not used.
        beam: captions of an image that are kept at a time.
        length_penalty: 0 ranks by the probability of the caption, which favours short ones; 1 by
            the mean log-probability of a word. The end counts as a word. At least 0.
        candidates: captions of an image, 1 to `beam`.

    Returns:
        for each image at most `candidates` captions: first those that ended, then those that had
        not after max_length words; either by the rank above.
    """
    longest = decoder.config.max_length
    ended = [[] for _ in features]  # of an image: (rank, log-probability, ids)
    cut = [[] for _ in features]  # the same of captions without an end
    places = np.full(len(features), beam)
    to_beat = np.full(len(features), -np.inf)  # rank of the last of `candidates` that ended

    state = decoder.start(features)
    image = np.arange(len(features))  # whose caption a row is; rows of an image stand together
    words, scores = np.full(len(image), start), np.zeros(len(image))
    said = np.zeros((len(image), 0), np.int32)
    for length in range(1, longest + 1):
        logits, state = decoder.step(words, state)
        chances = distribution(logits)
        chances[:, [0, start]] = 0
        best, gains = _most_likely(chances, beam)  # (rows, continuations)
        for row in np.flatnonzero(np.isneginf(gains[:, 0])):  # nothing can follow
            rank = _rank(scores[row], length - 1, length_penalty)
            cut[image[row]].append((rank, scores[row], said[row]))

        longer, owner = (scores[:, None] + gains).ravel(), image.repeat(best.shape[1])
        order = np.lexsort((-longer, owner))
        order = order[np.isfinite(longer[order])]
        owner = owner[order]
        place = np.arange(len(order)) - np.searchsorted(owner, owner)
        order = order[place < places[owner]]
        parents, words = order // best.shape[1], best.ravel()[order]
        image, scores = image[parents], longer[order]
        said = np.column_stack([said[parents], words.astype(np.int32)])

        over = words == end
        for row in np.flatnonzero(over):
            rank = _rank(scores[row], length, length_penalty)
            mine = ended[image[row]]
            mine.append((rank, scores[row], said[row]))
            if len(mine) >= candidates:
                to_beat[image[row]] = heapq.nlargest(candidates, (m[0] for m in mine))[-1]
            places[image[row]] -= 1
        hope = np.full(len(features), -np.inf)  # the highest rank that an image can still reach
        np.maximum.at(hope, image[~over], _rank(scores[~over], longest, length_penalty))
        stay = np.flatnonzero(~over & (hope > to_beat)[image])
        image, words, scores, said = image[stay], words[stay], scores[stay], said[stay]
        if not len(stay) or length == longest:
            break
        state = take(state, parents[stay])
    for row in range(len(image)):
        rank = _rank(scores[row], longest, length_penalty)
        cut[image[row]].append((rank, scores[row], said[row]))

    def ranked(captions):  # stable: of equals the one found first
        return sorted(captions, key=lambda caption: -caption[0])

    return [
        [(ids, float(score)) for _, score, ids in (ranked(a) + ranked(b))[:candidates]]
        for a, b in zip(ended, cut, strict=True)
    ]


def _rank(score, length: int, length_penalty: float):
    return score / max(length, 1) ** length_penalty


def _most_likely(chances: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The words of each row with the highest chances, which become 0, and their logarithms.

    Returns:
        words int64 and logarithms float64, both (n, at most `count`), the most likely first; of
        equals the lower id, as `argmax` has it.
    """
    rows, count = np.arange(len(chances)), min(count, chances.shape[1])
    words, values = np.empty((len(rows), count), np.int64), np.empty((len(rows), count))
    for i in range(count):  # for the few of a beam 80 times as fast as numpy's argpartition
        words[:, i] = chances.argmax(axis=1)
        values[:, i] = chances[rows, words[:, i]]
        chances[rows, words[:, i]] = 0
    with np.errstate(divide="ignore"):
        return words, np.log(values)
