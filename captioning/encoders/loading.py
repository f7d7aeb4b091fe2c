"""Encoders: pictures in, feature vectors out, with weights by name, from a file, or at random."""

import dataclasses
import functools
import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from captioning.data import seen
from captioning.encoders import backbones, context_free, sources
from captioning.encoders.registry import BACKBONES
from captioning.formats import archives
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

_WITH_CORNERS = 16 / 13  # side of a picture beside that of its four corners


@dataclasses.dataclass
class Encoder:
    """A backbone with its preprocessing inside, and the record that tells how to make it again.

    Attributes:
        network: uint8 RGB (n, size, size, 3) → (n, dimension), or (n, tokens, dimension).
        record: JSON-able; `from_record` takes it.
        seen: the images it has been trained on, see `data.seen`.
        build_with_grid: makes the network of `_with_grid`, with the same weights; None where
            there is no grid.
    """

    network: keras.Model
    record: dict
    seen: np.ndarray = dataclasses.field(default_factory=lambda: seen.NONE)
    build_with_grid: Callable[[], keras.Model] | None = None

    @property
    def size(self) -> int:
        """Height and width in pixels of the pictures it takes."""
        return self.network.input_shape[1]

    @property
    def tokens(self) -> int:
        """Feature vectors a picture: 1 where they are pooled, else the places of a grid."""
        _, *grid, _ = self.network.output_shape
        return math.prod(grid)

    @property
    def dimension(self) -> int:
        """Length of a feature vector."""
        return self.network.output_shape[-1]

    @property
    def crops(self) -> int:
        """How many crops of a picture its features are the mean of."""
        return self.record.get("crops", 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width in places of its grid: the map that its features are the average of.

        Raises:
            CaptioningError: if its features are no average over the places of one map.
        """
        return self._with_grid.output_shape[1][1:3]

    @property
    def grid_record(self) -> dict:
        """The record of its grids: `record` with height and width."""
        return self.record | {"grid": list(self.grid)}

    def extract(self, pixels: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Features of uint8 RGB pictures (n, size, size, 3): float32 (n, tokens, dimension).

        The backbone sees at most `batch_size` crops at a time, or those of one picture.
        """
        step = max(1, batch_size // self.crops)
        return self._in_steps(self._run, pixels, step, [self.tokens])[0]

    def extract_grid(self, pixels: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """The grids of pictures as for `extract`: float32 (n, k, dimension), row by row.

        Whatever `crops` is, a grid is of the whole picture alone.
        """
        places = math.prod(self.grid)
        return self._in_steps(self._run_grid, pixels, batch_size, [places])[0]

    def extract_both(
        self, pixels: np.ndarray, batch_size: int = 32
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `extract` and what `extract_grid` give, in one pass."""
        step = max(1, batch_size // self.crops)
        places = math.prod(self.grid)
        features, grids = self._in_steps(self._run_both, pixels, step, [self.tokens, places])
        return features, grids

    def _in_steps(
        self, run: Callable, pixels: np.ndarray, step: int, tokens: Sequence[int]
    ) -> list[np.ndarray]:
        """The outputs of a network that is shown `step` pictures at a time."""
        outputs = [np.empty((len(pixels), k, self.dimension), np.float32) for k in tokens]
        for i in range(0, len(pixels), step):
            made = run(pixels[i : i + step])
            for output, part in zip(outputs, made, strict=True):
                output[i : i + step] = part.reshape(-1, *output.shape[1:])
        return outputs

    def take(self, backbone: backbones.Backbone) -> None:
        """Put other weights into an encoder of `of_backbone`, of the same network."""
        BACKBONES[backbone.network].fill(backbone.values, self.network.layers[-1])

    @functools.cached_property
    def _with_grid(self) -> keras.Model:
        if self.build_with_grid is None:
            raise CaptioningError(
                "expected an encoder whose features are the average over the places of one map, "
                f"found {self.record.get('name')}, which has no such grid; use another "
                "encoder, or leave --grid out"
            )
        return self.build_with_grid()

    @functools.cached_property
    def _run(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        return _runner(self.network)

    @functools.cached_property
    def _run_both(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        return _runner(self._with_grid)

    @functools.cached_property
    def _run_grid(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        return _runner(keras.Model(self._with_grid.input, self._with_grid.outputs[1]))


def _runner(network: keras.Model) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function of uint8 pictures (n, size, size, 3) that gives all outputs of a network."""
    if keras.backend.backend() != "tensorflow":
        return lambda pixels: keras.tree.flatten(network.predict_on_batch(pixels))
    import tensorflow as tf

    # Traced once for any number of pictures: `predict` traces again for the last, smaller batch
    @tf.function(input_signature=[tf.TensorSpec(network.input_shape, tf.uint8)])
    def run(pixels):
        return network(pixels, training=False)

    return lambda pixels: [output.numpy() for output in keras.tree.flatten(run(pixels))]


def load(
    name_or_file: str | os.PathLike = sources.DEFAULT,
    preprocessing: str | None = None,
    precision: str = "float32",
    seed: int = 0,
    crops: int = 1,
    prefix: str | None = None,
) -> Encoder:
    """A published encoder, such as a ResNet-50 for 224×224 pixels; or one pretrained here.

    Args:
        name_or_file: one of `sources.NAMES` (downloaded once), or a file: PyTorch's `.ckpt`,
            `.pth` and `.pth.tar`, a TensorFlow checkpoint (prefix, `.index` or folder), the
            `.weights.h5` of `pretraining/main.py` or `residual.resnet50`, the `.h5` of
            `keras.applications.ResNet50`, or the `.keras` of `jigsaw/main.py` (see `of_jigsaw`).
        preprocessing: a name of `sources.PREPROCESSINGS`; None is that of the source.
        precision: one of `runtime.precision.PRECISIONS`; bfloat16 is twice as fast where the
            processor has it, and its features differ by less than 1 %.
        seed: of the weights of "random".
        crops: one of `sources.CROPS`; features are the mean over as many crops of the picture,
            see `crops_of`, and take as many times as long.
        prefix: which of several backbones of a PyTorch checkpoint, see `backbones.read`. The record
            holds it where it decides, as the names of the tensors have it.

    Raises:
        CaptioningError: if the weights cannot be had, or are not exactly those of the network; if
            features of a grid were to be the mean over crops.
        ValueError: if `crops` is none of `sources.CROPS`, or `prefix` no text.
    """
    if type(crops) is not int or crops not in sources.CROPS:
        raise ValueError(f"crops ({crops!r:.20})")
    if not isinstance(prefix, str | None):
        raise ValueError(f"prefix ({prefix!r:.20})")
    name = os.fspath(name_or_file)
    if name.endswith(".keras"):
        options = {"preprocessing": preprocessing, "crops": crops > 1, "prefix": prefix is not None}
        if given := [option for option, value in options.items() if value]:
            raise CaptioningError(
                f"{name} is a jigsaw network, which cuts and standardises its input itself; leave "
                f"--{given[0]} out"
            )
        return of_jigsaw(_existing(name), precision=precision)
    if name == "random":
        if prefix is not None:
            raise CaptioningError(
                "expected a file to choose a backbone from by its prefix, found the encoder "
                "'random'; leave --prefix out"
            )
        record = {"name": name, "file": None, "sha256": None, "seed": seed}
        drawn = backbones.random(seed)
        bare, of_source, images = drawn.for_inference(precision), drawn.preprocessing, drawn.seen
    else:
        source = sources.SOURCES.get(name)
        if source:
            path = sources.fetch(name)
            record = {"name": name, "file": None}
        else:
            path = _existing(name)
            record = {"name": path.name, "file": str(path)}
        record["sha256"] = _digest(path)
        read = _read(path, precision, prefix, source.network if source else "resnet50")
        bare, of_source, images = read.network, read.preprocessing, read.seen
        if read.prefix is not None:
            record["prefix"] = read.prefix
        if source:
            of_source = source.preprocessing
    how = preprocessing or of_source
    if crops > 1 and len(bare.output_shape) > 2:
        raise CaptioningError(
            f"expected one feature a picture to average over crops, found {name}, with a grid; "
            "leave --crops out"
        )
    record |= {"preprocessing": how, "precision": precision}
    if crops > 1:
        record["crops"] = crops
    return _described(_encoder(bare, sources.PREPROCESSINGS[how], crops, record, images))


def from_record(
    record: dict, precision: str = "float32", beside: str | os.PathLike | None = None
) -> Encoder:
    """The encoder that a captioner was trained with, from the record it carries.

    Args:
        beside: the captioner's folder. Weights recorded by path are looked for there too, under
            their name, so that a folder copied to another machine holds all it needs.

    Raises:
        CaptioningError: if its weights are gone, or are not those it had then.
    """
    name, file = record["name"], record["file"]
    path = _recorded(file, record["sha256"], beside) if file else None
    if name != "random" and not file:
        path = sources.fetch(name)
        _check_digest([path], record["sha256"])
    if "mode" in record and path:
        return of_jigsaw(path, record["mode"], precision)
    details = record.get("seed", 0), record.get("crops", 1), record.get("prefix")
    return load(path if file else name, record["preprocessing"], precision, *details)


def _recorded(file: str, expected: str, beside: str | os.PathLike | None) -> Path:
    """The weights where they were, or their copy beside the captioner: the SHA-256 decides."""
    places = [Path(file)]
    if beside is not None:  # the path may be of any system, Windows' rules read them all
        places.append(Path(beside).resolve() / PureWindowsPath(file).name)
    found = [place for place in places if _files(place)]
    if not found:
        raise CaptioningError(
            "the encoder this model was trained with is gone: expected its weights at "
            f"{' or '.join(map(str, places))} (SHA-256 {expected}); put them back or name a copy "
            "with --encoder"
        )
    return _check_digest(found, expected)


def _check_digest(places: list[Path], expected: str) -> Path:
    """The first of these weights that has the SHA-256 expected."""
    digests = {}
    for path in places:
        digests[path] = _digest(path)
        if digests[path] == expected:
            return path
    found = " and ".join(f"{digest} at {path}" for path, digest in digests.items())
    raise CaptioningError(
        "the encoder this model was trained with has changed: expected weights of SHA-256 "
        f"{expected}, found {found}; put the former ones back, name a copy of them with "
        "--encoder, or train the model again"
    )


def of_jigsaw(path: Path, mode: str = context_free.MODES[0], precision: str = "float32") -> Encoder:
    """What a network of `jigsaw/main.py` has learned; `mode` as in `context_free.encoder`.

    Raises:
        CaptioningError: if the file is damaged, is not exactly such a network, or holds numbers
            that are not finite.
    """
    network, trained = context_free.encoder(path, mode, precision)
    record = {
        "name": f"jigsaw {trained['backbone']}",
        "file": str(path.resolve()),
        "sha256": _digest(path),
        "mode": mode,
        "preprocessing": context_free.PREPROCESSING,
        "precision": precision,
    }
    encoder = Encoder(network, record, context_free.images_seen(trained))
    return _described(encoder)


def _described(encoder: Encoder) -> Encoder:
    """With the shape of its features in its record."""
    encoder.record.update(size=encoder.size, dimension=encoder.dimension)
    if encoder.tokens > 1:
        encoder.record["tokens"] = encoder.tokens
    return encoder


def backbone(name_or_file: str, seed: int = 0) -> backbones.Backbone:
    """The backbone behind an encoder's name or file, to go on training it.

    Raises:
        CaptioningError: see `load`; and for "imagenet" and jigsaw networks, which are others.
    """
    if name_or_file == "random":
        return backbones.random(seed)
    if name_or_file == "imagenet" or name_or_file.endswith(".keras"):
        raise CaptioningError(
            f"expected a backbone that can be trained on, found {name_or_file}, which is another "
            "kind of network; name another one"
        )
    source = sources.SOURCES.get(name_or_file)
    path = sources.fetch(name_or_file) if source else _existing(name_or_file)
    if not source:
        return backbones.read(path)
    read = backbones.read(path, network=source.network)
    return dataclasses.replace(read, preprocessing=source.preprocessing)


def of_backbone(backbone: backbones.Backbone, precision: str = "float32") -> Encoder:
    """An encoder of a backbone in memory, without a record."""
    how = sources.PREPROCESSINGS[backbone.preprocessing]
    return _encoder(backbone.for_inference(precision), how, 1, {}, seen.NONE)


def _encoder(
    bare: keras.Model, how: sources.Preprocessing, crops: int, record: dict, images: np.ndarray
) -> Encoder:
    has_grid = isinstance(bare.layers[-1], keras.layers.GlobalAveragePooling2D)
    with_grid = functools.partial(_with_grid, bare, how, crops) if has_grid else None
    return Encoder(_with_preprocessing(bare, how, crops), record, images, with_grid)


def _with_preprocessing(
    bare: keras.Model, how: sources.Preprocessing, crops: int = 1
) -> keras.Model:
    pixels, views = _views(bare.input_shape[1], how, crops)
    if crops == 1:
        return keras.Model(pixels, bare(views[0]))
    return keras.Model(pixels, _mean(bare(ops.concatenate(views, axis=0)), crops))


def _with_grid(bare: keras.Model, how: sources.Preprocessing, crops: int) -> keras.Model:
    """The same features, and what they are the average of: float32 (n, h, w, dimension).

    Of several crops, the grid is that of the whole picture, which alone is computed for it.
    """
    pixels, views = _views(bare.input_shape[1], how, crops)
    both = keras.Model(bare.input, [bare.output, bare.layers[-1].input])
    features, grids = both(views[0])
    if crops > 1:
        others = bare(ops.concatenate(views[1:], axis=0))
        features = _mean(ops.concatenate([features, others], axis=0), crops)
    return keras.Model(pixels, [features, ops.cast(grids, "float32")])


def _views(size: int, how: sources.Preprocessing, crops: int) -> tuple[keras.KerasTensor, list]:
    """An encoder's input, and what its backbone sees of it: see `crops_of`."""
    side = round(_WITH_CORNERS * size) if crops == 10 else size
    pixels = keras.Input((side, side, 3), dtype="uint8")
    x = keras.layers.Rescaling(how.scale, how.shift, dtype="float32")(pixels)
    if how.order == "BGR":
        x = ops.flip(x, axis=-1)
    return pixels, [x] if crops == 1 else crops_of(x, size)


def _mean(features, crops: int):
    """Of features (crops · n, D), crop by crop, those of n pictures."""
    return ops.mean(ops.reshape(features, (crops, -1, features.shape[-1])), axis=0)


def crops_of(pictures, size: int) -> list:
    """What a network for pictures of `size` pixels is to see of pictures, and the mirror images.

    Args:
        pictures: float (n, side, side, 3).

    Returns:
        two crops (n, size, size, 3) where side is size: the whole pictures; ten where it is more:
        these, made smaller, and their four corners as they are.

    Source: ten crops as in Krizhevsky et al. 2012, with the whole picture for the middle.
    """
    crops, side = [pictures], pictures.shape[1]
    if side > size:
        crops = [ops.image.resize(pictures, (size, size), antialias=True)]
        for rows in (slice(size), slice(side - size, side)):
            for columns in (slice(size), slice(side - size, side)):
                crops.append(pictures[:, rows, columns])
    return crops + [ops.flip(crop, axis=2) for crop in crops]


def _files(path: Path) -> list[Path]:
    """The files behind a path: one, several where it is a TensorFlow checkpoint, none."""
    if path.is_file() and path.suffix != ".index":
        return [path]
    stem = r".*" if path.is_dir() else re.escape(path.name.removesuffix(".index"))
    folder = path if path.is_dir() else path.parent
    part = re.compile(rf"{stem}\.(index|data-\d+-of-\d+)")
    return sorted(file for file in folder.glob("*") if part.fullmatch(file.name))


def _existing(name: str) -> Path:
    path = Path(name).resolve()
    if not _files(path):
        raise CaptioningError(
            f"expected an encoder's name ({', '.join(sources.NAMES)}) or a file of weights, found "
            f"{name!r}, which is neither; check the name or path"
        )
    return path


def _digest(path: Path) -> str:
    """SHA-256 of a file; of several, that of their digests one after the other."""
    digests = [files.sha256(file) for file in _files(path)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


class _Read(NamedTuple):
    """What a file of weights gives: a network for inference, and what must be known of it."""

    network: keras.Model
    preprocessing: str
    seen: np.ndarray
    prefix: str | None  # the decisive one


def _read(path: Path, precision: str, prefix: str | None, network: str) -> _Read:
    if path.suffix == ".h5" and not path.name.endswith(".weights.h5") and prefix is None:
        return _Read(_keras_applications(path, precision), "caffe", seen.NONE, None)
    read = backbones.read(path, prefix, network)
    return _Read(read.for_inference(precision), read.preprocessing, read.seen, read.prefix)


def _keras_applications(path: Path, precision: str) -> keras.Model:
    """The ResNet-50 that Keras ships: strided in the first 1×1, so not ours (float32 average)."""
    size = sources.PREPROCESSINGS["caffe"].size
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        network = keras.applications.ResNet50(
            include_top=False, weights=os.fspath(path), input_shape=(size, size, 3)
        )
    except (ValueError, OSError, KeyError) as error:
        raise CaptioningError(
            f"expected the weights of keras.applications.ResNet50 without top in {path}, found "
            f"others ({str(error).splitlines()[0]}); delete it and run again, or check the path"
        ) from None
    finally:
        keras.config.set_dtype_policy(policy)
    arrays = {w.path: keras.ops.convert_to_numpy(w) for w in network.weights}
    archives.check_finite(arrays, path, "delete it and run again, or check the path")
    average = keras.layers.GlobalAveragePooling2D(dtype="float32")(network.output)
    return keras.Model(network.input, average)
