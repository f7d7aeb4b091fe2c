"""Training of a captioner: any recipe with any decoder."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from captioning.decoders import captioner
from captioning.decoders import registry as decoders
from captioning.decoders.captioner import Captioner
from captioning.decoders.decoder import Config, Decoder
from captioning.objectives import registry as recipes
from captioning.objectives.data import CaptionData
from captioning.objectives.look import Look, Looking
from captioning.objectives.recipes import Recipe
from captioning.runtime import settings, training
from captioning.runtime.errors import CaptioningError


@dataclasses.dataclass(frozen=True)
class Training:
    """A training as it is set up.

    Attributes:
        recipe, kind, config: what is trained how.
        settings: JSON-able, recorded with the result: names of recipe and decoder, their
            hyper-parameters, epochs, batch_size, precision, seed, plateau, patience; where there
            are sentences without pictures sentence_epochs, which come before the epochs.
    """

    recipe: Recipe
    kind: type[Decoder]
    config: Config
    settings: dict

    @classmethod
    def plan(
        cls,
        data: CaptionData,
        recipe: str = recipes.DEFAULT,
        decoder: str = decoders.DEFAULT,
        changed: Sequence[str] = (),
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        precision: str = "float32",
        seed: int = 0,
        plateau: int | None = None,
        patience: int | None = None,
        select: str = "loss",
        sentence_epochs: int | None = None,
    ) -> "Training":
        """Set a training up.

        Args:
            recipe: a name of `recipes.RECIPES`; brings its own epochs and batch size.
            decoder: a name of `decoders.DECODERS`.
            changed: hyper-parameters of recipe and decoder as `name=value`.
            precision: of the arithmetic, float32 or bfloat16.
            plateau: epochs without a better val_loss before the learning rate falls; None: it
                follows the recipe's schedule.
            patience: epochs that are no better before training ends; None: never.
            select: what tells which epoch is better, one of `recipes.SELECTIONS`.
            sentence_epochs: how many, before `epochs`, are of sentences without pictures, where the
                data has some; None: the recipe's.

        Raises:
            CaptioningError: for unknown names, for values out of range, and for sentences that the
                recipe cannot learn from.
        """
        chosen, kind = recipes.RECIPES[recipe], decoders.DECODERS[decoder]
        of_recipe, of_decoder = settings.parse_all(
            (chosen.Settings, kind.Settings),
            changed,
            **kind.recipe_defaults | chosen.decoder_defaults,
        )
        unseen = {}
        if data.sentences:
            if chosen.usual_sentence_epochs is None:
                raise CaptioningError(
                    f"expected a recipe that learns from sentences without pictures, found "
                    f"{recipe!r}; leave --sentences out, or train with --recipe {recipes.DEFAULT}"
                )
            unseen["sentence_epochs"] = sentence_epochs or chosen.usual_sentence_epochs
        how = chosen(of_recipe, plateau, **unseen)
        said = {
            "recipe": recipe,
            "decoder": decoder,
            "hyperparameters": dataclasses.asdict(of_recipe) | dataclasses.asdict(of_decoder),
            "epochs": epochs or kind.recipe_defaults.get("epochs", how.epochs),
            "epochs_are_fixed": how.fixed_epochs is not None,
            "batch_size": batch_size or how.batch_size(data),
            "precision": precision,
            "seed": seed,
            "plateau": plateau,
            "patience": patience,
            "select": select,
            **unseen,
        }
        sizes = data.dimension, data.vocabulary_size, data.max_length
        config = Config(*sizes, of_decoder, data.tokens)
        return cls(how, kind, config, said)

    def batches(self, data: CaptionData):
        """Train and dev batches of data as the recipe's `features` gives them."""
        return self.recipe.batches(data, self.settings["batch_size"], self.settings["seed"])

    def model(self, steps: int) -> keras.Model:
        """The compiled model, see `Recipe.model`."""
        return self.recipe.model(self.kind, self.config, self.settings["precision"], steps)

    def run(
        self,
        data: CaptionData,
        record: dict,
        folder: Path,
        checkpoint: Callable[[dict], str],
        resume: bool = False,
        look: Look | None = None,
    ) -> list[dict]:
        """Train, writing a checkpoint of each epoch that is the best so far.

        Args:
            record: what the captioner's file says of itself, see `captioner.Captioner`; holds
                `settings` with more that must be the same on resuming.
            checkpoint: the name of an epoch's file, from its row of the history.
            look: what captions of dev are worth, told of each epoch where it is given; selecting by
                CIDEr needs it.

        Returns:
            the history, see `training.fit`.
        """
        keras.utils.set_random_seed(self.settings["seed"])
        dev_features = data.dev_features
        data, standardisation = self.recipe.features(data)
        batches, dev = self.batches(data)
        if self.recipe.sentence_epochs and len(batches) < 2:
            raise CaptioningError(
                "expected two or more batches of train captions beside sentences, found one; lower "
                "--batch-size"
            )
        epochs = self.recipe.sentence_epochs + self.settings["epochs"]
        model = self.model(len(batches) * epochs)
        trained = Captioner(self.kind(self.config), record)
        captioner.check(folder, trained)  # before hours go into it

        def current() -> Captioner:
            trained.network.set_weights(model.network.get_weights())
            if standardisation:
                trained.decoder.fold(**dataclasses.asdict(standardisation))
            return trained

        looking = [Looking(lambda: look(current(), dev_features))] if look else []

        return training.fit(
            model,
            batches,
            dev,
            epochs=epochs,
            folder=folder,
            settings=record.get("settings", self.settings),
            checkpoint=lambda row: folder / checkpoint(row),
            save=lambda row: captioner.save(folder / checkpoint(row), current()),
            judge=self.judge,
            fixed_epochs=self.recipe.fixed_epochs,
            callbacks=[*looking, *self._callbacks()],
            resume=resume,
        )

    @property
    def judge(self) -> training.Judge:
        """What tells the best epoch."""
        return recipes.SELECTIONS[self.settings["select"]]

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        callbacks = []
        if self.settings["plateau"]:
            patience = self.settings["plateau"]
            callbacks.append(keras.callbacks.ReduceLROnPlateau(patience=patience))
        if self.settings["patience"]:
            name, sign = self.judge
            callbacks.append(
                keras.callbacks.EarlyStopping(
                    name, patience=self.settings["patience"], mode="min" if sign > 0 else "max"
                )
            )
        return callbacks
