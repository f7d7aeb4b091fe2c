"""How the captioner is taught: batches, objective, and the two recipes, `fast` and `reference`."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from captioning.data.captions import Sequences, encode, longest_caption, stack_features
from captioning.data.tokenizer import Tokenizer
from captioning.decoders import captioner
from captioning.pipeline import artifacts
from captioning.runtime import optimizers, training

EPOCHS = {"fast": 9, "reference": 20}
SCORES_DROPOUT = {"fast": 0.5, "reference": 0.0}
FEATURE_DEVIATION = 0.03  # of standardised features: larger ones are learnt by heart, on dev best


class _Batches(keras.utils.PyDataset):
    """Base of the two ways to batch; order drawn from (seed, epoch), or fixed for seed None."""

    def __init__(self, features: np.ndarray, sequences: Sequences, seed: int | None):
        super().__init__()
        self.features, self.sequences, self.seed = features, sequences, seed
        self.epoch = 0

    def on_epoch_end(self):
        self.epoch += 1

    def _order(self, count: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng((self.seed, self.epoch)).permutation(count)


class WholeCaptions(_Batches):
    """Teacher forcing: captions of like length together, so that next to nothing is padding.

    A batch is ((features float32 (b, D), inputs int32 (b, t)), targets int32 (b, t)), with about
    as many targets as `batch_size` captions have on average.
    """

    def __init__(self, features, sequences, batch_size: int, seed: int | None = None):
        super().__init__(features, sequences, seed)
        self.lengths = np.count_nonzero(sequences.inputs, axis=1)
        words = np.cumsum(np.sort(self.lengths))  # the same whatever the order among equals
        batch = (words - 1) // (batch_size * self.lengths.mean())
        self.cuts = np.flatnonzero(np.diff(batch)) + 1
        self._plan_of = None

    def __len__(self):
        return len(self.cuts) + 1

    def _plan(self) -> list[np.ndarray]:
        """The batches of this epoch: caption numbers, like lengths together, order shuffled."""
        if self._plan_of != self.epoch:
            order = self._order(len(self.lengths))
            order = order[np.argsort(self.lengths[order], kind="stable")]
            batches = np.split(order, self.cuts)
            order = self._order(len(batches))
            # Keras takes a length that the first two batches share for that of all: put the
            # longest and the shortest captions there
            inner = order[(order > 0) & (order < len(batches) - 1)]
            self._batches = [batches[i] for i in dict.fromkeys([len(batches) - 1, 0, *inner])]
            self._plan_of = self.epoch
        return self._batches

    def __getitem__(self, index):
        rows = self._plan()[index]
        longest = self.lengths[rows].max()
        features = self.features[self.sequences.images[rows]]
        inputs, targets = self.sequences.inputs[rows], self.sequences.targets[rows]
        return (features, inputs[:, :longest]), targets[:, :longest]


class Prefixes(_Batches):
    """The reference's samples: one prefix and its next word, without holding them all at once.

    A batch is ((features float32 (b, D), prefixes int32 (b, max_length)), targets int32 (b,)).
    Prefixes are padded on the right, as GPUs demand; the masked LSTM gives the same either way.
    """

    def __init__(self, features, sequences, max_length: int, batch_size: int, seed=None):
        super().__init__(features, sequences, seed)
        self.max_length, self.batch_size = max_length, batch_size
        self.captions, self.last = np.nonzero(sequences.targets)  # one entry a prefix
        self._order_of = None

    def __len__(self):
        return -(-len(self.captions) // self.batch_size)

    def __getitem__(self, index):
        if self._order_of != self.epoch:
            self._samples, self._order_of = self._order(len(self.captions)), self.epoch
        samples = self._samples[index * self.batch_size : (index + 1) * self.batch_size]
        rows, last = self.captions[samples], self.last[samples]
        inputs = self.sequences.inputs[rows]
        prefixes = np.zeros((len(rows), self.max_length), np.int32)
        seen = np.arange(inputs.shape[1]) <= last[:, None]
        prefixes[:, : inputs.shape[1]] = inputs * seen
        features = self.features[self.sequences.images[rows]]
        return (features, prefixes), self.sequences.targets[rows, last]


def cross_entropy(logits, targets):
    """-log softmax(logits)[target], with the softmax computed once for the loss and its gradient.

    Logits are nearly all the memory that training moves, so passes over them are what counts: TF's
    own loss and gradient take more than twice as long.

    Args:
        logits: (…, vocabulary) of any float type; the softmax is in float32.
        targets: int (…).

    Returns:
        float32 (…), in nats, at most 87: no probability counts as less than float32's smallest.
    """

    @ops.custom_gradient
    def losses(logits):
        probabilities = ops.softmax(ops.cast(logits, "float32"))
        words = ops.expand_dims(ops.cast(targets, "int32"), -1)
        of_target = ops.take_along_axis(probabilities, words, -1)

        def gradient(*args, upstream=None):  # (softmax - one-hot) * upstream
            upstream = ops.expand_dims(args[0] if upstream is None else upstream, -1)
            shape = ops.shape(probabilities)
            flat = ops.reshape(probabilities * upstream, (-1, shape[-1]))
            words_flat = ops.reshape(words, (-1, 1))
            rows = ops.reshape(ops.arange(ops.shape(flat)[0], dtype="int32"), (-1, 1))
            places = ops.concatenate([rows, words_flat], axis=-1)
            at_target = ops.reshape((of_target - 1) * upstream, (-1,))
            flat = ops.scatter_update(flat, places, at_target)
            return ops.cast(ops.reshape(flat, shape), logits.dtype)

        smallest = np.finfo("float32").tiny
        return -ops.log(ops.maximum(ops.squeeze(of_target, -1), smallest)), gradient

    return losses(logits)


class NextWord(keras.Model):
    """Cross-entropy of the next word, averaged over all targets of an epoch, whatever the batches.

    Independent of the Keras backend: only `compute_loss` is its own.
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        self.network = network  # puts out logits
        self.mean_loss = keras.metrics.Mean(name="loss")

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        counted = ops.cast(ops.greater(y, 0), "float32")  # 0 is padding: nothing to predict
        count = ops.sum(counted)
        loss = ops.sum(cross_entropy(y_pred, y) * counted) / count
        self.mean_loss.update_state(loss, sample_weight=count)
        return loss

    @property
    def metrics(self):
        return [self.mean_loss]


