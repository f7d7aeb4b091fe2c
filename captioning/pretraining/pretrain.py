"""Pretraining an encoder: what it starts from, what it learns from, and how it is watched."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from captioning.data import dataset, hdf5, images, text
from captioning.data.captions import fit_tokenizer
from captioning.data.tokenizer import Tokenizer
from captioning.encoders import backbones, loading, residual
from captioning.pretraining import views
from captioning.pretraining.methods import METHODS, Method
from captioning.pretraining.view_batches import CaptionedViewBatches, ViewBatches
from captioning.runtime import console, optimizers, training
from captioning.runtime.errors import CaptioningError
from captioning.scores import probes

ENCODER = "encoder.weights.h5"
NOT_DECAYED = ["bias", "gamma", "beta", "embedding"]  # names of variables
WORDS = 1000  # most frequent content words of the captions, which image-text predicts


def start(init: str | None, backbone: str | None, size: int, seed: int) -> backbones.Trunk:
    """The trunk that training starts with.

    Args:
        init: name or file of weights, as `loading.load` takes them; None draws them.
        backbone: a name of `residual.BACKBONES`; None is that of `init`, or ResNet-50.
        size: of the whole pictures that the encoder will see, in pixels.

    Raises:
        CaptioningError: if the weights cannot be had, or are of another backbone.
    """
    if init is None:
        keras.utils.set_random_seed(seed)
        return backbones.untrained(backbone or "resnet50", size)
    trunk = dataclasses.replace(loading.trunk(init, seed), size=size)
    if backbone not in (None, trunk.backbone):
        raise CaptioningError(
            f"expected weights of {backbone} in --init {init}, found those of {trunk.backbone}; "
            "leave --backbone out"
        )
    return trunk


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The captioned pictures among those of an HDF5 file, and those of the dev split.

    Attributes:
        rows: int (n,), pictures of the file that are in the train split.
        train: cleaned captions of each of `rows`.
        dev: cleaned captions of each of the dev pictures.
        dev_pictures: uint8 (m, size, size, 3), of the size of those in the file.
        tokenizer: of all train captions.
    """

    rows: np.ndarray
    train: list[list[str]]
    dev: list[list[str]]
    dev_pictures: np.ndarray
    tokenizer: Tokenizer

    @classmethod
    def find(
        cls,
        source: dataset.Dataset,
        ids: Mapping[str, Sequence[str]],
        pictures: hdf5.Images,
    ) -> "Pairs":
        """Captions and dev pictures of a dataset, whose splits are `ids`.

        Raises:
            CaptioningError: when none of the pictures is in the train split, or dev has none.
        """
        captions, _ = text.clean_all(source.captions)
        names = list(map(source.image_ids, pictures.names()))
        known = set(ids["train"]) & captions.keys()
        rows = [row for row, key in enumerate(names) if key in known]
        if strangers := len(set(names) - set(ids["train"])):
            console.note(
                f"{strangers} pictures of {pictures.path} are not of the train split: simclr "
                "learns from them as well, image-text leaves them out"
            )
        wanted = set(ids["dev"]) & captions.keys()
        groups = source.image_ids.group(images.list_files(source.image_folder))
        paths = [paths[0] for key, paths in groups.items() if key in wanted]
        dev, dev_pictures = [], []
        for batch in images.batches(paths, pictures.shape[1], 100):
            dev += [captions[source.image_ids(path)] for path in batch.paths]
            dev_pictures.append(batch.pixels)
            for path, reason in batch.unreadable.items():
                console.note(f"left out {path}: {reason}")
        if not rows or not dev:
            raise CaptioningError(
                f"expected pictures of the train split in {pictures.path} and of the dev split in "
                f"{source.image_folder}, found {len(rows)} and {len(dev)}; check --hdf5 and "
                "--dataset"
            )
        return cls(
            np.array(rows),
            [captions[names[row]] for row in rows],
            dev,
            np.concatenate(dev_pictures),
            fit_tokenizer(captions, ids["train"]),
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """All that `train` needs: see `prepare`."""

    model: Method
    trunk: backbones.Trunk
    data: ViewBatches
    validation: ViewBatches | None
    probe: "FeatureProbe"


def prepare(
    trunk: backbones.Trunk,
    pictures: hdf5.Images | np.ndarray,
    held_out: hdf5.Images | np.ndarray | None,
    pairs: Pairs | None,
    settings: Mapping,
) -> Run:
    """Set a method up.

    Args:
        trunk: what to start from.
        pictures: to learn from, uint8 (N, size, size, 3).
        held_out: pictures whose loss decides which epoch is kept; without any the last is.
        pairs: captions to learn from or to probe with; image-text keeps the epoch whose loss on
            the dev pairs is lowest.
        settings: method, size, batch_size, temperature, contrastive_weight, colour, gray,
            least_area, precision, probe_every, seed.
    """
    keras.utils.set_random_seed(settings["seed"])
    method = METHODS[settings["method"]]
    dtype = {"float32": None, "bfloat16": "mixed_bfloat16"}[settings["precision"]]
    strong = views.Augmentation(
        (settings["least_area"], 1.0), colour=settings["colour"], gray=settings["gray"]
    )
    how = (method.view_count, settings["batch_size"], settings["seed"])
    arguments = (
        trunk.trainable(settings["size"], dtype), trunk.preprocessing, settings["temperature"]
    )  # fmt: skip
    if method.reads_captions:
        words = probes.frequent_words(pairs.train, WORDS)
        model = method(
            *arguments, len(words), pairs.tokenizer.vocabulary_size, settings["contrastive_weight"]
        )
        said = {"words": words, "tokenizer": pairs.tokenizer}
        data = CaptionedViewBatches(
            pictures, strong, *how, rows=pairs.rows, captions=pairs.train, **said
        )
        mild = views.Augmentation((0.5, 1.0), jitter=0, gray=0, blur=0)
        validation = CaptionedViewBatches(
            pairs.dev_pictures, mild, *how, fixed=True, captions=pairs.dev, **said
        )
        _check_batch(validation, "captioned pictures of the dev split")
    else:
        model, data, validation = method(*arguments), ViewBatches(pictures, strong, *how), None
        if held_out is not None and len(held_out) > 1:  # one has nothing to be told from
            validation = ViewBatches(held_out, strong, *how, fixed=True)
    _check_batch(data, "pictures to learn from")
    return Run(model, trunk, data, validation, _probe(trunk, pictures, pairs, settings))


def _check_batch(data: ViewBatches, what: str) -> None:
    """Both methods tell the pictures of a batch from one another: a single one has loss 0."""
    if data.batch_size < 2:
        raise CaptioningError(
            f"expected at least 2 {what} in a batch, found 1; raise --batch-size"
            if len(data.rows) > 1
            else f"expected at least 2 {what}, found 1; add some"
        )


def _probe(trunk, pictures, pairs, settings) -> "FeatureProbe":
    how = (trunk, settings["precision"], settings["probe_every"])
    if not pairs:
        return FeatureProbe(_resized(trunk.size, (pictures, range(min(1000, len(pictures))))), *how)
    dev = (pairs.dev_pictures, range(len(pairs.dev_pictures)))
    seen = _resized(trunk.size, (pictures, pairs.rows), dev)
    words = probes.frequent_words(pairs.train)
    train_words, dev_words = (probes.holds(own, words) for own in (pairs.train, pairs.dev))

    def neighbours(features: np.ndarray) -> float:
        train, dev = np.split(features, [len(train_words)])
        return probes.neighbours(train, dev, train_words, dev_words)

    return FeatureProbe(seen, *how, neighbours)


def _resized(
    size: int, *chosen: tuple[hdf5.Images | np.ndarray, Sequence[int] | np.ndarray]
) -> np.ndarray:
    """The chosen rows of some pictures, one behind the other: uint8 (n, size, size, 3)."""
    resized = np.empty((sum(len(rows) for _, rows in chosen), size, size, 3), np.uint8)
    read = (pictures[int(row)] for pictures, rows in chosen for row in rows)
    for place, pixels in zip(resized, read, strict=True):
        picture = Image.fromarray(pixels)
        place[...] = picture.resize((size, size), Image.Resampling.BILINEAR)
    return resized


def train(run: Run, settings: dict, folder: Path, resume: bool = False) -> list[Path]:
    """Train, and keep the trunk as an encoder: a file of `backbones.save`, `ENCODER` in `folder`.

    AdamW with weight decay on the kernels alone; the rate rises over the first twentieth of the
    batches and falls as half a cosine.

    Args:
        run: with validation pictures the trunk of the lowest val_loss is kept, else the last.
        settings: epochs, learning_rate, weight_decay, and what else must be the same on resuming.

    Returns:
        the paths written.

    Raises:
        CaptioningError: when the loss is no longer finite, or see `training.fit`.
    """
    model, data = run.model, run.data
    steps = len(data) * settings["epochs"]
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        settings["learning_rate"] / warm_up,
        max(1, steps - warm_up),
        warmup_target=settings["learning_rate"],
        warmup_steps=warm_up,
    )
    optimizer = optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    model(data[0][0])  # builds the heads
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)

    def save(row: dict) -> None:
        reached = {key: value for key, value in row.items() if key != "seconds"}
        record = {"settings": settings, "reached": reached}
        values = residual.parameters(model.trunk)
        trunk = dataclasses.replace(run.trunk, values=values)
        backbones.save(folder / ENCODER, trunk, record)

    training.fit(
        model,
        data,
        run.validation,
        epochs=settings["epochs"],
        folder=folder,
        settings=settings,
        checkpoint=lambda row: folder / ENCODER,
        save=save,
        fixed_epochs=training.COSINE,
        callbacks=[run.probe],
        resume=resume,
    )
    return [folder / ENCODER, folder / training.HISTORY, folder / training.CURVES]


