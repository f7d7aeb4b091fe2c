"""Backbones, networks with their weights: drawn at random, trained here, or read from the files of
any framework."""

import dataclasses
import fnmatch
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

from captioning.data import seen
from captioning.encoders import sources
from captioning.encoders.network import assign, parameters
from captioning.encoders.registry import BACKBONES, backbone_name
from captioning.formats import archives, checkpoints
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError, printable, refusing

SIZES = (32, 1024)  # least and largest side of the pictures an encoder may take, in pixels
# A tensor that tells where a backbone's names begin, and the modules that go by other names than
# torchvision's: lightly puts its children into a Sequential, which numbers them.
_ANCHORS = {
    "layer1.0.conv1.weight": {},
    "4.0.conv1.weight": {
        **{"conv1": "0", "bn1": "1", "layer1": "4"},
        **{"layer2": "5", "layer3": "6", "layer4": "7"},
    },
}
_RECORD = "encoder"  # an attribute of the HDF5 file, JSON
_SEEN = "seen"  # a dataset of it, uint64: see `data.seen`
_ADVICE = "get or make it again"
# Words in the name of an encoder that is the moving average of another: MoCo's encoder_k, DINO's
# teacher, BYOL's target, solo-learn's momentum_backbone
_AVERAGED = {"k", "key", "m", "momentum", "teacher", "target", "ema", "average", "averaged"}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network as data: its kind, its weights, and what it must be fed with.

    Attributes:
        values: name → array, as `network.parameters` has them.
        network: a name of `registry.BACKBONES`.
        size: height and width in pixels of the pictures it is meant for.
        preprocessing: a name of `sources.PREPROCESSINGS`.
        pool_padding: one of the network's `pool_paddings`.
        seen: the images it has been trained on, see `data.seen`.
        prefix: of its tensors' names, where `read` had to be told which backbone of the file.
    """

    values: Mapping[str, np.ndarray]
    network: str = "resnet50"
    size: int = 224
    preprocessing: str = "imagenet"
    pool_padding: str = "torch"
    seen: np.ndarray = dataclasses.field(default_factory=lambda: seen.NONE)
    prefix: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        digest = hashlib.sha256()
        for name in sorted(self.values):
            digest.update(np.ascontiguousarray(self.values[name]))
        return digest.hexdigest()

    def for_inference(self, dtype: str | None = None) -> keras.Model:
        """The network that makes features, for pictures of `size` pixels."""
        kind = BACKBONES[self.network]
        network = kind.build_for_inference(self.size, dtype, **self._details)
        kind.fill(self.values, network)
        return network

    def trainable(self, size: int, dtype: str | None = None) -> keras.Model:
        """The network to go on training, on pictures of `size` pixels."""
        network = BACKBONES[self.network].build(size, dtype, **self._details)
        assign(self.values, network)
        return network

    @property
    def _details(self) -> dict[str, str]:
        """What only some kinds of networks have."""
        return {} if self.pool_padding == "torch" else {"pool_padding": self.pool_padding}


def untrained(network: str, size: int) -> Backbone:
    """A backbone as training starts with it; Keras's global seed draws the weights."""
    network = backbone_name(network)
    return Backbone(parameters(BACKBONES[network].build(size)), network, size)


def random(seed: int) -> Backbone:
    """A ResNet-50 that was never trained, for a baseline.

    Glorot and Bengio 2010, the initialisation of Keras, with identity normalisation. Its gain below
    one lets the shortcuts carry the picture through: colours and places are read off these features
    better than off He et al.'s. Drawn by numpy, so that a seed means the same weights on every
    backend.
    """
    generator = np.random.default_rng(seed)
    values = {}
    for path, shape in BACKBONES["resnet50"].shapes(224).items():
        if path.endswith("/kernel"):
            height, width, channels, filters = shape
            values[path] = generator.standard_normal(shape, np.float32)
            values[path] *= np.sqrt(2 / (height * width * (channels + filters)))
        else:
            one = path.endswith(("/gamma", "/moving_variance"))
            values[path] = np.full(shape, one, np.float32)
    return Backbone(values)


def read(path: Path, prefix: str | None = None, network: str = "resnet50") -> Backbone:
    """The backbone in a file of weights.

    What else a checkpoint holds is left aside and named on stderr. Of an encoder and its moving
    average, the encoder itself is taken.

    Args:
        path: PyTorch's `.ckpt`, `.pth` and `.pth.tar`, a TensorFlow checkpoint, or a `.weights.h5`
            of `save`, or of Keras.
        prefix: what the names of the backbone's tensors begin with, where a checkpoint of
            PyTorch holds several; the last dot may be left out.
        network: of the weights, a name of `registry.BACKBONES`; a file of `save` tells itself.

    Raises:
        CaptioningError: if the file is damaged, does not hold exactly such a backbone, holds
            several that no known name tells apart, or numbers that are not finite.
    """
    if prefix is not None and path.suffix == ".h5":
        raise _no_choice(path)
    if path.suffix == ".h5":
        try:
            with refusing(path, "the weights of an encoder"), h5py.File(path) as file:
                archives.refuse_traps(path, file)
                if _RECORD in file.attrs:
                    return _saved(path, file)
        except OSError as error:  # when it is opened, or where a part is read
            raise CaptioningError(
                f"{path} is not a whole HDF5 file ({printable(str(error))}); check the path, or "
                "make it again"
            ) from None
        return Backbone(_own(path, network), network)
    framework, tensors = checkpoints.read(path)
    # From here on for residual networks alone: their names, their padding, their kernels
    shapes = BACKBONES[network].shapes(Backbone.size)
    if framework == "torch":
        return _torchvision(tensors, shapes, path, prefix, network)
    if prefix is not None:
        raise _no_choice(path)
    values = _google(tensors, shapes, path, network)
    return Backbone(values, network, preprocessing="unit", pool_padding="same")