@dataclasses.dataclass(frozen=True)
class CaptionData:
    """What the captioner is trained and judged on.

    Attributes:
        train, dev: captions as word ids; their `images` are rows of the matrices below.
        train_features, dev_features: float32 (images, D), or `Standardised`.
        vocabulary_size, max_length: of the train captions.
    """

    train: Sequences
    dev: Sequences
    train_features: "np.ndarray | Standardised"
    dev_features: "np.ndarray | Standardised"
    vocabulary_size: int
    max_length: int

    @classmethod
    def prepare(
        cls,
        ids: Mapping[str, Sequence[str]],
        descriptions: Mapping[str, Sequence[str]],
        features: Mapping[str, np.ndarray],
        tokenizer: Tokenizer,
    ) -> "CaptionData":
        """Encode the captions and stack the features of the images `ids["train"]`, `ids["dev"]`.

        Raises:
            CaptioningError: see `longest_caption`.
        """
        max_length = longest_caption(ids["train"], descriptions, captioner.MAX_LENGTH)
        return cls(
            encode(ids["train"], descriptions, tokenizer, max_length),
            encode(ids["dev"], descriptions, tokenizer, max_length),
            stack_features(features, ids["train"]),
            stack_features(features, ids["dev"]),
            tokenizer.vocabulary_size,
            max_length,
        )

    @property
    def dimension(self) -> int:
        """Length of an image feature."""
        return self.train_features.shape[1]

    @property
    def digest(self) -> str:
        """Hexadecimal digest of all of it: a run may be resumed on the same data only."""
        digest = hashlib.sha256()
        for part in (self.train, self.dev):
            for array in (part.inputs, part.targets, part.images):
                digest.update(array)
        for array in (self.train_features, self.dev_features):
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]

    def standardised(self) -> tuple["CaptionData", "Standardisation"]:
        """The same with train features of zero mean and like, small deviation; how to undo it."""
        mean = self.train_features.mean(axis=0)
        columns = np.array_split(self.train_features, 16, axis=1)  # `std` copies what it is given
        deviation = np.concatenate([some.std(axis=0) for some in columns])
        if deviation.mean() > 1e-6 * np.abs(mean).mean():
            # a unit that hardly varies stays small: its rounding errors must not become a signal
            scale = np.maximum(deviation, 0.1 * deviation.mean()) / FEATURE_DEVIATION
        else:  # nothing varies, as with a single image, beyond rounding errors
            scale = np.ones_like(deviation)
        how = Standardisation(mean, scale)
        features = (self.train_features, self.dev_features)
        train, dev = (Standardised(f, how) for f in features)
        return dataclasses.replace(self, train_features=train, dev_features=dev), how

    def batches(self, recipe: str, batch_size: int, seed: int) -> tuple[_Batches, _Batches]:
        """Shuffled train batches and dev batches in order."""
        if recipe == "fast":
            return (
                WholeCaptions(self.train_features, self.train, batch_size, seed),
                WholeCaptions(self.dev_features, self.dev, 128),
            )
        return (
            Prefixes(self.train_features, self.train, self.max_length, batch_size, seed),
            Prefixes(self.dev_features, self.dev, self.max_length, 1024),
        )


