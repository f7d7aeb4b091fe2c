"""What the decoder writes by itself during training: the judge that the loss is not.

A lower loss is no better caption: it is measured on people's words before the next one, the
captions are made of the decoder's own.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from captioning.data.tokenizer import Tokenizer
from captioning.decoders.captioner import Captioner
from captioning.runtime.errors import CaptioningError
from captioning.runtime.training import Judge
from captioning.scores.cider import cider
from captioning.search import captions

IMAGES = 500  # of dev, at most: greedy captions of them take about a second
CIDER = Judge("val_cider", -1)


@dataclasses.dataclass(frozen=True)
class Look:
    """CIDEr-D of greedy captions of some dev images.

    Attributes:
        tokenizer: of the captioner.
        ids: of dev, in the order of the rows of its features.
        descriptions: image id → captions, as they are trained on.

    Raises:
        CaptioningError: for a single image, whose CIDEr is always 0.
    """

    tokenizer: Tokenizer
    ids: Sequence[str]
    descriptions: Mapping[str, Sequence[str]]

    def __post_init__(self):
        if len(self.ids) < 2:
            raise CaptioningError(
                f"expected two or more dev images for --select cider, found {len(self.ids)}, of "
                "which CIDEr is always 0; use --select loss"
            )

    def __call__(self, captioner: Captioner, features: np.ndarray) -> float:
        """From 0 to 10; `features` are those of all of dev, (n, D) or (n, k, D)."""
        rows = np.unique(np.linspace(0, len(self.ids) - 1, IMAGES).astype(int))
        said = captions.write(captioner, self.tokenizer, features[rows])
        words = {self.ids[i]: caption.words for i, caption in zip(rows, said, strict=True)}
        return cider(words, self.descriptions)


class Looking(keras.callbacks.Callback):
    """Adds what a look tells to the history of each epoch."""

    def __init__(self, look: Callable[[], float]):
        super().__init__()
        self.look = look

    def on_epoch_end(self, epoch, logs=None):
        if CIDER.name not in logs:  # else it is replayed
            logs[CIDER.name] = self.look()
