"""The context-free network that solves jigsaw puzzles, and the features that it learns by it.

Noroozi and Favaro 2016 (arXiv 1603.09246): nine tiles pass, each alone, through one shared trunk;
only the head sees them together and tells which permutation they are in.
"""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers, ops

from captioning.data import seen
from captioning.encoders import residual
from captioning.formats import archives, pickles
from captioning.runtime import console, optimizers, training
from captioning.runtime.errors import refusing

TILES = 9
MODES = ("full", "single")
PREPROCESSING = "standardised"  # a tile, or the whole picture
MODEL, HISTORY, ACCURACY = "model.keras", "history.pkl", "test_accuracy.pkl"
_RECORD = "jigsaw.json"  # a member of the .keras archive


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


BACKBONES = {  # trunk, and the head that the reference puts on it
    "resnet50": (residual.resnet50, _resnet50_head),
    "alexnet": (residual.alexnet, _alexnet_head),
    "small": (residual.small, _small_head),
}


def build(backbone: str, tile: int, permutations: int, dtype: str | None = None) -> keras.Model:
    """The network: float tiles (n, 9, tile, tile, 3) → float32 (n, permutations), a distribution.

    Its layer `trunk` is the shared one; `feature` are the 1024 units before the softmax.

    Args:
        backbone: a name of `BACKBONES`.
        tile: side length in pixels.
        permutations: how many there are to choose from.
        dtype: Keras dtype policy; the softmax is float32 in any case.
    """
    make_trunk, head = BACKBONES[backbone]
    trunk = make_trunk(tile, dtype=dtype)
    trunk.name = "trunk"
    tiles = keras.Input((TILES, tile, tile, 3), name="tiles")
    x = ops.reshape(tiles, (-1, tile, tile, 3))  # (9n, tile, tile, 3): one pass for all
    x = trunk(x)
    x = ops.reshape(x, (-1, TILES, math.prod(trunk.output_shape[1:])))  # (n, 9, values)
    x = head(x, dtype)
    x = layers.Dense(permutations, "softmax", dtype="float32", name="permutation")(x)
    return keras.Model(tiles, x, name=f"jigsaw_{backbone}")


def train(
    data: Mapping[str, keras.utils.PyDataset],
    settings: dict,
    record: dict,
    folder: Path,
    resume: bool,
) -> list[Path]:
    """Train a network, keep the best by val_loss, and count the test puzzles that it solves.

    Args:
        data: puzzles to "train", "val" and "test" on; see `training.fit` for their order.
        settings: backbone, epochs, precision, seed, learning_rate, schedule, and what else must
            be the same when resuming. No epochs at all: the network is saved as it starts.
        record: what the model file should tell; backbone, tile and permutations make the network.

    Returns:
        the paths written.
    """
    keras.utils.set_random_seed(settings["seed"])
    dtype = {"float32": None, "bfloat16": "mixed_bfloat16"}[settings["precision"]]
    with _all_gpus():
        model = build(record["backbone"], record["sizes"]["tile"], record["permutations"], dtype)
        optimizer = optimizers.Adam(settings["learning_rate"])
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
    best = folder / MODEL
    saved = _of_record(record)  # in float32, and without the optimiser's arrays

    def keep(epoch: int, **reached) -> None:
        saved.set_weights(model.get_weights())
        save(best, saved, record | {"epoch": epoch} | reached)

    written = [best, folder / ACCURACY]
    if settings["epochs"]:
        history = training.fit(
            model,
            data["train"],
            data["val"],
            epochs=settings["epochs"],
            folder=folder,
            settings=settings,
            checkpoint=lambda row: best,
            save=lambda row: keep(row["epoch"], val_loss=row["val_loss"]),
            fixed_epochs=training.COSINE if settings["schedule"] == "cosine" else None,
            callbacks=[*_schedule(settings), BesideChance(record["permutations"])],
            resume=resume,
        )
        columns = {key: [row[key] for row in history] for key in history[0]}
        pickles.dump(folder / HISTORY, columns)
        written += [folder / HISTORY, folder / training.HISTORY, folder / training.CURVES]
    else:
        keep(0)
    accuracy = _accuracy(load(best)[0], data["test"])
    pickles.dump(folder / ACCURACY, accuracy)
    console.note(f"test puzzles solved: {beside_chance(accuracy, record['permutations'])}")
    return written


def _accuracy(model: keras.Model, puzzles: keras.utils.PyDataset) -> float:
    """Share of puzzles solved."""
    model.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    return float(model.evaluate(puzzles, verbose=0, return_dict=True)["accuracy"])