class FeatureProbe(keras.callbacks.Callback):
    """Every few epochs: how many directions features vary in, and how well neighbours share words.

    Adds `rank` and, with captions, `neighbours` to the epoch's row of the history; an epoch that is
    not probed repeats the last values.
    """

    def __init__(
        self,
        pictures: np.ndarray,
        trunk: backbones.Trunk,
        precision: str,
        every: int,
        neighbours: Callable[[np.ndarray], float] | None = None,
    ):
        """
        Args:
            pictures: uint8 (n, trunk.size, trunk.size, 3), seen whole.
            trunk: what `model.trunk` was made of.
            precision: of the encoder, see `loading.load`.
            every: epochs between two looks.
            neighbours: features float32 (n, D) → how well neighbours share words.
        """
        super().__init__()
        self.pictures, self.every, self.neighbours = pictures, every, neighbours
        self.encoder = loading.of_trunk(trunk, precision)
        self.last = {"rank": math.nan} | ({"neighbours": math.nan} if neighbours else {})

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = epoch

    def on_epoch_end(self, epoch, logs=None):
        if getattr(self, "begun", None) != epoch:  # an epoch of before, replayed on resuming
            self.last = {key: logs[key] for key in self.last}
            return
        due = (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]
        if due and np.isfinite(logs["loss"]):  # else training stops here, with its own sentence
            self.encoder.take(residual.parameters(self.model.trunk))
            features = self.encoder.extract(self.pictures)
            self.last["rank"] = probes.effective_rank(features[:1000])
            if self.neighbours:
                self.last["neighbours"] = self.neighbours(features)
        logs.update(self.last)
