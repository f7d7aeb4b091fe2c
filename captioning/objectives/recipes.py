"""Two ways to train a captioner: `Fast`, and the reference's."""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np

from captioning.decoders import merge
from captioning.decoders.decoder import Config, Decoder
from captioning.objectives.batches import Batches, Prefixes, SentencesFirst, WholeCaptions
from captioning.objectives.cross_entropy import NextWord
from captioning.objectives.data import CaptionData, Standardisation
from captioning.runtime import optimizers, training
from captioning.runtime.errors import CaptioningError
from captioning.runtime.precision import TRAINING
from captioning.runtime.settings import setting


class Recipe:
    """How a captioner is trained.

    A recipe defines all that follows; `train.train` runs it.

    Attributes:
        name: its row of `registry.RECIPES`.
        epochs: how many by default.
        Settings: dataclass of its hyper-parameters.
        decoder_defaults: hyper-parameters of decoders that it sets, unless the user does.
        settings: of this one.
        plateau: epochs without a better val_loss before the learning rate falls; None: it follows
            the recipe's own schedule.
        usual_sentence_epochs: how many by default are first of sentences without pictures, where
            there are any; None for a recipe that cannot learn from them.
        sentence_epochs: how many are.
    """

    name: str
    epochs: int
    Settings: type
    decoder_defaults: ClassVar[dict[str, Any]] = {}
    usual_sentence_epochs: ClassVar[int | None] = None

    def __init__(self, settings: Any = None, plateau: int | None = None, sentence_epochs: int = 0):
        self.settings = settings or self.Settings()
        self.plateau = plateau
        self.sentence_epochs = sentence_epochs

    def batch_size(self, data: CaptionData) -> int:
        """How many samples a batch has by default."""
        raise NotImplementedError

    def features(self, data: CaptionData) -> tuple[CaptionData, Standardisation | None]:
        """The data with features as the network is to see them, and how to undo it."""
        return data, None

    def batches(self, data: CaptionData, batch_size: int, seed: int) -> tuple[Batches, Batches]:
        """Shuffled train batches, and dev batches in order."""
        raise NotImplementedError

    def model(self, kind: type[Decoder], config: Config, precision: str, steps: int) -> keras.Model:
        """The compiled model with its loss; its `network` has the weights of the decoder.

        Args:
            steps: batches of the whole training, for schedules.
        """
        raise NotImplementedError

    @property
    def fixed_epochs(self) -> str | None:
        """Why a run cannot be made longer, if so: see `training.fit`."""
        return None


def _compiled(network: keras.Model, optimizer: keras.optimizers.Optimizer, *how: float) -> NextWord:
    model = NextWord(network, *how)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


@dataclasses.dataclass(frozen=True)
class FastSettings:
    """Hyper-parameters of `Fast`."""

    learning_rate: float = setting(2e-3, "Adam's, at the start of its cosine", above=0)
    plateau_learning_rate: float = setting(
        1e-3, "Adam's at the start, where it falls on a plateau instead", above=0
    )
    # a smaller one has the lower loss on weak features, and captions that say less of the picture
    feature_std: float = setting(0.2, "standard deviation of standardised features", above=0)
    warm_up: float = setting(0.0, "share of the steps before the cosine begins", least=0, below=1)
    label_smoothing: float = setting(
        0.1, "share of the target that all words divide", least=0, below=1
    )


class Fast(Recipe):
    """Teacher forcing over whole captions with Adam and a cosine, on standardised features.

    Dropout drowns features whose mean is many standard deviations from zero, so they are
    standardised; what that changes is folded into the saved network.
    """

    name = "fast"
    epochs = 8
    Settings = FastSettings
    usual_sentence_epochs = 2

    def batch_size(self, data):
        """64 captions of Flickr8k, fewer where there are fewer: about 468 batches an epoch.

        Less data in smaller batches reaches a lower loss on dev than in more epochs.
        """
        return min(64, max(16, len(data.train.images) // 468))

    def features(self, data):
        return data.standardised(self.settings.feature_std)

    def batches(self, data, batch_size, seed):
        train = WholeCaptions(data.train_features, data.train, batch_size, seed)
        if self.sentence_epochs:
            no_picture = np.zeros((1, *data.train_features.shape[1:]), np.float32)
            sentences = WholeCaptions(no_picture, data.sentences, batch_size, seed)
            train = SentencesFirst(sentences, train, self.sentence_epochs)
        return train, WholeCaptions(data.dev_features, data.dev, 128)

    def model(self, kind, config, precision, steps):
        if kind.fold is Decoder.fold:
            raise CaptioningError(
                f"expected a decoder with `fold` for the recipe 'fast', which standardises "
                f"features; {kind.name!r} has none"
            )
        network, how = kind.build(config, TRAINING[precision]), self.settings
        if self.plateau:
            rate = how.plateau_learning_rate
        else:
            rate = optimizers.cosine(how.learning_rate, steps, int(how.warm_up * steps))
        token = config.dimension if self.sentence_epochs and kind.looks else 0
        return _compiled(network, optimizers.Adam(rate), how.label_smoothing, token)

    @property
    def fixed_epochs(self):
        return None if self.plateau else training.COSINE


@dataclasses.dataclass(frozen=True)
class ReferenceSettings:
    """Hyper-parameters of `Reference`."""

    learning_rate: float = setting(0.01, "Adam's", above=0)
    epsilon: float = setting(0.1, "Adam's", above=0)


class Reference(Recipe):
    """The reference's: its network, one prefix a sample, raw features."""

    name = "reference"
    epochs = 20
    Settings = ReferenceSettings
    decoder_defaults: ClassVar[dict[str, Any]] = {
        "units": 256,
        "embedding_width": 0,
        "decoder_width": 0,
        "dropout": 0.5,
        "scores_dropout": 0.0,
    }

    def batch_size(self, data):
        return 32

    def batches(self, data, batch_size, seed):
        return (
            Prefixes(data.train_features, data.train, data.max_length, batch_size, seed),
            Prefixes(data.dev_features, data.dev, data.max_length, 1024),
        )

    def model(self, kind, config, precision, steps):
        if kind is not merge.Merge:
            raise CaptioningError(
                f"expected the decoder 'merge' for the recipe 'reference', found {kind.name!r}; "
                "train it with --recipe fast"
            )
        network = merge.build(config, logits=True, dtype=TRAINING[precision])
        how = self.settings
        return _compiled(network, optimizers.Adam(how.learning_rate, epsilon=how.epsilon))
