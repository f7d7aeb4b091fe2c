"""What a captioner is trained and judged on, as arrays."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from captioning.data import grids, text
from captioning.data.captions import Sequences, encode, longest_caption, stack_features
from captioning.data.grids import Grid
from captioning.data.tokenizer import Tokenizer
from captioning.runtime import console


@dataclasses.dataclass(frozen=True)
class CaptionData:
    """What the captioner is trained and judged on.

    Attributes:
        train, dev: captions as word ids; their `images` are rows of the matrices below.
        train_features, dev_features: float32 (images, D), or (images, k, D) for a decoder that
            looks; an array, or what has its `shape` and, at the rows asked for, its numbers.
        vocabulary_size, max_length: of the train captions.
        sentences: without pictures, as word ids; their `images` are all 0.
    """

    train: Sequences
    dev: Sequences
    train_features: "np.ndarray | Grid | Standardised"
    dev_features: "np.ndarray | Grid | Standardised"
    vocabulary_size: int
    max_length: int
    sentences: Sequences | None = None

    @classmethod
    def prepare(
        cls,
        ids: Mapping[str, Sequence[str]],
        descriptions: Mapping[str, Sequence[str]],
        features: Mapping[str, np.ndarray] | Grid,
        tokenizer: Tokenizer,
        looks: bool = False,
        sentences: Sequence[str] = (),
    ) -> "CaptionData":
        """Encode the captions and stack the features of the images `ids["train"]`, `ids["dev"]`.

        Args:
            features, looks: see `stack_features`.
            sentences: cleaned ones without pictures.

        Raises:
            CaptioningError: see `longest_caption`.
        """
        max_length = longest_caption(ids["train"], descriptions)
        unseen = None
        if sentences:  # one word less than the longest are given, the last is predicted
            unseen = encode(["unseen"], {"unseen": sentences}, tokenizer, max_length - 1)
        dev = [text.wrap(caption) for key in ids["dev"] for caption in descriptions[key]]
        if longer := sum(len(w) > max_length + 1 for w in tokenizer.texts_to_sequences(dev)):
            console.note(
                f"captions of dev with more than {max_length + 1:,} words, startseq and endseq "
                f"included: {longer:,}; each word behind is predicted from the {max_length:,} "
                "before it"
            )
        return cls(
            encode(ids["train"], descriptions, tokenizer, max_length),
            encode(ids["dev"], descriptions, tokenizer, max_length),
            stack_features(features, ids["train"], looks),
            stack_features(features, ids["dev"], looks),
            tokenizer.vocabulary_size,
            max_length,
            unseen,
        )

    @property
    def dimension(self) -> int:
        """Length of an image feature."""
        return self.train_features.shape[-1]

    @property
    def tokens(self) -> int:
        """Features of an image: k of a grid, 1 where they are pooled."""
        return math.prod(self.train_features.shape[1:-1])

    @property
    def digest(self) -> str:
        """Hexadecimal digest of all of it: a run may be resumed on the same data only."""
        digest = hashlib.sha256()
        for part in filter(None, (self.train, self.dev, self.sentences)):
            for array in (part.inputs, part.targets, part.images):
                digest.update(array)
        for array in (self.train_features, self.dev_features):
            digest.update(
                array.digest.encode() if isinstance(array, Grid) else np.ascontiguousarray(array)
            )
        return digest.hexdigest()[:16]

    def standardised(self, target: float) -> tuple["CaptionData", "Standardisation"]:
        """The same with train features of zero mean and one small standard deviation.

        Both are taken over the images, and of grids over their places too.

        Args:
            target: that standard deviation.

        Returns:
            the data, and how to undo it.
        """
        pooled = len(self.train_features.shape) == 2
        mean, spread = (_moments if pooled else _moments_of_grids)(self.train_features)
        if spread.mean() > 1e-6 * np.abs(mean).mean():
            # a unit that hardly varies stays small: its rounding errors must not become a signal
            scale = np.maximum(spread, 0.1 * spread.mean()) / target
        else:  # nothing varies, as with a single image, beyond rounding errors
            scale = np.ones_like(spread)
        how = Standardisation(mean, scale)
        features = (self.train_features, self.dev_features)
        train, dev = (Standardised(f, how) for f in features)
        return dataclasses.replace(self, train_features=train, dev_features=dev), how


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the images of features (n, D): both float32 (D,)."""
    columns = np.array_split(features, 16, axis=1)  # `std` copies what it is given
    return features.mean(axis=0), np.concatenate([some.std(axis=0) for some in columns])


def _moments_of_grids(features: np.ndarray | Grid) -> tuple[np.ndarray, np.ndarray]:
    """The same over the images and places of (n, k, D), read block by block."""
    count, places, dimension = features.shape
    shift = features[:1].mean(axis=(0, 1))  # near the mean, so that the squares lose no digits
    total, squares = np.zeros((2, dimension))
    with console.Progress(count, "mean and deviation of the grids") as progress:
        for start, stop in grids.blocks(count, 4 * places * dimension):
            block = (features[start:stop] - shift).reshape(-1, dimension)
            total += block.sum(axis=0, dtype=np.float64)
            squares += np.einsum("nd,nd->d", block, block)
            progress.update(stop - start)
    mean = total / (count * places)
    variance = np.maximum(squares / (count * places) - mean**2, 0)
    return (shift + mean).astype(np.float32), np.sqrt(variance).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Standardisation:
    """What is subtracted from each feature, and what it is divided by: both float32 (D,)."""

    mean: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Standardised:
    """Features (n, D), or (n, k, D), that are standardised as they are read: no second copy."""

    features: np.ndarray | Grid
    how: Standardisation

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.shape

    def __getitem__(self, rows) -> np.ndarray:
        return (self.features[rows] - self.how.mean) / self.how.scale
