"""Training of a captioner: any recipe with any decoder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras

from captioning.decoders import captioner
from captioning.decoders.captioner import Captioner
from captioning.decoders.decoder import Config, Decoder
from captioning.objectives.data import CaptionData
from captioning.objectives.recipes import Recipe
from captioning.runtime import training


def train(
    data: CaptionData,
    recipe: Recipe,
    kind: type[Decoder],
    config: Config,
    settings: dict,
    record: dict,
    folder: Path,
    checkpoint: Callable[[dict], str],
    resume: bool = False,
) -> list[dict]:
    """Train, writing a checkpoint whenever val_loss improves.

    Args:
        kind, config: the decoder.
        settings: epochs, batch_size, precision, seed, plateau, patience, and what else must be the
            same on resuming.
        record: what the captioner's file says of itself, see `captioner.Captioner`.
        checkpoint: the name of an epoch's file, from its row of the history.

    Returns:
        the history, see `training.fit`.
    """
    keras.utils.set_random_seed(settings["seed"])
    data, standardisation = recipe.features(data)
    batches, dev = recipe.batches(data, settings["batch_size"], settings["seed"])
    steps = len(batches) * settings["epochs"]
    model = recipe.model(kind, config, settings["precision"], steps)
    trained = Captioner(kind(config), record)
    captioner.check(folder, trained)  # before hours go into it
    callbacks = []
    if settings["plateau"]:
        callbacks.append(keras.callbacks.ReduceLROnPlateau(patience=settings["plateau"]))
    if settings["patience"]:
        callbacks.append(keras.callbacks.EarlyStopping(patience=settings["patience"]))

    def save(row: dict) -> None:
        trained.network.set_weights(model.network.get_weights())
        if standardisation:
            trained.decoder.fold(**dataclasses.asdict(standardisation))
        captioner.save(folder / checkpoint(row), trained)

    return training.fit(
        model,
        batches,
        dev,
        epochs=settings["epochs"],
        folder=folder,
        settings=settings,
        checkpoint=lambda row: folder / checkpoint(row),
        save=save,
        fixed_epochs=recipe.fixed_epochs,
        callbacks=callbacks,
        resume=resume,
    )
