"""What several benchmarks need: ways taking turns, captions of any number of images, the peak."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from captioning.data.captions import Sequences
from captioning.objectives.data import CaptionData
from captioning.runtime import console

WORDS, VOCABULARY = 10, 7579  # as Flickr8k: words a caption, startseq not counted; word ids


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each way's fastest round, because other programs only ever add time."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def fastest(way: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of several rounds."""
    return take_turns({"": way}, rounds)[""]


class MatrixProduct:
    """A square product on the Keras backend: as fast as this machine multiplies.

    Attributes:
        rows: of the matrix.
        operations: additions and multiplications of a call.
    """

    def __init__(self, precision: str):
        import keras

        self.rows = 16384 if console.devices("gpu") else 4096
        self.operations = 2 * self.rows**3
        self.matrix = keras.ops.cast(keras.random.normal((self.rows, self.rows)), precision)

    def __call__(self) -> None:
        from keras import ops

        product = ops.matmul(self.matrix, self.matrix)
        ops.convert_to_numpy(ops.cast(product[0, 0], "float32"))  # waits for the device


def caption_data(images: int, dimension: int = 2048, vocabulary: int = VOCABULARY):
    """Random features and five captions an image, of Flickr8k's lengths: `CaptionData`.

    Speed and memory do not depend on which words they are, so any will do.
    """

    random = np.random.default_rng(0)

    def sequences(count: int):
        lengths = random.poisson(WORDS, 5 * count).clip(2, 33)
        ids = random.integers(1, vocabulary, (len(lengths), 1 + lengths.max()), dtype=np.int32)
        ids[np.arange(ids.shape[1]) > lengths[:, None]] = 0
        inputs = np.where(ids[:, 1:] > 0, ids[:, :-1], 0)  # the last word is a target only
        return Sequences(
            inputs, ids[:, 1:], np.arange(len(lengths), dtype=np.int32) // 5
        ), random.standard_normal((count, dimension), np.float32)

    (train, features), (dev, dev_features) = sequences(images), sequences(max(1, images // 6))
    return CaptionData(train, dev, features, dev_features, vocabulary, 34)