def _all_gpus():
    """Data parallelism where there are several GPUs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if len(tf.config.list_physical_devices("GPU")) > 1:
            return tf.distribute.MirroredStrategy().scope()
    return contextlib.nullcontext()


def _schedule(settings: dict) -> list[keras.callbacks.Callback]:
    """The reference's ("plateau"), or half a cosine over all epochs; both rise in the first."""
    rate, epochs = settings["learning_rate"], settings["epochs"]
    if settings["schedule"] == "cosine":

        def cosine(epoch):
            return rate * (1 + math.cos(math.pi * epoch / epochs)) / 2

        return [keras.callbacks.LearningRateScheduler(cosine), WarmUp(rate)]
    return [
        WarmUp(rate),
        keras.callbacks.ReduceLROnPlateau(patience=3),
        keras.callbacks.EarlyStopping(patience=6),
    ]


class WarmUp(keras.callbacks.Callback):
    """The learning rate rises linearly over the batches of the first epoch."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def on_epoch_begin(self, epoch, logs=None):
        self.first = epoch == 0

    def on_train_batch_begin(self, batch, logs=None):
        if self.first:
            self.model.optimizer.learning_rate = self.rate * (batch + 1) / self.params["steps"]


class BesideChance(keras.callbacks.Callback):
    """Accuracy beside that of guessing; warns when after five epochs the loss is that of it."""

    def __init__(self, permutations: int):
        super().__init__()
        self.permutations = permutations

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = epoch

    def on_epoch_end(self, epoch, logs=None):
        if getattr(self, "begun", None) != epoch:  # an epoch of before, replayed on resuming
            return
        console.note(
            f"val puzzles solved: {beside_chance(logs['val_accuracy'], self.permutations)}"
        )
        if epoch >= 4 and logs["loss"] > math.log(self.permutations) - 0.05:
            console.note(
                f"warning: the loss has not fallen below ln({self.permutations}) = "
                f"{math.log(self.permutations):.2f}, that of guessing; try another --learning-rate "
                "or fewer permutations (--max-hamming-set)"
            )


def beside_chance(accuracy: float, permutations: int) -> str:
    """'23.0 %, 23.0 times chance (1.0 %)'."""
    chance = 1 / permutations
    return f"{accuracy:.1%}, {accuracy / chance:.1f} times chance ({chance:.1%})"


def save(path: Path, model: keras.Model, record: dict) -> Path:
    """Write a network with its record: see `archives.save`; weights must be finite."""
    weights = {w.path: ops.convert_to_numpy(w) for w in model.weights}
    archives.check_finite(weights, f"the network to write to {path}", "lower the learning rate")
    return archives.save(path, model, _RECORD, record)


def load(path: Path, dtype: str | None = None) -> tuple[keras.Model, dict]:
    """Read a network and its record; the network is built anew and only arrays are taken.

    Raises:
        CaptioningError: if the file is damaged, or is not exactly such a network.
    """
    with (
        refusing(path, "a network trained by jigsaw/main.py"),
        archives.opened(path, _RECORD) as (_, record, weights),
    ):
        if not _is_sound(record, path.stat().st_size):
            raise ValueError("it carries no record of one")
        model = _of_record(record, dtype)
        found = []
        weights.visititems(
            lambda _, node: found.append(node.shape) if isinstance(node, h5py.Dataset) else None
        )
        # Keras passes over what it does not look for
        if sorted(found) != sorted(tuple(variable.shape) for variable in model.weights):
            raise ValueError(f"its arrays are not those of {record['backbone']}")
        model.load_weights(path)
    return model, record


def _of_record(record: dict, dtype: str | None = None) -> keras.Model:
    return build(record["backbone"], record["sizes"]["tile"], record["permutations"], dtype)


def _is_sound(record: dict, size: int) -> bool:
    """Whether it describes a network that a file of `size` bytes can hold."""
    backbone, sizes = record.get("backbone"), record.get("sizes", {})
    numbers = [sizes.get(key) for key in ("tile", "cell", "crop", "image")]
    numbers.append(record.get("permutations"))
    if backbone not in BACKBONES or not all(isinstance(number, int) for number in numbers):
        return False
    tile, cell, crop, image, permutations = numbers
    return 0 < tile <= cell <= crop <= image <= 1024 and 0 < permutations * 1024 * 4 < size


def images_seen(record: dict) -> np.ndarray:
    """What the record of a network says of the images it was trained on: `captioning.seen`."""
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
            trunk's output over the picture, standardised as a whole.
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
        trunk = BACKBONES[record["backbone"]][0](sizes["image"], dtype=dtype)
        trunk.set_weights(model.get_layer("trunk").get_weights())
        x = trunk(_standardised(x))
        if len(x.shape) == 4:  # (n, h, w, D)
            x = ops.mean(ops.cast(x, "float32"), axis=(1, 2))
    return keras.Model(pixels, ops.cast(x, "float32")), record


def _standardised(x):
    """Zero mean and unit deviation over the last three axes; a constant becomes zeros."""
    mean, variance = ops.moments(x, axes=(-3, -2, -1), keepdims=True)
    scale = ops.where(variance > 1e-6, ops.rsqrt(ops.maximum(variance, 1e-6)), 0.0)
    return (x - mean) * scale
