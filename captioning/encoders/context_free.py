"""The context-free network that solves jigsaw puzzles, and the encoder that is left of it.

Noroozi and Favaro 2016 (arXiv 1603.09246): nine tiles pass, each alone, through one shared
backbone; only the head sees them together and tells which permutation they are in. It is trained
by `pretraining.jigsaw`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

from captioning.data import seen
from captioning.encoders import residual
from captioning.encoders.registry import JIGSAW_BACKBONES, TILES
from captioning.formats import archives
from captioning.runtime.errors import refusing

MODES = ("full", "single")
PREPROCESSING = "standardised"  # a tile, or the whole picture
_RECORD = "jigsaw.json"  # a member of the .keras archive
_BACKBONE = "trunk"  # the layer's name, which is in the files


def _resnet50_head(tiles, dtype):
    x = layers.Flatten(dtype=dtype)(tiles)
    x = layers.Dense(2048, "relu", dtype=dtype, name="head")(x)
    x = layers.Dropout(0.5, dtype=dtype)(x)
    x = layers.Dense(1024, "relu", dtype=dtype, name="feature")(x)
    return layers.Dropout(0.5, dtype=dtype)(x)


def _alexnet_head(tiles, dtype):
    x = layers.Flatten(dtype=dtype)(tiles)
    x = layers.Dropout(0.5, dtype=dtype)(x)
    x = layers.Dense(4096, "relu", dtype=dtype, name="head")(x)
    x = layers.Dropout(0.5, dtype=dtype)(x)
    return layers.Dense(1024, "relu", dtype=dtype, name="feature")(x)


def _small_head(tiles, dtype):
    """As in the paper, a dense layer describes each tile before they meet."""
    x = layers.Dense(256, use_bias=False, dtype=dtype, name="head")(tiles)  # (n, 9, 256)
    x = layers.BatchNormalization(momentum=0.9, dtype=dtype, name="head_norm")(x)
    x = layers.ReLU(dtype=dtype)(x)
    x = layers.Flatten(dtype=dtype)(x)
    x = layers.Dropout(0.1, dtype=dtype)(x)
    x = layers.Dense(1024, "relu", dtype=dtype, name="feature")(x)
    return layers.Dropout(0.1, dtype=dtype)(x)


class Parts(NamedTuple):
    """What a context-free network is made of."""

    backbone: Callable[..., keras.Model]  # size, dtype → (n, size, size, 3) → (n, …)
    head: Callable  # tiles (n, 9, values), dtype → (n, 1024), of a layer called `feature`


RESNET50 = Parts(residual.resnet50, _resnet50_head)
ALEXNET = Parts(residual.alexnet, _alexnet_head)
SMALL = Parts(residual.small, _small_head)


def build(backbone: str, tile: int, permutations: int, dtype: str | None = None) -> keras.Model:
    """The network: float tiles (n, 9, tile, tile, 3) → float32 (n, permutations), a distribution.

    Its layer `trunk` is the shared backbone; `feature` are the 1024 units before the softmax.

    Args:
        backbone: a name of `JIGSAW_BACKBONES`.
        tile: side length in pixels.
        permutations: how many there are to choose from.
        dtype: Keras dtype policy; the softmax is float32 in any case.
    """
    parts = JIGSAW_BACKBONES[backbone]
    shared = parts.backbone(tile, dtype=dtype)
    shared.name = _BACKBONE
    tiles = keras.Input((TILES, tile, tile, 3), name="tiles")
    x = ops.reshape(tiles, (-1, tile, tile, 3))  # (9n, tile, tile, 3): one pass for all
    x = shared(x)
    x = ops.reshape(x, (-1, TILES, math.prod(shared.output_shape[1:])))  # (n, 9, values)
    x = parts.head(x, dtype)
    x = layers.Dense(permutations, "softmax", dtype="float32", name="permutation")(x)
    return keras.Model(tiles, x, name=f"jigsaw_{backbone}")


def save(path: Path, model: keras.Model, record: dict) -> Path:
    """Write a network with its record: see `archives.save`; weights must be finite."""
    weights = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    archives.check_finite(weights, f"the network to write to {path}", "lower the learning rate")
    return archives.save(path, model, _RECORD, record)


def load(path: Path, dtype: str | None = None) -> tuple[keras.Model, dict]:
    """Read a network and its record; the network is built by its record and only arrays are taken.

    Raises:
        CaptioningError: if the file is damaged, or is not exactly such a network, or holds
            numbers that are not finite.
    """
    with (
        refusing(path, "a network trained by jigsaw/main.py"),
        archives.opened(path, _RECORD) as (_, record, weights),
    ):
        if not _is_sound(record, path.stat().st_size):
            raise ValueError("it carries no record of one")
        model = of_record(record, dtype)
        archives.fill(path, weights, model, record["backbone"], "train it again")
    return model, record


def of_record(record: dict, dtype: str | None = None) -> keras.Model:
    """The network that a record describes, its weights drawn at random."""
    return build(record["backbone"], record["sizes"]["tile"], record["permutations"], dtype)


def _is_sound(record: dict, size: int) -> bool:
    """Whether it describes a network that a file of `size` bytes can hold."""
    backbone, sizes = record.get("backbone"), record.get("sizes", {})
    numbers = [sizes.get(key) for key in ("tile", "cell", "crop", "image")]
    numbers.append(record.get("permutations"))
    if backbone not in JIGSAW_BACKBONES or not all(isinstance(number, int) for number in numbers):
        return False
    tile, cell, crop, image, permutations = numbers
    return 0 < tile <= cell <= crop <= image <= 1024 and 0 < permutations * 1024 * 4 < size


def images_seen(record: dict) -> np.ndarray:
    """What the record of a network says of the images it was trained on: `data.seen`."""
    try:
        return seen.from_text(record.get("seen", ""))
    except (TypeError, ValueError):  # a record as untrusted as its file
        return seen.NONE


def encoder(path: Path, mode: str, dtype: str | None = None) -> tuple[keras.Model, dict]:
    """What a trained network sees in whole pictures: uint8 (n, image, image, 3) → (n, D) float32.

    Args:
        path: see `load`.
        mode: "full": the 1024 units before the softmax, over nine centred tiles in their own
            order, the middles of the cells of a centred crop. "single": the average of the shared
            backbone's output over the picture, standardised as a whole.
        dtype: Keras dtype policy of the network.

    Returns:
        the network, and the record of the file.

    Raises:
        CaptioningError: see `load`.
    """
    model, record = load(path, dtype)
    sizes = record["sizes"]
    pixels = keras.Input((sizes["image"], sizes["image"], 3), dtype="uint8")
    x = ops.cast(pixels, "float32")
    if mode == "full":
        margin = (sizes["image"] - sizes["crop"]) // 2 + (sizes["cell"] - sizes["tile"]) // 2
        starts = range(margin, margin + 3 * sizes["cell"], sizes["cell"])
        cut = [x[:, i : i + sizes["tile"], j : j + sizes["tile"]] for i in starts for j in starts]
        tiles = _standardised(ops.stack(cut, axis=1))  # (n, 9, tile, tile, 3)
        x = keras.Model(model.input, model.get_layer("feature").output)(tiles)
    else:
        shared = JIGSAW_BACKBONES[record["backbone"]].backbone(sizes["image"], dtype=dtype)
        shared.set_weights(model.get_layer(_BACKBONE).get_weights())
        x = shared(_standardised(x))
        if len(x.shape) == 4:  # (n, h, w, D)
            x = ops.mean(ops.cast(x, "float32"), axis=(1, 2))
    return keras.Model(pixels, ops.cast(x, "float32")), record


def _standardised(x):
    """Zero mean and unit standard deviation over the last three axes; a constant becomes zeros."""
    mean, variance = ops.moments(x, axes=(-3, -2, -1), keepdims=True)
    scale = ops.where(variance > 1e-6, ops.rsqrt(ops.maximum(variance, 1e-6)), 0.0)
    return (x - mean) * scale
