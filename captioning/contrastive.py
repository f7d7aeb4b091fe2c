"""Teaching a trunk without labels: by two views of a picture, or by a picture and its captions.

A method is a `Method`: it says how many views of each picture it needs, what it makes of the
trunk's features, and its objective. `METHODS` lists them; MoCo or BYOL would be one more class.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from captioning import (
    artifacts,
    dataset,
    encoders,
    hdf5,
    networks,
    probe,
    text,
    training,
    trunks,
    views,
    weights,
)
from captioning import images as files_of
from captioning.errors import CaptioningError
from captioning.tokenizer import Tokenizer

ENCODER = "encoder.weights.h5"
WORDS = 1000  # most frequent content words of the captions, which image-text predicts


def nt_xent(projections, temperature: float):
    """Normalised temperature-scaled cross entropy (SimCLR, arXiv 2002.05709, equation 1).

    Args:
        projections: (2n, d); rows i and i + n are of two views of one picture.

    Returns:
        losses: float32 (2n,).
        correct: float32 (2n,), 1 where the other view is the nearest of all 2n - 1 rows.
    """
    z = _unit(projections)
    count = ops.shape(z)[0]
    logits = ops.matmul(z, ops.transpose(z)) / temperature
    logits = logits - 1e9 * ops.eye(count, dtype="float32")  # no row is its own neighbour
    rows = ops.arange(count, dtype="int32")
    partners = ops.concatenate([rows[count // 2 :], rows[: count // 2]])
    return _cross_entropy(logits, partners)


def clip_loss(images, texts, temperature: float):
    """Which caption belongs to which picture, both ways (CLIP, arXiv 2103.00020, figure 3).

    Args:
        images, texts: (n, d); rows i belong together.

    Returns:
        losses: float32 (2n,), of the pictures, then of the texts.
        correct: float32 (2n,), 1 where the nearest is the right one.
    """
    logits = ops.matmul(_unit(images), ops.transpose(_unit(texts))) / temperature
    targets = ops.arange(ops.shape(logits)[0], dtype="int32")
    ways = [_cross_entropy(way, targets) for way in (logits, ops.transpose(logits))]
    return tuple(ops.concatenate(parts) for parts in zip(*ways, strict=True))


def _unit(x):
    return ops.normalize(ops.cast(x, "float32"), axis=-1)


def _cross_entropy(logits, targets):
    losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return losses, ops.cast(ops.argmax(logits, axis=-1) == targets, "float32")


class Method(keras.Model):
    """A trunk that learns from batches of `Views`, on any Keras backend.

    A method defines `view_count`, `reports`, `outputs` and `objective`.

    Attributes:
        trunk: float (n, size, size, 3), preprocessed → (n, D).
        view_count: views of each picture in a batch.
        reports: names of what is tracked beside the loss.
    """

    view_count: int
    reports: tuple[str, ...]

    def __init__(self, trunk: keras.Model, preprocessing: str, temperature: float):
        super().__init__()
        self.trunk, self.temperature = trunk, temperature
        how = weights.PREPROCESSINGS[preprocessing]
        self.scale, self.shift = 255 * np.float32(how.scale), np.float32(how.shift)
        names = ("loss", *self.reports, "deviation")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def outputs(self, features, x: Mapping, training: bool) -> dict:
        """What the objective needs, from the features (view_count · n, D), view by view."""
        raise NotImplementedError

    def objective(self, outputs: Mapping):
        """The loss of a batch, and a value for each of `reports`."""
        raise NotImplementedError

    def call(self, x, training=False):
        size = self.trunk.input_shape[1]
        pictures = ops.concatenate(
            [views.apply(x["pixels"], x[f"view{i}"], size) for i in range(self.view_count)]
        )
        features = self.trunk(pictures * self.scale + self.shift, training=training)
        return {"features": features} | self.outputs(features, x, training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss, reported = self.objective(y_pred)
        values = {"loss": loss, "deviation": deviation(y_pred["features"])} | reported
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return loss

    @property
    def metrics(self):
        return list(self.trackers.values())


def deviation(features):
    """Mean deviation of the units of normalised features, times √D: 1 spread evenly, 0 collapsed.

    Features (n, D); Chen and He 2021 (https://arxiv.org/abs/2011.10566, section 4.1).
    """
    return ops.mean(ops.std(_unit(features), axis=0)) * math.sqrt(features.shape[-1])


def effective_rank(features: np.ndarray) -> float:
    """How many directions features (n, D) vary in: exp of the entropy of their singular values.

    Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    shares = values / max(values.sum(), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


class SimCLR(Method):
    """Two views of a picture must find each other among all views of a batch."""

    view_count = 2
    reports = ("accuracy",)

    def __init__(self, trunk, preprocessing, temperature):
        super().__init__(trunk, preprocessing, temperature)
        self.head = _projection("projection", trunk.output_shape[-1])

    def outputs(self, features, x, training):
        return {"projections": self.head(features, training=training)}

    def objective(self, outputs):
        losses, correct = nt_xent(outputs["projections"], self.temperature)
        return ops.mean(losses), {"accuracy": ops.mean(correct)}


class ImageText(Method):
    """A picture must tell the words of its captions, and which caption of the batch is its own.

    Words: cross-entropy with the shares of the words in all captions of the picture, as Joulin et
    al. 2015 (arXiv 1511.02251, section 3.1). Captions: `clip_loss`, the text encoder being the
    mean of word vectors behind a hidden layer.
    """

    view_count = 1
    reports = ("word_loss", "accuracy")

    def __init__(self, trunk, preprocessing, temperature, words: int, vocabulary_size: int):
        super().__init__(trunk, preprocessing, temperature)
        self.words = layers.Dense(words, dtype="float32", name="words")
        self.image_head = _projection("image_projection", trunk.output_shape[-1])
        self.embedding = layers.Embedding(vocabulary_size, 256, dtype="float32", name="embedding")
        self.text_head = _projection("text_projection", 512)
        self.dropout = layers.Dropout(0.5)

    def outputs(self, features, x, training):
        seen = ops.cast(x["caption"] > 0, "float32")[:, :, None]  # (n, t, 1), 0 is padding
        vectors = ops.sum(self.embedding(x["caption"]) * seen, axis=1)
        vectors = vectors / ops.maximum(ops.sum(seen, axis=1), 1.0)
        return {
            "words": self.words(self.dropout(features, training=training)),
            "targets": x["words"],
            "images": self.image_head(features, training=training),
            "texts": self.text_head(vectors, training=training),
        }

    def objective(self, outputs):
        chances = ops.log_softmax(outputs["words"], axis=-1)
        word_loss = -ops.mean(ops.sum(outputs["targets"] * chances, axis=-1))
        losses, correct = clip_loss(outputs["images"], outputs["texts"], self.temperature)
        loss = word_loss + ops.mean(losses)
        return loss, {"word_loss": word_loss, "accuracy": ops.mean(correct)}


METHODS = {"simclr": SimCLR, "image-text": ImageText}


def _projection(name: str, hidden: int, units: int = 128) -> keras.Sequential:
    return keras.Sequential(
        [
            layers.Dense(hidden, use_bias=False, dtype="float32"),
            layers.BatchNormalization(momentum=0.9, dtype="float32"),
            layers.ReLU(dtype="float32"),
            layers.Dense(units, use_bias=False, dtype="float32"),
        ],
        name=name,
    )


class Views(keras.utils.PyDataset):
    """Shuffled pictures with the numbers that make views of them on the accelerator.

    A batch is ({"pixels": uint8 (n, size, size, 3), "view0": {…}, …},), each view as
    `Augmentation.draw` gives it; always `batch_size` pictures, what is left over waits for another
    epoch's order. What it holds depends on `seed`, `epoch` and its index alone.
    """

    def __init__(
        self,
        images: np.ndarray | hdf5.Images,
        augmentation: views.Augmentation,
        view_count: int,
        batch_size: int,
        seed: int,
        rows: np.ndarray | None = None,
        fixed: bool = False,
    ):
        """
        Args:
            rows: int (N,), which of the images to use; None for all.
            fixed: the same batches every epoch, for validation.
        """
        super().__init__()
        self.images, self.augmentation, self.view_count = images, augmentation, view_count
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows)
        self.batch_size, self.seed, self.fixed = min(batch_size, len(self.rows)), seed, fixed
        self.epoch = 0

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.rows) // self.batch_size

    def __getitem__(self, index: int) -> tuple[dict]:
        epoch = 0 if self.fixed else self.epoch
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.rows))
        places = order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        batch = {"pixels": self.images[self.rows[places]]}
        for i in range(self.view_count):
            batch[f"view{i}"] = self.augmentation.draw(rng, len(places))
        return (batch | self.besides(places, rng),)

    def besides(self, places: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What belongs to the pictures `rows[places]` besides their pixels."""
        return {}

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order and views."""
        self.epoch += 1


class CaptionedViews(Views):
    """Views of pictures with captions: one caption at random, and the words of all.

    A batch holds besides "caption": int32 (n, t), word ids padded on the right with 0; "words":
    float32 (n, V), shares that sum to 1 (to 0 where no caption has any of the words).
    """

    def __init__(
        self,
        *arguments,
        captions: Sequence[Sequence[str]],
        words: Sequence[str],
        tokenizer: Tokenizer,
        **more,
    ):
        """
        Args:
            captions: the cleaned captions of each of `rows`.
            words: V of them.
        """
        super().__init__(*arguments, **more)
        self.word_shares = word_shares(captions, words)
        encoded = [tokenizer.texts_to_sequences(group) for group in captions]
        longest = max(len(ids) for group in encoded for ids in group)
        self.captions = np.zeros((sum(map(len, encoded)), longest), np.int32)
        for place, ids in enumerate(ids for group in encoded for ids in group):
            self.captions[place, : len(ids)] = ids
        self.first = np.cumsum([0, *map(len, encoded)])  # captions of row i: first[i] … first[i+1]

    def besides(self, places, rng):
        counts = self.first[places + 1] - self.first[places]
        chosen = self.first[places] + rng.integers(counts)
        return {"caption": self.captions[chosen], "words": self.word_shares[places]}


def word_shares(captions: Sequence[Sequence[str]], words: Sequence[str]) -> np.ndarray:
    """How often each of `words` is among those said of each picture: float32 (n, len(words))."""
    index = {word: i for i, word in enumerate(words)}
    shares = np.zeros((len(captions), len(words)), np.float32)
    for row, group in zip(shares, captions, strict=True):
        for caption in group:
            for word in caption.split():
                if word in index:
                    row[index[word]] += 1
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)


