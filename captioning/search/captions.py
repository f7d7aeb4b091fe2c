"""Captions of images from their features, by any search."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from captioning.data.grids import Grid
from captioning.data.text import END, START
from captioning.data.tokenizer import Tokenizer
from captioning.decoders.captioner import Captioner
from captioning.runtime import console
from captioning.search import registry
from captioning.search.replay import replay

_BATCH = 1024  # bounds the (batch, vocabulary) scores: 31 MB at Flickr8k's vocabulary
_NUMBERS = 2**24  # bounds the features of a batch: 64 MB
_ALIKE = 0.9  # a larger share of equal captions is worth a warning


@dataclasses.dataclass(frozen=True)
class Caption:
    """What a captioner says of an image.

    Attributes:
        words: without `startseq`, with `endseq` where it was reached.
        score: natural logarithm of the caption's probability, its end included.
    """

    words: list[str]
    score: float

    @property
    def per_word(self) -> float:
        """`score` divided by the words, the end included: what a beam ranks by, unless told."""
        return self.score / max(1, len(self.words))

    @property
    def sentence(self) -> str:
        """The words without `endseq`, as one text."""
        return " ".join(word for word in self.words if word != END)

    @property
    def finished(self) -> bool:
        """Whether the captioner ended it, instead of the captioner's most words."""
        return END in self.words

    @property
    def record(self) -> dict:
        """What JSON files hold of it."""
        scores = {"score": self.score, "per_word": self.per_word}
        return {"caption": self.sentence, **scores, "finished": self.finished}


def write(
    captioner: Captioner,
    tokenizer: Tokenizer,
    features: np.ndarray | Grid,
    search: str = registry.DEFAULT,
    keys: Sequence | None = None,
    **options,
) -> list[Caption]:
    """The best caption of each image: the first of its `candidates`."""
    found = candidates(captioner, tokenizer, features, search, keys, **options)
    return [captions[0] for captions in found]


def candidates(
    captioner: Captioner,
    tokenizer: Tokenizer,
    features: np.ndarray | Grid,
    search: str = registry.DEFAULT,
    keys: Sequence | None = None,
    **options,
) -> list[list[Caption]]:
    """The captions of each image, at least one, the best first as the search ranks them.

    Args:
        features: float32 (n, D), or (n, k, D) of grids, which are read batch by batch.
        search: a name of `registry.SEARCHES`.
        keys: a name or number of each image, for searches that draw; None numbers them.
        options: of the search.
    """
    find = registry.SEARCHES[search]
    ends = tokenizer.word_index[START], tokenizer.word_index[END]
    grids = features if len(features.shape) == 3 else features[:, None]
    keys = range(len(grids)) if keys is None else keys
    rows = max(options.get("beam", 1), options.get("candidates", 1))  # of an image
    size = max(1, min(_BATCH, _NUMBERS // math.prod(grids.shape[1:])) // rows)
    found = []
    for i in range(0, len(grids), size):
        part = slice(i, i + size)
        found += find(captioner.decoder, *ends, grids[part], keys[part], **options)
    return [[Caption(_words(ids, tokenizer), score) for ids, score in image] for image in found]


def look(
    captioner: Captioner, tokenizer: Tokenizer, features: np.ndarray, caption: Caption
) -> np.ndarray:
    """Where a decoder that looks did so for each word of a caption, its end left out.

    Args:
        features: float32 (k, D), of the caption's image.

    Returns:
        float32 (T, k), the weights of the places, rows sum to 1.
    """
    ids = [tokenizer.word_index[word] for word in caption.words if word != END]
    return replay(captioner.decoder, tokenizer.word_index[START], ids, features[None])[1]


def tell_oddities(captions: Iterable[Caption], longest: int, least: int = 10) -> None:
    """Say which captions have no end, and warn where nearly all are the same.

    Args:
        longest: the captioner's most words.
        least: fewer captions may coincide by chance, or because their pictures do.
    """
    captions = list(captions)
    if cut := sum(not caption.finished for caption in captions):
        console.note(
            f"{cut:,} of {len(captions):,} captions are unfinished: no end within {longest} words"
        )
    if len(captions) < least:
        return
    (sentence, times), *_ = collections.Counter(c.sentence for c in captions).most_common(1)
    if times > _ALIKE * len(captions):
        console.note(
            f"warning: {times:,} of {len(captions):,} captions are the same, {sentence!r}; unless "
            "the pictures are, the captioner does not use them: train it longer, and check that "
            "its features are of these pictures"
        )


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