def _no_choice(path: Path) -> CaptioningError:
    return CaptioningError(
        f"expected a checkpoint of PyTorch to choose a backbone from by its prefix, found {path}, "
        "which is of another kind; leave --prefix out"
    )


def save(path: str | os.PathLike, backbone: Backbone, record: dict) -> Path:
    """Write a backbone as HDF5: an array for each parameter, under its name.

    Kernels become 16-bit floats, which halves the file and moves features by about a thousandth.

    Args:
        path: ends in `.weights.h5`.
        record: how it was made, JSON-able; stands in the file with what `Backbone` says.

    Raises:
        CaptioningError: if a number is not finite, or too large for its 16 bits.
    """
    description = {"backbone": backbone.network, "size": backbone.size}
    description |= {"preprocessing": backbone.preprocessing, "pool_padding": backbone.pool_padding}
    with np.errstate(over="ignore"):
        arrays = {
            name: values.astype(np.float16 if values.ndim == 4 else np.float32)
            for name, values in backbone.values.items()
        }
    archives.check_finite(arrays, f"the backbone to write to {path}", "lower the learning rate")
    with files.atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs[_RECORD] = json.dumps(record | description)
        for name, values in arrays.items():
            file[name] = values
        if len(backbone.seen):
            file[_SEEN] = backbone.seen
    return Path(path)


def _saved(path: Path, file: h5py.File) -> Backbone:
    if file.attrs.get_id(_RECORD).shape != ():  # many texts, as long as one likes
        raise ValueError("its record is no text")
    record = json.loads(file.attrs[_RECORD])
    if not isinstance(record, dict):
        raise ValueError("its record describes none")
    network, size = backbone_name(record.get("backbone")), record.get("size")
    if (
        network not in BACKBONES
        or type(size) is not int
        or not SIZES[0] <= size <= SIZES[1]
        or record.get("preprocessing") not in sources.PREPROCESSINGS
        or record.get("pool_padding") not in BACKBONES[network].pool_paddings
    ):
        raise ValueError("its record describes none")
    nodes = archives.arrays(file)
    shapes = BACKBONES[network].shapes(size)
    images = nodes.pop(_SEEN, None)
    if images is not None and (images.ndim != 1 or images.dtype != np.uint64):
        raise ValueError("it does not tell which images it has seen")
    _check(nodes, shapes, "", path, network)  # before any is read
    if any(nodes[name].dtype.kind != "f" for name in shapes):
        raise ValueError("it holds something else than floats")
    values = {name: nodes[name][()].astype(np.float32) for name in shapes}
    archives.check_finite(values, path, _ADVICE)
    how = record["preprocessing"], record["pool_padding"]
    return Backbone(values, network, size, *how, seen.NONE if images is None else images[()])


def _own(path: Path, name: str) -> dict[str, np.ndarray]:
    network = BACKBONES[name].build(Backbone.size)
    try:
        with h5py.File(path) as file:
            archives.fill(path, file, network, f"the backbone {name!r}", _ADVICE)
    except (ValueError, OSError, KeyError) as error:
        raise CaptioningError(
            f"expected the weights of the backbone {name!r} in {path}, found others "
            f"({str(error).splitlines()[0]}); check the path"
        ) from None
    return parameters(network)


def _google(tensors: dict, shapes: dict, path: Path, network: str) -> dict[str, np.ndarray]:
    """Google's names number the layers in the order in which they are made.

    A block makes its projection before its other convolutions: `bottleneck_block` in
    https://github.com/google-research/simclr/blob/master/resnet.py.
    """
    keys = {}
    for i, name in enumerate(shapes):  # a kernel and four vectors for each convolution
        kind = name.rpartition("/")[2]
        layer = "conv2d" if kind == "kernel" else "batch_normalization"
        number = f"_{i // 5}" if i >= 5 else ""
        keys[f"base_model/{layer}{number}/{kind}"] = name
    prefix = "base_model/"
    inside = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    _check(inside, {key: shapes[name] for key, name in keys.items()}, prefix, path, network)
    archives.check_finite({key: tensors[key] for key in keys}, path, _ADVICE)
    _leave_aside(tensors.keys() - inside.keys(), prefix, path)
    return {name: tensors[key] for key, name in keys.items()}