def start(init: str | None, backbone: str | None, size: int, seed: int) -> trunks.Trunk:
    """The trunk that training starts with.

    Args:
        init: name or file of weights, as `encoders.load` takes them; None draws them.
        backbone: a name of `networks.BACKBONES`; None is that of `init`, or ResNet-50.
        size: of the whole pictures that the encoder will see, in pixels.

    Raises:
        CaptioningError: if the weights cannot be had, or are of another backbone.
    """
    if init is None:
        keras.utils.set_random_seed(seed)
        return trunks.untrained(backbone or "resnet50", size)
    trunk = dataclasses.replace(encoders.trunk(init, seed), size=size)
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
        dev: cleaned captions of each of `dev_paths`.
        dev_paths: picture files of the dev split.
        tokenizer: of all train captions.
    """

    rows: np.ndarray
    train: list[list[str]]
    dev: list[list[str]]
    dev_paths: list[Path]
    tokenizer: Tokenizer

    @classmethod
    def find(cls, folder: Path, ids: Mapping[str, Sequence[str]], pictures: hdf5.Images) -> "Pairs":
        """Captions and dev pictures of the dataset in `folder`, whose splits are `ids`.

        Raises:
            CaptioningError: when none of the pictures is in the train split, or dev has none.
        """
        source = dataset.Dataset(folder)
        captions, _ = text.parse_captions(source.caption_file)
        captions = {key: list(map(text.clean, group)) for key, group in captions.items()}
        known = set(ids["train"]) & captions.keys()
        names = {row: files_of.image_id(name) for row, name in enumerate(pictures.names())}
        rows = [row for row, key in names.items() if key in known]
        files = {files_of.image_id(path): path for path in files_of.list_files(source.image_folder)}
        dev = [key for key in ids["dev"] if key in captions and key in files]
        if not rows or not dev:
            raise CaptioningError(
                f"expected pictures of the train split in {pictures.path} and of the dev split in "
                f"{source.image_folder}, found {len(rows)} and {len(dev)}; check --hdf5 and "
                "--dataset"
            )
        return cls(
            np.array(rows),
            [captions[names[row]] for row in rows],
            [captions[key] for key in dev],
            [files[key] for key in dev],
            artifacts.fit_tokenizer(captions, ids["train"]),
        )


@dataclasses.dataclass(frozen=True)
class Run:
    """All that `train` needs: see `prepare`."""

    model: Method
    trunk: trunks.Trunk
    data: Views
    validation: Views | None
    probe: "Probe"


def prepare(
    trunk: trunks.Trunk,
    images: hdf5.Images,
    held_out: hdf5.Images,
    pairs: Pairs | None,
    settings: Mapping,
) -> Run:
    """Set a method up.

    Args:
        trunk: what to start from.
        images: pictures to learn from.
        held_out: pictures whose loss decides which epoch is kept; with none the last is.
        pairs: captions to learn from or to probe with; image-text keeps the epoch whose loss on
            the dev pairs is lowest.
        settings: method, size, batch_size, temperature, colour, gray, least_area, precision,
            probe_every, seed.
    """
    keras.utils.set_random_seed(settings["seed"])
    method = METHODS[settings["method"]]
    dtype = {"float32": None, "bfloat16": "mixed_bfloat16"}[settings["precision"]]
    network = trunk.trainable(settings["size"], dtype)
    strong = views.Augmentation(
        (settings["least_area"], 1.0), colour=settings["colour"], gray=settings["gray"]
    )
    how = (method.view_count, settings["batch_size"], settings["seed"])
    arguments = (network, trunk.preprocessing, settings["temperature"])
    dev = _dev_pictures(pairs, images.shape[1]) if pairs else None
    if method is ImageText:
        words = probe.frequent_words(pairs.train, WORDS)
        model = method(*arguments, len(words), pairs.tokenizer.vocabulary_size)
        said = {"words": words, "tokenizer": pairs.tokenizer}
        data = CaptionedViews(images, strong, *how, rows=pairs.rows, captions=pairs.train, **said)
        mild = views.Augmentation((0.5, 1.0), jitter=0, gray=0, blur=0)
        validation = CaptionedViews(dev, mild, *how, fixed=True, captions=pairs.dev, **said)
    else:
        model, data = method(*arguments), Views(images, strong, *how)
        validation = Views(held_out, strong, *how, fixed=True) if len(held_out) else None
    if pairs:
        pictures = np.concatenate(
            [_resized(images[pairs.rows], trunk.size), _resized(dev, trunk.size)]
        )
        score = _neighbours(pairs)
    else:
        pictures, score = _resized(images[:1000], trunk.size), None
    looks = Probe(pictures, trunk, settings["precision"], settings["probe_every"], score)
    return Run(model, trunk, data, validation, looks)


def _dev_pictures(pairs: Pairs, size: int) -> np.ndarray:
    """The dev pictures as uint8 (n, size, size, 3); one that cannot be read is an error."""
    batches = files_of.batches(pairs.dev_paths, size, 100, strict=True)
    return np.concatenate([batch.pixels for batch in batches])


def _resized(pictures: np.ndarray, size: int) -> np.ndarray:
    if pictures.shape[1] == size:
        return pictures
    resized = (Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR) for p in pictures)
    return np.stack([np.asarray(picture) for picture in resized])


def _neighbours(pairs: Pairs) -> Callable[[np.ndarray], float]:
    """Features of the train and dev pictures → how well neighbours share words."""
    words = probe.frequent_words(pairs.train)
    train, dev = (probe.holds(captions, words) for captions in (pairs.train, pairs.dev))
    return lambda features: probe.neighbours(
        features[: len(train)], features[len(train) :], train, dev
    )


def train(run: Run, settings: dict, folder: Path, resume: bool = False) -> list[Path]:
    """Train, and keep the trunk as an encoder: a file of `trunks.save`, `ENCODER` in `folder`.

    AdamW with weight decay on the kernels alone; the rate rises over the first twentieth of the
    batches and falls as half a cosine.

    Args:
        run: with validation pictures the trunk of the lowest val_loss is kept, else the last.
        settings: epochs, learning_rate, weight_decay, and what else must be the same on resuming.
    """
    model, data = run.model, run.data
    steps = len(data) * settings["epochs"]
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=settings["learning_rate"], warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embedding"])
    model(data[0][0])  # builds the heads
    on_gpu = bool(keras.distribution.list_devices("gpu"))
    model.compile(optimizer=optimizer, jit_compile="auto" if on_gpu else False)
    optimizer.build(model.trainable_variables)

    def keep(row: dict) -> Path:
        reached = {key: value for key, value in row.items() if key != "seconds"}
        record = {"settings": settings, "reached": reached}
        return trunks.save(folder / ENCODER, taught(model, run.trunk), record)

    training.fit(
        model,
        data,
        run.validation,
        epochs=settings["epochs"],
        folder=folder,
        settings=settings,
        on_improvement=keep,
        callbacks=[run.probe],
        resume=resume,
    )
    return [folder / ENCODER, folder / training.HISTORY, folder / training.CURVES]


def taught(model: Method, trunk: trunks.Trunk) -> trunks.Trunk:
    """The trunk as it is now."""
    return dataclasses.replace(trunk, values=networks.parameters(model.trunk))


class Probe(keras.callbacks.Callback):
    """Every few epochs: how many directions features vary in, and how well neighbours share words.

    Adds `rank` and, with captions, `neighbours` to the epoch's row of the history; an epoch that is
    not probed repeats the last values.
    """

    def __init__(
        self, pictures: np.ndarray, trunk: trunks.Trunk, precision: str, every: int, score=None
    ):
        """
        Args:
            pictures: uint8 (n, trunk.size, trunk.size, 3), seen whole.
            trunk: what `model.trunk` was made of.
            precision: of the encoder, see `encoders.load`.
            every: epochs between two looks.
            score: features float32 (n, D) → a number, `neighbours`; None where there are no words.
        """
        super().__init__()
        self.pictures, self.trunk, self.precision = pictures, trunk, precision
        self.every, self.score = every, score
        self.last = {"rank": math.nan} | ({"neighbours": math.nan} if score else {})

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = epoch

    def on_epoch_end(self, epoch, logs=None):
        if getattr(self, "begun", None) != epoch:  # an epoch of before, replayed on resuming
            self.last = {key: logs[key] for key in self.last}
            return
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            features = self._features()
            self.last["rank"] = effective_rank(features[:1000])
            if self.score:
                self.last["neighbours"] = self.score(features)
        logs.update(self.last)

    def _features(self) -> np.ndarray:
        trunk = taught(self.model, self.trunk)
        return encoders.of_trunk(trunk, self.precision).extract(self.pictures, 100)
