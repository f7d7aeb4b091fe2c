"""The socket of a pretraining method; `registry.METHODS` lists them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from captioning.encoders import sources
from captioning.pretraining import views
from captioning.pretraining.pairs import Pairs
from captioning.runtime.settings import setting


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every method can be told by `--set name=value`; a method adds its own."""

    warm_up: float = setting(
        0.05, "share of all batches during which the learning rate rises", least=0, below=1
    )
    jitter: float = setting(0.8, "share of views whose colours are jittered", least=0, most=1)
    blur: float = setting(0.5, "share of views that are blurred", least=0, most=1)


class Method(keras.Model):
    """A backbone that learns from batches of pictures, on any Keras backend.

    A method of one's own is a file with a subclass that defines `call` (its forward pass),
    `objective`, and what else of the following differs for it.

    Attributes:
        Settings: a dataclass of its hyper-parameters, see `runtime.settings`.
        view_count: views of each picture in a batch.
        reports: names of what `objective` reports beside the loss.
        reads_captions: whether it learns from captions: then `pairs` are given to it, and a batch
            holds "caption", see `view_batches.CaptionedViewBatches`.
        backbone: float (m, size, size, 3), preprocessed → (m, D) or (m, k, D).
        settings: an instance of `Settings`.
    """

    Settings: type = Settings
    view_count = 1
    reports: tuple[str, ...] = ()
    reads_captions = False

    def __init__(
        self,
        backbone: keras.Model,
        preprocessing: str,
        settings: Settings | None = None,
        pairs: Pairs | None = None,
    ):
        """Make what is trained beside the backbone: heads, predictors, momentum encoders.

        Args:
            preprocessing: a name of `sources.PREPROCESSINGS`.
            settings: None for the defaults.
        """
        super().__init__()
        self.backbone, self.settings = backbone, settings or self.Settings()
        how = sources.PREPROCESSINGS[preprocessing]
        if how.order != "RGB":
            raise ValueError(f"views are RGB, {preprocessing} is {how.order}")
        self.scale, self.shift = 255 * np.float32(how.scale), np.float32(how.shift)
        names = ("loss", *self.reports, "deviation")  # the last a standard deviation: see `spread`
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    @classmethod
    def augmentations(
        cls, settings: Settings, usual: views.Augmentation
    ) -> Sequence[views.Augmentation]:
        """How each of the `view_count` views of a picture is made; all as usual by default."""
        return [usual] * cls.view_count

    def targets(self, captions: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """What a batch holds of each picture besides: name → array, a row a picture.

        Args:
            captions: the cleaned captions of each picture.
        """
        return {}

    def call(self, batch: Mapping, training: bool = False) -> dict:
        """The forward pass.

        Args:
            batch: "pixels", uint8 (n, size, size, 3); "view0", …: see `view`; with captions
                "caption", int32 (n, t), and the `targets`.

        Returns:
            what `objective` needs, and "features" (m, D), whose spread is tracked.
        """
        raise NotImplementedError

    def objective(self, outputs: Mapping) -> tuple:
        """The loss of a batch, a scalar, and a value for each of `reports`, by name."""
        raise NotImplementedError

    def after_step(self, step: int, steps: int) -> None:
        """Called after each update of the weights, as for the average of a momentum encoder.

        Args:
            step: updates made so far, from 1 on; goes on where a run is resumed.
            steps: updates of the whole run.
        """

    @property
    def kept(self) -> keras.Model:
        """The network whose weights become the encoder: the backbone, or an average of it."""
        return self.backbone

    def view(self, batch: Mapping, number: int):
        """One view of each picture, preprocessed: float32 (n, size, size, 3)."""
        size = self.backbone.input_shape[1]
        pictures = views.apply(batch["pixels"], batch[f"view{number}"], size)
        return pictures * self.scale + self.shift

    def features(self, pictures, training: bool = False):
        """Features (m, D) of preprocessed pictures; those of a grid are averaged."""
        found = self.backbone(pictures, training=training)
        return ops.mean(found, axis=1) if len(found.shape) == 3 else found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss, reported = self.objective(y_pred)
        values = {"loss": loss, "deviation": spread(y_pred["features"])} | reported
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return loss

    @property
    def metrics(self):
        return list(self.trackers.values())


def spread(features):
    """Mean standard deviation of the units of normalised features, times √D.

    1 where they are spread evenly, 0 where they have collapsed into one. Features (n, D); Chen and
    He 2021 (https://arxiv.org/abs/2011.10566, section 4.1).
    """
    unit = ops.normalize(ops.cast(features, "float32"), axis=-1)
    return ops.mean(ops.std(unit, axis=0)) * math.sqrt(features.shape[-1])