def _torchvision(
    tensors: dict, shapes: dict, path: Path, prefix: str | None, network: str
) -> Backbone:
    """The backbone of torchvision's names behind a prefix; kernels are (out, in, h, w)."""
    renamed = {
        key.removesuffix(anchor): modules
        for key in tensors
        for anchor, modules in _ANCHORS.items()
        if key == anchor or key.endswith(f".{anchor}")
    }
    prefixes = list(renamed)
    if not prefixes:
        raise CaptioningError(
            f"expected one backbone {network!r} with torchvision's names in {path}, found none "
            f"among its tensors ({_listed(tensors)}); check the path"
        )
    usual = _online(prefixes)
    taken = usual if prefix is None else _named(prefix, prefixes, path)
    if taken is None:
        raise CaptioningError(
            f"expected one encoder in {path}, found {len(prefixes)}, of which no known name is "
            "that of the one to use; name one with --prefix of 1_data_preprocessor.py: "
            f"{_listed(map(repr, prefixes), 20)}"
        )
    if len(prefixes) > 1:
        others = [other for other in prefixes if other != taken]
        console.note(
            f"{path.name}: takes the encoder {_listed([repr(taken)])} and not "
            f"{_listed(map(repr, others))}; --prefix takes another"
        )
    nested = tuple(other for other in prefixes if len(other) > len(taken))
    inside = {
        key: tensor
        for key, tensor in tensors.items()
        if key.startswith(taken) and not key.startswith(nested)
    }
    kinds = {
        "kernel": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    keys, expected = {}, {}
    for name, shape in shapes.items():
        layer, kind = name.split("/")
        module, *rest = layer.split("_")
        key = taken + ".".join([renamed[taken].get(module, module), *rest, kinds[kind]])
        keys[key] = name
        expected[key] = tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape
    _check(inside, expected, taken, path, network)
    archives.check_finite({key: tensors[key] for key in keys}, path, _ADVICE)
    _leave_aside(tensors.keys() - inside.keys(), taken, path)
    values = {
        name: tensors[key].transpose(2, 3, 1, 0) if tensors[key].ndim == 4 else tensors[key]
        for key, name in keys.items()
    }
    return Backbone(values, network, prefix=None if taken == usual else taken)


def _online(prefixes: list[str]) -> str | None:
    """The prefix of the one encoder that is no moving average; None where that is unclear."""
    if len(prefixes) == 1:
        return prefixes[0]
    online = [p for p in prefixes if not _AVERAGED & set(p.replace(".", "_").split("_"))]
    return online[0] if len(online) == 1 else None


def _named(prefix: str, prefixes: list[str], path: Path) -> str:
    """The prefix that a user means."""
    for known in prefixes:
        if prefix in (known, known.removesuffix(".")):
            return known
    raise CaptioningError(
        f"expected the prefix of an encoder in {path}, one of {_listed(map(repr, prefixes), 20)}, "
        f"found {printable(prefix)!r}; name one of these with --prefix"
    )


def _leave_aside(keys: Iterable[str], prefix: str, path: Path) -> None:
    """Say in one line which tensors beside the backbone are not used, by their modules."""
    groups = dict.fromkeys(_module(key, prefix) for key in sorted(keys))
    if groups:
        console.note(f"{path.name}: left aside: {_listed(groups, 8)} ({len(keys):,} tensors)")


def _module(key: str, prefix: str) -> str:
    """The shortest part of a name that is not the backbone's: module.fc for module.fc.2.bias."""
    separator = "/" if "/" in prefix else "."
    start, end = 0, key.find(separator)
    while end >= 0 and prefix.startswith(key[start : end + 1], start):
        start, end = end + 1, key.find(separator, end + 1)
    return key if end < 0 else key[:end]


def _check(
    tensors: dict,
    expected: dict[str, tuple[int, ...]],
    prefix: str,
    path: Path,
    network: str,
) -> None:
    """Every tensor of the network there, of its shape, and no other but those known to be idle."""
    missing = [key for key in expected if key not in tensors]
    unexpected = [key for key in tensors if key not in expected and not _is_ignored(key, prefix)]
    misshapen = [
        f"{key} of shape {tensors[key].shape} instead of {shape}"
        for key, shape in expected.items()
        if key in tensors and tensors[key].shape != shape
    ]
    faults = {"missing": missing, "unknown": unexpected, "misshapen": misshapen}
    if any(faults.values()):
        found = "; ".join(f"{fault} {_listed(keys)}" for fault, keys in faults.items() if keys)
        raise CaptioningError(
            f"expected exactly the tensors of the backbone {network!r} in {path}, found {found}; "
            "use a checkpoint of that network"
        )


def _is_ignored(key: str, prefix: str) -> bool:
    name = key.removeprefix(prefix)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in sources.IGNORED)


def _listed(keys: Iterable[str], most: int = 3) -> str:
    keys = list(keys)
    more = f" and {len(keys) - most:,} more" if len(keys) > most else ""
    return ", ".join(printable(key) for key in keys[:most]) + more
