"""`.keras` files as data: JSON and arrays are read from them, nothing in them is ever run."""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import h5py
import keras
import numpy as np

from captioning.runtime import files
from captioning.runtime.errors import CaptioningError, printable

_MAX_RATIO = 20  # unpacked to packed size; trained weights hardly compress


def save(path: str | os.PathLike, network: keras.Model, record_name: str, record: dict) -> Path:
    """Write a network that is not compiled as a `.keras` file, which any Keras 3 opens.

    The record becomes one more member of it, as JSON.
    """
    with files.atomic(path) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(record_name, json.dumps(record, indent=2))
    return Path(path)


@contextlib.contextmanager
def opened(path: str | os.PathLike, record_name: str) -> Iterator[tuple[dict, dict, h5py.File]]:
    """Yield what a `.keras` file holds: Keras's description of the network, record, arrays.

    The description and the record are as untrusted as the file; without a record it is {}.

    Raises:
        CaptioningError: if it unpacks to far more than its size, or leads to other files. Nothing
            is ever unpacked to the disk, but a file that would climb out of its place is no model.
    """
    with zipfile.ZipFile(path) as archive:
        names = [PurePosixPath(name.replace("\\", "/")) for name in archive.namelist()]
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise CaptioningError(f"{path} names files outside itself; do not trust it")
        size = sum(member.file_size for member in archive.infolist())
        if size > _MAX_RATIO * os.stat(path).st_size:
            raise CaptioningError(f"{path} unpacks to far more than its size; do not trust it")
        config = json.loads(archive.read("config.json"))
        record = json.loads(archive.read(record_name)) if record_name in archive.namelist() else {}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            refuse_traps(path, weights)
            yield config, record, weights


def record(path: str | os.PathLike, name: str) -> dict:
    """The record alone, as untrusted as the file; {} where there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            if member.file_size > _MAX_RATIO * os.stat(path).st_size:
                return {}
            found = json.loads(archive.read(member))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return {}
    return found if isinstance(found, dict) else {}


def refuse_traps(path: str | os.PathLike, file: h5py.File) -> None:
    """Refuse what a model never needs: to point into other files, or to be mostly empty.

    HDF5 can do both, and an array of terabytes that was never filled takes no room in a file.
    """
    links, size = [], 0
    file.visititems_links(lambda name, link: links.append((name, link)))  # must not raise
    for name, link in links:
        node = None if isinstance(link, h5py.ExternalLink) else file.get(name)
        if node is None or (isinstance(node, h5py.Dataset) and (node.external or node.is_virtual)):
            raise CaptioningError(f"{path} points into other files at {name}; do not trust it")
        if isinstance(node, h5py.Dataset):
            if node.dtype.hasobject:  # its elements may all be one text, as long as one likes
                raise CaptioningError(
                    f"{path} holds texts where a model has numbers, at {name}; do not trust it"
                )
            size += node.nbytes
    if size > _MAX_RATIO * os.stat(path).st_size:
        raise CaptioningError(f"{path} unpacks to far more than its size; do not trust it")


def arrays(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """All arrays of an HDF5 file or group, by name, not read yet."""
    found = {}
    group.visititems(
        lambda name, node: found.update({name: node}) if isinstance(node, h5py.Dataset) else None
    )
    return found


def fill(
    path: str | os.PathLike, file: h5py.Group, network: keras.Model, name: str, advice: str
) -> None:
    """Load the weights that Keras wrote into a network.

    Args:
        path: the `.keras` or `.weights.h5` file.
        file: its arrays, see `opened`.
        name: what to call the network.
        advice: see `check_finite`.

    Raises:
        ValueError: if they are of another network. Keras passes over arrays that it does not
            look for.
        CaptioningError: if a number is not finite.
    """
    shapes = [array.shape for array in arrays(file).values()]
    if sorted(shapes) != sorted(tuple(weight.shape) for weight in network.weights):
        raise ValueError(f"its {len(shapes)} arrays are not those of {name}")
    network.load_weights(path)
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.weights}
    check_finite(weights, path, advice)


def check_finite(arrays: Mapping[str, np.ndarray], where: str | os.PathLike, advice: str) -> None:
    """Raise `CaptioningError` unless every number of a network is finite and real.

    Args:
        arrays: by the names to show.
        where: the file, or what else to call the network in the sentence.
        advice: what to do, the end of the sentence.
    """
    for name, values in arrays.items():
        if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":
            found = f"numbers of type {values.dtype}"
        elif count := values.size - np.count_nonzero(np.isfinite(values)):
            found = f"{count:,} of {values.size:,} that are not (infinite or NaN)"
        else:
            continue
        raise CaptioningError(
            f"expected finite numbers in {where}, found {found} in {printable(name)}; {advice}"
        )
