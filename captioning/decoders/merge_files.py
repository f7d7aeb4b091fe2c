"""The merge captioner: an image feature and the words so far → the next word.

Architecture: Tanti, Gatt and Camilleri, "What is the Role of Recurrent Neural Networks (RNNs) in
an Image Caption Generator?" (arXiv 1708.02043), in the proportions of the reference.
"""

import collections
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

from captioning.formats import archives
from captioning.runtime.errors import CaptioningError, printable

_RECORD = "captioner.json"  # a member of the .keras archive
MAX_LENGTH = 1000  # words of a caption, startseq and endseq included; Flickr8k's longest has 34
_LAYER_CLASSES = {  # all that a merge captioner can need; nothing that holds code
    *("Functional", "Model", "InputLayer", "Dropout", "Dense", "Embedding", "LSTM", "Add"),
    "NotEqual",  # Keras 3 writes the embedding's mask as a layer
}


def build(
    dimension: int,
    vocabulary_size: int,
    max_length: int,
    units: int = 256,
    dropout: float = 0.5,
    *,
    embedding_width: int | None = None,
    decoder_width: int | None = None,
    whole_captions: bool = False,
    scores_dropout: float = 0.0,
    logits: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """The two-input network.

    Inputs: feature float32 (n, dimension); prefix int32 (n, max_length), word ids padded with 0.
    Output: float32 (n, vocabulary_size), the distribution of the next word.

    Args:
        units: of the LSTM, and of the layer that takes the feature.
        embedding_width: numbers a word becomes; None is `units`.
        decoder_width: units of the layer before the scores; None is `units`.
        whole_captions: for training by teacher forcing: the prefix is a caption of any length t
            without padding, the output (n, t, vocabulary_size) predicts the word after each of
            its words. The weights are the same, in the same order.
        scores_dropout: share of the units before the scores that is dropped in training.
        logits: leave the softmax out.
        dtype: Keras dtype policy of the layers.
    """
    feature = keras.Input((dimension,), name="feature")
    image = layers.Dropout(dropout, name="feature_dropout", dtype=dtype)(feature)
    image = layers.Dense(units, activation="relu", name="feature_dense", dtype=dtype)(image)

    prefix = keras.Input((None if whole_captions else max_length,), dtype="int32", name="prefix")
    words = layers.Embedding(
        vocabulary_size,
        embedding_width or units,
        mask_zero=not whole_captions,
        name="embedding",
        dtype=dtype,
    )(prefix)
    words = layers.Dropout(dropout, name="prefix_dropout", dtype=dtype)(words)
    words = layers.LSTM(units, return_sequences=whole_captions, name="lstm", dtype=dtype)(words)

    if whole_captions:
        image = layers.Reshape((1, units), name="every_word", dtype=dtype)(image)
    merged = layers.Add(name="merge", dtype=dtype)([image, words])
    merged = layers.Dense(decoder_width or units, activation="relu", name="decoder", dtype=dtype)(
        merged
    )
    if scores_dropout:
        merged = layers.Dropout(scores_dropout, name="scores_dropout", dtype=dtype)(merged)
    output = layers.Dense(
        vocabulary_size, activation=None if logits else "softmax", name="scores", dtype=dtype
    )(merged)
    return keras.Model([feature, prefix], output, name="captioner")


@dataclasses.dataclass(frozen=True)
class Captioner:
    """A trained network and what is needed to use it.

    Attributes:
        network: see `build`.
        record: `encoder` (the record of the encoder its features came from, or None),
            `vocabulary_hash` (or None), `settings` of the training run.
    """

    network: keras.Model
    record: dict

    @property
    def dimension(self) -> int:
        """Length of the image feature."""
        return self.network.inputs[0].shape[-1]

    @property
    def max_length(self) -> int:
        """Longest prefix the network was trained on, and so the most words of a caption."""
        return self.network.inputs[1].shape[-1]

    @property
    def vocabulary_size(self) -> int:
        """Number of word ids, padding included."""
        return self.network.outputs[0].shape[-1]

    def check_features(self, dimension: int, encoder: dict | None) -> None:
        """Raise `CaptioningError` if features of that length and encoder cannot be its input."""
        if dimension != self.dimension:
            raise CaptioningError(
                f"the captioner takes features of {self.dimension} numbers, these have "
                f"{dimension}; extract them with the encoder it was trained with "
                f"({_encoder_name(self.record.get('encoder'))})"
            )
        trained_on = self.record.get("encoder")
        if trained_on and encoder and _identity(trained_on) != _identity(encoder):
            raise CaptioningError(
                f"the captioner was trained on features of {_encoder_name(trained_on)}, these are "
                f"of {_encoder_name(encoder)}; extract them again with the former or train anew"
            )


def _identity(encoder: dict) -> tuple:
    """What decides about an encoder's features; a file of weights may go by any name."""
    weights = encoder.get("sha256") or encoder.get("name")
    details = (encoder.get(key) for key in ("preprocessing", "mode", "seed", "prefix"))
    return (weights, *details, encoder.get("crops", 1))


def _encoder_name(record: dict | None) -> str:
    if not record:
        return "an unrecorded encoder"
    details = [
        str(record[key])[:12]
        for key in ("mode", "preprocessing", "sha256", "seed")
        if record.get(key) is not None
    ]
    if record.get("crops"):
        details.append(f"{str(record['crops'])[:12]} crops")
    if record.get("prefix") is not None:
        details.append(f"prefix {printable(str(record['prefix']))}")
    return f"{record.get('name')} ({', '.join(details)})" if details else str(record.get("name"))


def save(path: str | os.PathLike, captioner: Captioner) -> Path:
    """Write a `.keras` file that any Keras 3 opens, with the record as one more member.

    Raises:
        CaptioningError: for what `load` would refuse, see `check`.
    """
    check(path, captioner)
    return archives.save(path, captioner.network, _RECORD, captioner.record)


def read_record(path: str | os.PathLike) -> dict:
    """What a captioner's file says of itself, as untrusted as the file; {} if nothing."""
    return archives.record(path, _RECORD)


def check(path: str | os.PathLike, captioner: Captioner) -> None:
    """Raise `CaptioningError` if what is to be written to `path` could not be read again.

    Its captions are longer than `MAX_LENGTH` words, its record is damaged, or a weight is not
    finite.
    """
    if captioner.max_length > MAX_LENGTH:
        raise CaptioningError(
            f"expected a captioner for captions of at most {MAX_LENGTH:,} words to write to "
            f"{path}, found one for {captioner.max_length:,}; shorten the longest captions"
        )
    _checked_record(path, captioner.record)
    weights = {w.path: keras.ops.convert_to_numpy(w) for w in captioner.network.weights}
    archives.check_finite(weights, f"the captioner to write to {path}", "lower the learning rate")


def load(path: str | os.PathLike) -> Captioner:
    """Read a captioner: `.keras`, or the `.h5` of Keras 2 or 3, of the architecture of `build`.

    The network is rebuilt by `build` and only arrays are taken from the file, so no code of it
    can run and any layer names and widths will do.

    Raises:
        CaptioningError: for a file that is missing, damaged or not a merge captioner, or whose
            weights are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CaptioningError(f"expected a captioner at {path}, found no file; see --model")
    try:
        if zipfile.is_zipfile(path):
            return _load_keras(path)
        if h5py.is_hdf5(path):
            return _load_h5(path)
    except CaptioningError:
        raise
    except Exception as error:  # Keras and h5py raise almost anything on damaged files
        raise CaptioningError(
            f"{path} cannot be read as a captioner ({type(error).__name__}: "
            f"{printable(str(error)) or 'damaged'}); it may be incomplete: copy or train "
            "it again"
        ) from None
    raise CaptioningError(f"{path}: expected a .keras or .h5 captioner, found another kind of file")


def _load_keras(path: Path) -> Captioner:
    with archives.opened(path, _RECORD) as (config, record, file):
        found = _check_classes(path, config)
        weights = dict(zip(_names(found), _saved_weights(file["layers"], found), strict=True))
    return Captioner(_rebuild(path, config, found, weights), _checked_record(path, record))


def _checked_record(path: str | os.PathLike, record: object) -> dict:
    """The record, if what it says of the encoder and the vocabulary can be used."""
    texts = {"name": str, "file": str | None, "sha256": str | None, "preprocessing": str | None}
    if isinstance(record, dict) and isinstance(record.get("vocabulary_hash"), str | None):
        encoder = record.get("encoder") or {}
        if isinstance(encoder, dict) and (
            not encoder or all(isinstance(encoder.get(key), kind) for key, kind in texts.items())
        ):
            return record
    raise CaptioningError(
        f"expected in {path} a record with the encoder's name, file, sha256 and preprocessing and "
        "a vocabulary_hash, found a damaged record; make the features again, then train, or copy "
        "the captioner again"
    )


def _load_h5(path: Path) -> Captioner:
    with h5py.File(path) as file:
        archives.refuse_traps(path, file)
        if "model_config" not in file.attrs or "model_weights" not in file:
            raise CaptioningError(
                f"{path}: expected a whole Keras model, found weights or other data only; "
                "save the model itself"
            )
        config = json.loads(file.attrs["model_config"])
        found = _check_classes(path, config)
        groups = file["model_weights"]
        # Keras 3 gives a group to each layer, none to an operation such as NotEqual
        weights = {n: _legacy_weights(groups[n]) if n in groups else [] for n in _names(found)}
    return Captioner(_rebuild(path, config, found, weights), {})


def _names(found: list[dict]) -> list[str]:
    return [layer["config"]["name"] for layer in found]


def _saved_weights(group: h5py.Group, found: list[dict]) -> Iterator[list[np.ndarray]]:
    """Arrays of each layer of a `.keras`, which files them as dense, dense_1, … by class."""
    seen = collections.Counter()
    for layer in found:
        kind = layer["class_name"].lower()
        name = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
        arrays = []
        if name in group:
            group[name].visititems(
                lambda _, node, arrays=arrays: (
                    arrays.append(node[()]) if isinstance(node, h5py.Dataset) else None
                )
            )
        yield arrays


def _legacy_weights(group: h5py.Group) -> list[np.ndarray]:
    names = group.attrs["weight_names"][:4]  # of three at most; a file may repeat one at will
    names = (n.decode() if isinstance(n, bytes) else n for n in names)
    return [group[name][()] for name in names]


def _rebuild(path: Path, config: dict, found: list[dict], weights: dict) -> keras.Model:
    parts = _parts(path, config, found)
    arrays = {role: weights[name] for role, name in parts.items()}
    widths = _widths(path, arrays)
    _check_finite(path, parts, arrays)
    network = build(max_length=_input_length(path, found, parts["embedding"]), **widths)
    for role in parts:
        network.get_layer(role).set_weights(arrays[role])
    return network


def _widths(path: Path, arrays: dict[str, list[np.ndarray]]) -> dict[str, int]:
    """What `build` is to be told, once the arrays of all layers are known to fit together."""
    shapes = {role: [array.shape for array in group] for role, group in arrays.items()}
    for role, found in shapes.items():
        if not found or len(found[0]) != 2:
            raise CaptioningError(
                f"expected a matrix in the {role} layer of {path}, found {found[:1] or 'none'}; "
                "copy or train it again"
            )
    dimension, units = shapes["feature_dense"][0]
    words, decoder = shapes["embedding"][0][1], shapes["decoder"][0][1]
    vocabulary = shapes["scores"][0][1]
    expected = {
        "feature_dense": [(dimension, units), (units,)],
        "embedding": [(vocabulary, words)],
        "lstm": [(words, 4 * units), (units, 4 * units), (4 * units,)],
        "decoder": [(units, decoder), (decoder,)],
        "scores": [(decoder, vocabulary), (vocabulary,)],
    }
    for role, shape in expected.items():
        if shapes[role] != shape:
            raise CaptioningError(
                f"expected arrays of shapes {shape} in the {role} layer of {path}, as its other "
                f"layers have it, found {shapes[role][:4]}; use a captioner trained by "
                "2_train_IC_model.py or the reference"
            )
    return {
        "dimension": dimension,
        "vocabulary_size": vocabulary,
        "units": units,
        "embedding_width": words,
        "decoder_width": decoder,
    }


def _check_finite(path: Path, parts: dict[str, str], arrays: dict[str, list[np.ndarray]]) -> None:
    kinds = {"embedding": ["embeddings"], "lstm": ["kernel", "recurrent_kernel", "bias"]}
    named = {
        f"{name}/{kind}": array
        for role, name in parts.items()
        for kind, array in zip(kinds.get(role, ["kernel", "bias"]), arrays[role], strict=True)
    }
    archives.check_finite(named, path, "copy or train it again")


def _check_classes(path: Path, config: dict) -> list[dict]:
    """The layers of a serialised model, each of a class that a merge captioner can need."""
    found = config.get("config", {}).get("layers", [])
    classes = {config.get("class_name"), *(layer.get("class_name") for layer in found)}
    strangers = ", ".join(sorted(map(str, classes - _LAYER_CLASSES)))
    if strangers or not found:
        raise CaptioningError(
            f"{path}: expected a merge captioner, found a model with "
            f"{printable(strangers) or 'no'} layers; use one trained by "
            "2_train_IC_model.py or the reference"
        )
    return found


def _parts(path: Path, config: dict, found: list[dict]) -> dict[str, str]:
    """Which layer of a serialised merge captioner plays which part of `build`'s network."""
    names = {layer["config"]["name"]: layer for layer in found}

    def inbound(name: str) -> set[str]:
        return names.keys() & set(_strings(names[name].get("inbound_nodes")))

    def of_class(class_name: str) -> list[str]:
        return [name for name, layer in names.items() if layer["class_name"] == class_name]

    scores = next(_strings(config["config"]["output_layers"]), None)
    merges, denses = of_class("Add"), of_class("Dense")
    decoders = [name for name in denses if inbound(name) & set(merges)]
    features = [name for name in denses if name not in (*decoders, scores)]
    candidates = {
        "feature_dense": features,
        "embedding": of_class("Embedding"),
        "lstm": of_class("LSTM"),
        "decoder": decoders,
        "scores": [name for name in denses if name == scores],
    }
    for role, layers_found in candidates.items():
        if len(layers_found) != 1:
            raise CaptioningError(
                f"{path}: expected a merge captioner with one {role} layer, found "
                f"{len(layers_found)}; use one trained by 2_train_IC_model.py or the reference"
            )
    expected = {
        "feature_dense": {"activation": "relu"},
        "embedding": {"mask_zero": True},
        "lstm": {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False},
        "decoder": {"activation": "relu"},
        "scores": {"activation": "softmax"},
    }
    for role, settings in expected.items():
        for key, value in settings.items():
            actual = names[candidates[role][0]]["config"].get(key, value)
            if actual != value:
                raise CaptioningError(
                    f"{path}: expected {key}={value} in the {role} layer of a merge captioner, "
                    f"found {printable(str(actual))}; use one trained by "
                    "2_train_IC_model.py or the reference"
                )
    return {role: layers_found[0] for role, layers_found in candidates.items()}


def _strings(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list | tuple):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _strings(child)


def _input_length(path: Path, found: list[dict], embedding: str) -> int:
    """Length of the prefix input, from the layer that feeds the embedding."""
    by_name = dict(zip(_names(found), found, strict=True))
    nodes = by_name[embedding]["inbound_nodes"]
    source = next(name for name in _strings(nodes) if name in by_name)
    settings = by_name[source]["config"]
    length = (settings.get("batch_input_shape") or settings["batch_shape"])[1]
    if type(length) is not int or not 0 < length <= MAX_LENGTH:  # decoding makes room for it
        raise CaptioningError(
            f"expected captions of 1 to {MAX_LENGTH:,} words in {path}, found a prefix of "
            f"{printable(str(length))} words; train it on shorter captions"
        )
    return length
