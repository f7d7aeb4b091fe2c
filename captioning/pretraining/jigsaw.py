"""Which of N permutations are the nine tiles in? The training of the context-free network.

Noroozi and Favaro 2016 (arXiv 1603.09246); the network itself is `encoders.context_free`.
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

import keras

from captioning.data import hdf5, seen
from captioning.encoders import context_free
from captioning.formats import pickles
from captioning.pretraining import permutation_sets
from captioning.pretraining.callbacks import Resumable
from captioning.pretraining.puzzle_batches import PuzzleBatches
from captioning.runtime import console, files, optimizers, training, versions
from captioning.runtime.errors import CaptioningError
from captioning.runtime.precision import TRAINING

MODEL, HISTORY, ACCURACY = "model.keras", "history.pkl", "test_accuracy.pkl"


def pretrain(
    hdf5_file: Path,
    permutation_file: Path,
    folder: Path,
    backbone: str,
    count: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    schedule: str,
    precision: str,
    seed: int,
    resume: bool = False,
) -> list[Path]:
    """Train a network on the puzzles of a file of pictures: what jigsaw/main.py does.

    Args:
        hdf5_file: by jigsaw/to_hdf5.py.
        permutation_file: by maximal_hamming.py, of which the first `count` are taken.
        folder: where the files go.
        backbone: a name of `encoders.registry.JIGSAW_BACKBONES`.
        epochs, batch_size, learning_rate, schedule, precision, seed: see `train`.

    Returns:
        the paths written.

    Raises:
        CaptioningError: if there are too few permutations or no pictures, or see `train`.
    """
    permutations = permutation_sets.load(permutation_file)[:count]
    if len(permutations) < max(2, count):
        raise CaptioningError(
            f"expected at least {max(2, count)} permutations in {permutation_file}, found "
            f"{len(permutations)}; make more with maximal_hamming.py"
        )
    pictures = {split: hdf5.Images(hdf5_file, f"{split}_img") for split in ("train", "val", "test")}
    for split, images in pictures.items():
        if not len(images) or not 50 <= images.shape[1] <= 1024:
            raise CaptioningError(
                f"expected pictures of 50 to 1024 pixels in {split}_img of {hdf5_file}, found "
                f"shape {tuple(images.shape)}; make the file again with to_hdf5.py"
            )
    data = {
        split: PuzzleBatches(
            images,
            permutations,
            batch_size,
            seed=seed,
            fixed=split != "train",
            workers=min(8, os.cpu_count() or 1),
        )
        for split, images in pictures.items()
    }
    sizes = data["train"].puzzles.creator.sizes
    record = {
        "backbone": backbone,
        "permutations": len(permutations),
        "permutations_sha256": files.sha256(permutation_file),
        "sizes": {key: getattr(sizes, key) for key in ("image", "crop", "cell", "tile")},
    }
    settings = record | {
        "images": {split: len(images) for split, images in pictures.items()},
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "precision": precision,
        "seed": seed,
        "versions": versions.installed(),
    }
    console.note(f"puzzles: {settings['images']} pictures, {len(permutations)} permutations")
    record |= {"settings": settings, "seen": seen.to_text(pictures["train"].hashes())}
    with files.locked(folder):
        return train(data, settings, record, folder, resume)


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
    dtype = TRAINING[settings["precision"]]
    with _all_gpus():
        model = context_free.of_record(record, dtype)
        optimizer = optimizers.Adam(settings["learning_rate"])
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        optimizer.build(model.trainable_variables)
    best = folder / MODEL
    saved = context_free.of_record(record)  # in float32, and without the optimiser's arrays

    def keep(epoch: int, **reached) -> None:
        saved.set_weights(model.get_weights())
        context_free.save(best, saved, record | {"epoch": epoch} | reached)

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
    accuracy = _accuracy(context_free.load(best)[0], data["test"])
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


class BesideChance(Resumable):
    """Accuracy beside that of guessing; warns when after five epochs the loss is that of it."""

    def __init__(self, permutations: int):
        super().__init__()
        self.permutations = permutations

    def on_epoch_end(self, epoch, logs=None):
        if self.is_replayed(epoch):
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
