"""Files of merge captioners: our `.keras`, and the `.h5` of Keras 2 and 3.

The network is built again from what the file says of its layers, and only arrays are taken from
the file, so that no code of it can run and any layer names and widths will do.
"""

import collections
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from captioning.data.captions import MAX_LENGTH
from captioning.decoders.decoder import Config
from captioning.decoders.merge import Merge, Settings
from captioning.formats import archives
from captioning.runtime import settings
from captioning.runtime.errors import CaptioningError, printable

_LAYER_CLASSES = {  # all that a merge captioner can need; nothing that holds code
    *("Functional", "Model", "InputLayer", "Dropout", "Dense", "Embedding", "LSTM", "Add"),
    "NotEqual",  # Keras 3 writes the embedding's mask as a layer
}


def of_keras(path: Path, config: dict, file: h5py.File, recorded: Mapping[str, Any]) -> Merge:
    """The decoder in a `.keras` file.

    Args:
        config: Keras's description of the network.
        file: its arrays.
        recorded: the decoder's `Settings`, if the file tells; the arrays decide about widths.

    Raises:
        CaptioningError: if it is no merge captioner, or a weight is not finite.
    """
    found = _check_classes(path, config)
    weights = dict(zip(_names(found), _saved_weights(file["layers"], found), strict=True))
    return _rebuild(path, config, found, weights, recorded)


def of_h5(path: Path) -> Merge:
    """The decoder in an `.h5` file; raises as `of_keras` does."""
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
    return _rebuild(path, config, found, weights, {})


def _names(found: list[dict]) -> list[str]:
    return [layer["config"]["name"] for layer in found]


def _saved_weights(group: h5py.Group, found: list[dict]) -> Iterator[list[np.ndarray]]:
    """Arrays of each layer of a `.keras`, which files them as dense, dense_1, … by class."""
    seen = collections.Counter()
    for layer in found:
        kind = layer["class_name"].lower()
        name = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
        stored = archives.arrays(group[name]) if name in group else {}
        yield [array[()] for array in stored.values()]


def _legacy_weights(group: h5py.Group) -> list[np.ndarray]:
    names = group.attrs["weight_names"][:4]  # of three at most; a file may repeat one at will
    names = (n.decode() if isinstance(n, bytes) else n for n in names)
    return [group[name][()] for name in names]


def _rebuild(
    path: Path, config: dict, found: list[dict], weights: dict, recorded: Mapping[str, Any]
) -> Merge:
    parts = _parts(path, config, found)
    arrays = {role: weights[name] for role, name in parts.items()}
    widths = _widths(path, arrays)
    _check_finite(path, parts, arrays)
    max_length = _input_length(path, found, parts["embedding"])
    dimension, vocabulary_size, units, embedding, decoder_units = widths
    how = settings.restore(Settings, recorded, path)
    how = dataclasses.replace(
        how, units=units, embedding_width=embedding, decoder_width=decoder_units
    )
    decoder = Merge(Config(dimension, vocabulary_size, max_length, how))
    for role in parts:
        decoder.network.get_layer(role).set_weights(arrays[role])
    return decoder


def _widths(path: Path, arrays: dict[str, list[np.ndarray]]) -> tuple[int, ...]:
    """Dimension, vocabulary size, units, embedding and decoder width, which must fit together."""
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
    return dimension, vocabulary, units, words, decoder


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
    unexpected = ", ".join(sorted(map(str, classes - _LAYER_CLASSES)))
    if unexpected or not found:
        raise CaptioningError(
            f"{path}: expected a merge captioner, found a model with "
            f"{printable(unexpected) or 'no'} layers; use one trained by "
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
    for role, known in expected.items():
        for key, value in known.items():
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
