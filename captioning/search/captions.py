"""Captions of images from their features, by any search."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from captioning.data.grids import Grid
from captioning.data.text import END, START
from captioning.data.tokenizer import Tokenizer
from captioning.decoders.captioner import Captioner
from captioning.search import registry

_BATCH = 1024  # bounds the (batch, vocabulary) scores: 31 MB at Flickr8k's vocabulary
_NUMBERS = 2**24  # bounds the features of a batch: 64 MB


@dataclasses.dataclass(frozen=True)
class Caption:
    """What a captioner says of an image.

    Attributes:
        words: without `startseq`, with `endseq` where it was reached.
        score: natural logarithm of the caption's probability.
    """

    words: list[str]
    score: float

    @property
    def sentence(self) -> str:
        """The words without `endseq`, as one text."""
        return " ".join(word for word in self.words if word != END)


def write(
    captioner: Captioner,
    tokenizer: Tokenizer,
    features: np.ndarray | Grid,
    search: str = registry.DEFAULT,
    **options,
) -> list[Caption]:
    """A caption for each image.

    Args:
        features: float32 (n, D), or (n, k, D) of grids, which are read batch by batch.
        search: a name of `registry.SEARCHES`.
        options: of the search.
    """
    find = registry.SEARCHES[search]
    ends = tokenizer.word_index[START], tokenizer.word_index[END]
    grids = features if len(features.shape) == 3 else features[:, None]
    batch = max(1, min(_BATCH, _NUMBERS // math.prod(grids.shape[1:])))
    captions = []
    for i in range(0, len(grids), batch):
        ids, scores = find(captioner.decoder, *ends, grids[i : i + batch], **options)
        captions += [
            Caption(_words(row, tokenizer), float(score))
            for row, score in zip(ids, scores, strict=True)
        ]
    return captions


def _words(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    words = []
    for i in ids:
        word = tokenizer.index_word.get(int(i))
        if word is None:  # padding or an id without a word: the reference stops here too
            break
        words.append(word)
        if word == END:
            break
    return words