def default_batch_size(recipe: str, data: CaptionData) -> int:
    """32 prefixes as the reference; fast: 64 captions of Flickr8k, fewer where there are fewer.

    Less data in smaller batches reaches a lower loss on dev than in more epochs.
    """
    if recipe == "reference":
        return 32
    return min(64, max(16, len(data.train.images) // 468))  # about 468 batches an epoch


@dataclasses.dataclass(frozen=True)
class Standardisation:
    """What is subtracted from each feature, and what it is divided by: both float32 (D,)."""

    mean: np.ndarray
    scale: np.ndarray

    def fold(self, network: keras.Model) -> None:
        """Make a network trained on standardised features take the raw ones, to the same effect."""
        layer = network.get_layer("feature_dense")
        kernel, bias = layer.get_weights()
        kernel = kernel / self.scale[:, None]
        layer.set_weights([kernel, bias - self.mean @ kernel])


@dataclasses.dataclass(frozen=True)
class Standardised:
    """Features float32 (n, D) that are standardised row by row as they are read: no second copy."""

    features: np.ndarray
    how: Standardisation

    @property
    def shape(self) -> tuple[int, int]:
        return self.features.shape

    def __getitem__(self, rows) -> np.ndarray:
        return (self.features[rows] - self.how.mean) / self.how.scale


def compile_(data: CaptionData, settings: dict, steps: int) -> NextWord:
    """The network and its optimisation.

    'reference' is the reference's: one prefix a sample, Adam(.01, epsilon .1), raw features.
    'fast' is teacher forcing over whole captions with Adam and a cosine decay, on standardised
    features (dropout drowns features whose mean is many deviations from zero), with one more
    dropout before the scores; with `plateau` the rate is constant until a callback lowers it.

    Args:
        steps: batches of the whole training, for the decay.
    """
    fast = settings["recipe"] == "fast"
    dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[settings["precision"]]
    network = captioner.build(
        data.dimension,
        data.vocabulary_size,
        data.max_length,
        whole_captions=fast,
        scores_dropout=SCORES_DROPOUT[settings["recipe"]],
        logits=True,
        dtype=dtype,
    )
    if not fast:
        optimizer = optimizers.Adam(0.01, epsilon=0.1)
    elif settings["plateau"]:
        optimizer = optimizers.Adam(1e-3)
    else:
        optimizer = optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))
    model = NextWord(network)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


def train(
    data: CaptionData, settings: dict, record: dict, folder: Path, resume: bool = False
) -> list[dict]:
    """Train, writing a checkpoint whenever val_loss improves.

    Args:
        settings: recipe, epochs, batch_size, precision, seed, plateau, patience.
        record: what the captioner's file says of itself, see `captioner.Captioner`.

    Returns:
        the history, see `training.fit`.
    """
    keras.utils.set_random_seed(settings["seed"])
    standardisation = None
    if settings["recipe"] == "fast":
        data, standardisation = data.standardised()
    batches, dev = data.batches(settings["recipe"], settings["batch_size"], settings["seed"])
    model = compile_(data, settings, len(batches) * settings["epochs"])
    saved = captioner.build(data.dimension, data.vocabulary_size, data.max_length)
    captioner.check(folder, captioner.Captioner(saved, record))  # before hours go into it
    callbacks = []
    if settings["plateau"]:
        callbacks.append(keras.callbacks.ReduceLROnPlateau(patience=settings["plateau"]))
    if settings["patience"]:
        callbacks.append(keras.callbacks.EarlyStopping(patience=settings["patience"]))

    def checkpoint(row: dict) -> Path:
        return folder / artifacts.captioner_name(row)

    def save(row: dict) -> None:
        saved.set_weights(model.network.get_weights())
        if standardisation:
            standardisation.fold(saved)
        captioner.save(checkpoint(row), captioner.Captioner(saved, record))

    falls = settings["recipe"] == "fast" and not settings["plateau"]
    return training.fit(
        model,
        batches,
        dev,
        epochs=settings["epochs"],
        folder=folder,
        settings=settings,
        checkpoint=checkpoint,
        save=save,
        fixed_epochs=training.COSINE if falls else None,
        callbacks=callbacks,
        resume=resume,
    )
