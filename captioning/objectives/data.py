"""What a captioner is trained and judged on, as arrays."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from captioning.data.captions import Sequences, encode, longest_caption, stack_features
from captioning.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class CaptionData:
    """What the captioner is trained and judged on.

    Attributes:
        train, dev: captions as word ids; their `images` are rows of the matrices below.
        train_features, dev_features: float32 (images, D), or `Standardised`.
        vocabulary_size, max_length: of the train captions.
    """

    train: Sequences
    dev: Sequences
    train_features: "np.ndarray | Standardised"
    dev_features: "np.ndarray | Standardised"
    vocabulary_size: int
    max_length: int

    @classmethod
    def prepare(
        cls,
        ids: Mapping[str, Sequence[str]],
        descriptions: Mapping[str, Sequence[str]],
        features: Mapping[str, np.ndarray],
        tokenizer: Tokenizer,
    ) -> "CaptionData":
        """Encode the captions and stack the features of the images `ids["train"]`, `ids["dev"]`.

        Raises:
            CaptioningError: see `longest_caption`.
        """
        max_length = longest_caption(ids["train"], descriptions)
        return cls(
            encode(ids["train"], descriptions, tokenizer, max_length),
            encode(ids["dev"], descriptions, tokenizer, max_length),
            stack_features(features, ids["train"]),
            stack_features(features, ids["dev"]),
            tokenizer.vocabulary_size,
            max_length,
        )

    @property
    def dimension(self) -> int:
        """Length of an image feature."""
        return self.train_features.shape[1]

    @property
    def digest(self) -> str:
        """Hexadecimal digest of all of it: a run may be resumed on the same data only."""
        digest = hashlib.sha256()
        for part in (self.train, self.dev):
            for array in (part.inputs, part.targets, part.images):
                digest.update(array)
        for array in (self.train_features, self.dev_features):
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]

    def standardised(self, target: float) -> tuple["CaptionData", "Standardisation"]:
        """The same with train features of zero mean and one small standard deviation.

        Args:
            target: that standard deviation.

        Returns:
            the data, and how to undo it.
        """
        mean = self.train_features.mean(axis=0)
        columns = np.array_split(self.train_features, 16, axis=1)  # `std` copies what it is given
        spread = np.concatenate([some.std(axis=0) for some in columns])
        if spread.mean() > 1e-6 * np.abs(mean).mean():
            # a unit that hardly varies stays small: its rounding errors must not become a signal
            scale = np.maximum(spread, 0.1 * spread.mean()) / target
        else:  # nothing varies, as with a single image, beyond rounding errors
            scale = np.ones_like(spread)
        how = Standardisation(mean, scale)
        features = (self.train_features, self.dev_features)
        train, dev = (Standardised(f, how) for f in features)
        return dataclasses.replace(self, train_features=train, dev_features=dev), how


@dataclasses.dataclass(frozen=True)
class Standardisation:
    """What is subtracted from each feature, and what it is divided by: both float32 (D,)."""

    mean: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Standardised:
    """Features float32 (n, D) that are standardised row by row as they are read: no second copy."""

    features: np.ndarray
    how: Standardisation

    @property
    def shape(self) -> tuple[int, int]:
        return self.features.shape

    def __getitem__(self, rows) -> np.ndarray:
        return (self.features[rows] - self.how.mean) / self.how.scale
