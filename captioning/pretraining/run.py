"""Pretraining a backbone: what it starts from, what it learns from, and what is kept.

backbone = run.start(None, "resnet18", 96, seed=0)
prepared = run.prepare(backbone, pictures, None, None, settings)
run.train(prepared, settings, Path("work"))  # writes work/encoder.weights.h5
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from captioning.data import dataset, hdf5, seen
from captioning.data.splits import find_splits
from captioning.encoders import backbones, loading
from captioning.encoders.network import parameters
from captioning.encoders.registry import backbone_name
from captioning.pretraining import feature_probe, views
from captioning.pretraining.method import Method, Settings
from captioning.pretraining.pairs import Pairs
from captioning.pretraining.registry import METHODS
from captioning.pretraining.view_batches import CaptionedViewBatches, ViewBatches
from captioning.runtime import console, files, optimizers, precision, training, versions
from captioning.runtime.errors import CaptioningError

ENCODER = "encoder.weights.h5"
NOT_DECAYED = ["bias", "gamma", "beta", "embedding"]  # names of variables
MILD = views.Augmentation((0.5, 1.0), jitter=0, gray=0, blur=0)  # of captioned dev pictures


def pretrain(
    hdf5_file: Path,
    folder: Path,
    settings: Mapping,
    own: Settings,
    *,
    init: str | None = None,
    network: str | None = None,
    encoder_size: int,
    dataset_folder: Path | Sequence[Path] | None = None,
    workdir: Path = Path(),
    split_seed: int = 0,
    resume: bool = False,
) -> list[Path]:
    """From a file of pictures to an encoder: what pretraining/main.py does.

    Args:
        hdf5_file: by jigsaw/to_hdf5.py.
        folder: where the files go.
        settings: of `prepare` and `train`, but for method_settings.
        own: those of the method.
        init, network, encoder_size: see `start`.
        dataset_folder: of the captions to learn from, or to probe with; or several.
        workdir, split_seed: see `splits.find_splits`.

    Returns:
        the paths written.

    Raises:
        CaptioningError: if `init` would be written over, if there are no pictures or no captions
            of them, or see `start` and `train`.
    """
    if init and Path(init).resolve() == (folder / ENCODER).resolve():
        raise CaptioningError(
            f"--init {init} is the file that this run would write; name another --output"
        )
    pictures = hdf5.Images(hdf5_file, "train_img")
    held_out = hdf5.Images(hdf5_file, "val_img") if hdf5.has(hdf5_file, "val_img") else []
    if not len(pictures):
        raise CaptioningError(
            f"expected pictures in train_img of {hdf5_file}, found none; make it again with "
            "jigsaw/to_hdf5.py"
        )
    backbone = start(init, network, encoder_size, settings["seed"])
    record = {**settings, "method_settings": dataclasses.asdict(own)}
    record |= {"backbone": backbone.network, "encoder_size": backbone.size}
    record |= {"init": Path(init).name if init else None, "init_sha256": backbone.digest}
    record |= {"images": len(pictures), "held_out": len(held_out), "versions": versions.installed()}
    record |= {"hdf5_sha256": files.sha256(hdf5_file), "captions_sha256": None}
    pairs, drawn, image_ids = None, [], None
    with files.locked(folder):
        if dataset_folder:
            source = dataset.of(dataset_folder)
            splits = find_splits(source, workdir, split_seed, source.captions)
            drawn, image_ids = splits.written, source.image_ids
            pairs = Pairs.find(source, splits.ids, pictures)
            record["captions_sha256"] = source.captions_sha256
            if len(source.parts) > 1:  # the name of one may change until it is resumed
                record["datasets"] = source.names
        rows = pairs.rows if METHODS[record["method"]].reads_captions else None
        trained_on = seen.union(backbone.seen, pictures.hashes(rows, image_ids))
        backbone = dataclasses.replace(backbone, seen=trained_on)
        run = prepare(backbone, pictures, held_out, pairs, record)
        record["probed"] = len(run.probe.pictures)
        console.note(
            f"{record['method']}: {len(run.data.rows)} pictures, views of {record['size']} pixels, "
            f"{backbone.network}, {len(run.data)} batches an epoch"
        )
        return drawn + train(run, record, folder, resume)


def start(init: str | None, network: str | None, size: int, seed: int) -> backbones.Backbone:
    """The backbone that training starts with.

    Args:
        init: name or file of weights, as `loading.load` takes them; None draws them.
        network: a name of `encoders.registry.BACKBONES`; None is that of `init`, or ResNet-50.
        size: of the whole pictures that the encoder will see, in pixels.

    Raises:
        CaptioningError: if the weights cannot be had, or are of another network.
    """
    if init is None:
        keras.utils.set_random_seed(seed)
        return backbones.untrained(network or "resnet50", size)
    backbone = dataclasses.replace(loading.backbone(init, seed), size=size)
    if network and backbone_name(network) != backbone.network:
        raise CaptioningError(
            f"expected weights of {network} in --init {init}, found those of {backbone.network}; "
            "leave --backbone out"
        )
    return backbone


@dataclasses.dataclass(frozen=True)
class Run:
    """All that `train` needs: see `prepare`."""

    model: Method
    backbone: backbones.Backbone
    data: ViewBatches
    validation: ViewBatches | None
    probe: feature_probe.FeatureProbe


def prepare(
    backbone: backbones.Backbone,
    pictures: hdf5.Images | np.ndarray,
    held_out: hdf5.Images | np.ndarray | None,
    pairs: Pairs | None,
    settings: Mapping,
) -> Run:
    """Set a method up.

    Args:
        backbone: what to start from.
        pictures: to learn from, uint8 (N, size, size, 3).
        held_out: pictures whose loss decides which epoch is kept; without any the last is.
        pairs: captions to learn from or to probe with; a method that reads captions keeps the
            epoch whose loss on the dev pairs is lowest.
        settings: method, size, batch_size, colour, gray, least_area, precision, probe_every, seed;
            method_settings, the fields of the method's `Settings` that differ from its defaults.
    """
    keras.utils.set_random_seed(settings["seed"])
    kind = METHODS[settings["method"]]
    own = kind.Settings(**settings.get("method_settings", {}))
    dtype = precision.TRAINING[settings["precision"]]
    network = backbone.trainable(settings["size"], dtype)
    model = kind(network, backbone.preprocessing, own, pairs if kind.reads_captions else None)

    usual = views.Augmentation(
        (settings["least_area"], 1.0),
        colour=settings["colour"],
        jitter=own.jitter,
        gray=settings["gray"],
        blur=own.blur,
    )
    strong, mild = (kind.augmentations(own, augmentation) for augmentation in (usual, MILD))
    how = (settings["batch_size"], settings["seed"])
    validation = None
    if kind.reads_captions:
        data = CaptionedViewBatches(
            pictures,
            strong,
            *how,
            rows=pairs.rows,
            captions=pairs.train,
            tokenizer=pairs.tokenizer,
            targets=model.targets(pairs.train),
        )
        validation = CaptionedViewBatches(
            pairs.dev_pictures,
            mild,
            *how,
            fixed=True,
            captions=pairs.dev,
            tokenizer=pairs.tokenizer,
            targets=model.targets(pairs.dev),
        )
        _check_batch(validation, "captioned pictures of the dev split")
    else:
        data = ViewBatches(pictures, strong, *how)
        if held_out is not None and len(held_out) > 1:  # one has nothing to be told from
            validation = ViewBatches(held_out, strong, *how, fixed=True)
    _check_batch(data, "pictures to learn from")
    probe = feature_probe.of(
        backbone, pictures, pairs, settings["precision"], settings["probe_every"]
    )
    return Run(model, backbone, data, validation, probe)


def _check_batch(data: ViewBatches, what: str) -> None:
    """Methods tell the pictures of a batch from one another: a single one has loss 0."""
    if data.batch_size < 2:
        raise CaptioningError(
            f"expected at least 2 {what} in a batch, found 1; raise --batch-size"
            if len(data.rows) > 1
            else f"expected at least 2 {what}, found 1; add some"
        )


def train(run: Run, settings: dict, folder: Path, resume: bool = False) -> list[Path]:
    """Train, and keep the backbone as an encoder: `ENCODER` in `folder`, by `backbones.save`.

    AdamW with weight decay on the kernels alone; the rate rises over the method's `warm_up` and
    falls as half a cosine.

    Args:
        run: with validation pictures the backbone of the lowest val_loss is kept, else the last.
        settings: epochs, learning_rate, weight_decay, and what else must be the same on resuming.

    Returns:
        the paths written.

    Raises:
        CaptioningError: when the loss is no longer finite, or see `training.fit`.
    """
    model, data = run.model, run.data
    steps = len(data) * settings["epochs"]
    optimizer = optimizers.AdamW(
        optimizers.cosine(
            settings["learning_rate"], steps, max(1, int(steps * model.settings.warm_up))
        ),
        weight_decay=settings["weight_decay"],
    )
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    model(data[0][0])  # builds the heads
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)

    def save(row: dict) -> None:
        reached = {key: value for key, value in row.items() if key != "seconds"}
        trained = dataclasses.replace(run.backbone, values=parameters(model.kept))
        backbones.save(folder / ENCODER, trained, {"settings": settings, "reached": reached})

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
        callbacks=[*hooks(type(model), steps), run.probe],
        resume=resume,
    )
    return [folder / ENCODER, folder / training.HISTORY, folder / training.CURVES]


def hooks(method: type[Method], steps: int) -> list[keras.callbacks.Callback]:
    """What calls a method's `after_step`; nothing for one that has none of its own."""
    return [_AfterStep(steps)] if method.after_step is not Method.after_step else []


class _AfterStep(keras.callbacks.Callback):
    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        self.before = epoch * self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        self.model.after_step(self.before + batch + 1, self.steps)
