"""Checkpoints of PyTorch and TensorFlow → numpy: the only module that reads them.

PyTorch's are read without PyTorch. Their pickles name classes and functions of all kinds (training
settings, callbacks, paths); each becomes an inert placeholder, except the handful that describe a
tensor. Formats: https://docs.pytorch.org/docs/stable/notes/serialization.html and
torch/serialization.py (the older stream).
"""

import functools
import glob
import io
import math
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from captioning.formats import pickles
from captioning.runtime.errors import CaptioningError, printable, refusing

_STREAM_MAGIC = 0x1950A86A20F9469CFC6C  # opens a file by PyTorch older than 1.6
_STREAM_VERSION = 1001
_LONGEST_KEY = 100  # characters of the names of dictionaries that a tensor's name begins with

_DTYPES = {  # PyTorch's name → numpy's; bfloat16 is read as the upper half of a float32
    **{"float16": "<f2", "float32": "<f4", "float64": "<f8", "bfloat16": "<u2"},
    **{"int8": "<i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "bool": "?"},
    **{"uint8": "<u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8"},
    **{"complex64": "<c8", "complex128": "<c16"},
}
_STORAGES = {
    **{"HalfStorage": "float16", "FloatStorage": "float32", "DoubleStorage": "float64"},
    **{"CharStorage": "int8", "ShortStorage": "int16", "IntStorage": "int32"},
    **{"LongStorage": "int64", "ByteStorage": "uint8", "BoolStorage": "bool"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
    **{"BFloat16Storage": "bfloat16", "UntypedStorage": "uint8"},
}


def read(path: str | os.PathLike) -> tuple[str, dict[str, np.ndarray]]:
    """Read a checkpoint of either framework.

    Returns:
        framework: "torch" or "tensorflow".
        tensors: as `read_torch` or `read_tensorflow` gives them.
    """
    if Path(path).is_dir() or Path(path).suffix == ".index" or Path(f"{path}.index").is_file():
        return "tensorflow", read_tensorflow(path)
    return "torch", read_torch(path)


def read_tensorflow(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the numeric variables of a TensorFlow checkpoint, under the names it has for them.

    Args:
        path: its prefix, its `.index` file, or a folder that holds exactly one checkpoint.

    Returns:
        name → array of the stored shape and dtype (bfloat16: float32).

    Raises:
        CaptioningError: when there is none, or it is damaged.
    """
    prefix = _tensorflow_prefix(Path(path))
    shards = glob.glob(glob.escape(str(prefix)) + ".data-*-of-*")
    size = sum(os.path.getsize(shard) for shard in shards)
    with refusing(prefix, "a TensorFlow checkpoint"):
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        dtypes = {name: dtype for name, dtype in dtypes.items() if _is_numeric(dtype)}
        claimed = sum(math.prod(shapes[name]) * dtype.size for name, dtype in dtypes.items())
        if claimed > size:  # TensorFlow makes room for a tensor before it reads it
            raise ValueError(f"{claimed} bytes of variables in {size} bytes of data")
        tensors = {}
        for name, dtype in dtypes.items():
            tensor = reader.get_tensor(name)
            tensors[name] = tensor.astype(np.float32) if dtype == tf.bfloat16 else tensor
    return tensors


def _tensorflow_prefix(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            raise CaptioningError(
                f"expected a folder with one TensorFlow checkpoint (….index) at {path}, found "
                f"{len(found)}; name the .index file itself"
            )
        path = found[0]
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not Path(f"{prefix}.index").is_file():
        raise CaptioningError(
            f"expected a TensorFlow checkpoint ({prefix.name}.index and {prefix.name}.data-…) in "
            f"{prefix.parent}, found none; check the path"
        )
    return prefix


def _is_numeric(dtype: Any) -> bool:
    return dtype.name == "bfloat16" or np.dtype(dtype.as_numpy_dtype).kind in "biufc"


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the tensors of a `.ckpt`, `.pth` or `.pth.tar` that `torch.save` wrote.

    Both formats: the zip archive (since PyTorch 1.6) and the stream of pickles before it. Nothing
    of the file is imported or called. Only the tensors asked for are read from the disk, and views
    of one storage share its memory.

    Returns:
        name → read-only array of the tensor's shape and dtype (bfloat16: float32), for the tensors
        under `state_dict`, else `model`, else at the top level; names unchanged. Those of a
        dictionary there, such as "student", are `student.` and their own name.

    Raises:
        CaptioningError: when the file is damaged, hostile, or holds no dense tensors.
        OSError: when it cannot be opened or read.
    """
    with open(path, "rb") as file, refusing(path, "a PyTorch checkpoint"):
        reader = _zip_archive if file.read(4) == b"PK\x03\x04" else _stream
        file.seek(0)
        value, storage_bytes = reader(file, path)
        return _arrays(_state_dict(value, path), storage_bytes, path)


class _Storage(NamedTuple):
    """A block of `count` numbers, kept apart from the pickle."""

    key: str
    dtype: str  # PyTorch's name
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * np.dtype(_DTYPES[self.dtype]).itemsize


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unsupported(pickles.Placeholder):
    """A tensor that is not dense, of a dtype numpy lacks, or not stored as it is seen."""

    __slots__ = ()


class _TorchReader(pickles.Reader):
    """Admits every name and imports none: tensors become records, all else placeholders."""

    holds = "tensors"

    def __init__(self, file: BinaryIO, path: str | os.PathLike):
        super().__init__(file, path)
        self.storages: dict[str, _Storage] = {}

    def find(self, module: str, name: str) -> pickles.Name:
        return pickles.Name(module, name)

    def call(self, function: Any, arguments: Any) -> Any:
        if type(function) is not pickles.Name:
            return pickles.Placeholder("unknown", "call")
        match function.module, function.name:
            case "collections", "OrderedDict":
                return OrderedDict()
            case "torch._utils", "_rebuild_tensor_v2":
                return _tensor(function, *arguments)
            case "torch._utils", "_rebuild_tensor_v3":
                *most, dtype = arguments[:7]
                return _tensor(function, *most, *arguments[7:], dtype=dtype.name)
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return arguments[0]
            case "torch._tensor", "_rebuild_from_type_v2":  # a tensor with attributes
                return self.call(arguments[0], arguments[2])
            case "torch._utils", name if name.startswith("_rebuild"):
                return _Unsupported(function.module, name)
        return pickles.Placeholder(function.module, function.name)

    def build(self, thing: Any, state: Any) -> None:
        """States (of modules, callbacks, settings) hold nothing that a `state_dict` lacks."""

    def persistent(self, reference: Any) -> Any:
        if type(reference) is not tuple or reference[:1] != ("storage",):
            return pickles.Placeholder("torch.nn", "Module")  # of a whole network, pickled
        _, kind, key, _location, count, *view = reference
        if kind.name not in _STORAGES or any(part is not None for part in view):
            return _Unsupported(kind.module, kind.name)
        if type(key) is not str or type(count) is not int or not 0 <= count < 2**48:
            raise ValueError("a storage without a size")
        storage = _Storage(key, _STORAGES[kind.name], count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("a storage of two kinds")
        return storage


def _tensor(
    function: pickles.Name,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    flags: Any = None,  # {"conj": True}: the numbers are the conjugates of those stored
    dtype: str | None = None,
) -> _Tensor | _Unsupported:
    if type(storage) is not _Storage or flags or (dtype or storage.dtype) not in _DTYPES:
        return _Unsupported(function.module, function.name)
    return _Tensor(storage, dtype or storage.dtype, offset, shape, strides)


def _zip_archive(file: BinaryIO, path: str | os.PathLike) -> tuple[Any, Callable]:
    """The pickled value of a zip archive, and the function that reads a storage's bytes."""
    archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts:
            raise CaptioningError(
                f"{path} is an archive with the unsafe path {printable(str(name))}; do not "
                "trust it and get the file elsewhere"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CaptioningError(
                f"{path} is a compressed archive, which torch.save never writes; get it again, or "
                "unpack it if the checkpoint lies inside"
            )
    if sum(entry.file_size for entry in entries) > os.path.getsize(path):
        raise CaptioningError(
            f"{path} claims to hold more than its own size; do not trust it and get the file "
            "elsewhere"
        )
    if any(entry.header_offset < 0 for entry in entries):
        raise ValueError("an entry before its beginning")
    folders = [e.filename.removesuffix("data.pkl") for e in entries if _is_pickle(e.filename)]
    if len(folders) != 1:
        raise ValueError(f"a zip archive with {len(folders)} files data.pkl")
    folder = folders[0]
    order = folder + "byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise ValueError("big-endian numbers")
    value = _TorchReader(io.BytesIO(archive.read(folder + "data.pkl")), path).read()

    def storage_bytes(storage: _Storage) -> bytes:
        data = archive.read(f"{folder}data/{storage.key}")
        if len(data) != storage.size:
            raise ValueError("a storage of another size than it says")
        return data

    return value, storage_bytes


def _is_pickle(name: str) -> bool:
    return name == "data.pkl" or name.endswith("/data.pkl")


def _stream(file: BinaryIO, path: str | os.PathLike) -> tuple[Any, Callable]:
    """The same of the older format: five pickles, then the storages, each behind its length."""
    reader = _TorchReader(file, path)
    if reader.read() != _STREAM_MAGIC or reader.read() != _STREAM_VERSION:
        raise ValueError("not written by torch.save")
    if not reader.read()["little_endian"]:
        raise ValueError("big-endian numbers")
    value, keys = reader.read(), reader.read()
    starts = {}
    for key in keys:
        storage = reader.storages.get(key)
        if storage is None:
            raise _rare(path, "a storage of an unknown kind")
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError("a storage of another size than it says")
        starts[key] = file.tell()
        file.seek(storage.size, io.SEEK_CUR)
    if file.tell() > os.path.getsize(path):
        raise EOFError("it ends too early")

    def storage_bytes(storage: _Storage) -> bytes:
        if storage.key not in starts:
            raise ValueError("a tensor without its numbers")
        file.seek(starts[storage.key])
        return file.read(storage.size)

    return value, storage_bytes


def _state_dict(value: Any, path: str | os.PathLike) -> dict[str, _Tensor]:
    """The tensors of what `torch.save` was given."""
    if isinstance(value, dict):
        for place in (value.get("state_dict"), value.get("model"), value):
            if isinstance(place, dict) and (tensors := _flattened(place, path)):
                return tensors
    raise CaptioningError(
        f"expected tensors by name under state_dict, under model or at the top level of {path}, "
        "or in dictionaries there, found none; save the network's state_dict with torch.save"
    )


def _flattened(outer: dict, path: str | os.PathLike) -> dict[str, _Tensor]:
    """The tensors of a dictionary, and those of dictionaries in it behind their names.

    No dictionary is entered twice, and none of a long name: what is returned stays as small as
    the file.
    """
    found, entered, todo = {}, {id(outer)}, [("", outer)]
    for prefix, value in todo:  # which grows meanwhile
        found |= {prefix + name: tensor for name, tensor in _tensors(value, path).items()}
        for key, inner in value.items():
            if isinstance(inner, dict) and type(key) is str and id(inner) not in entered:
                entered.add(id(inner))
                if len(prefix) + len(key) < _LONGEST_KEY:
                    todo.append((f"{prefix}{key}.", inner))
    return found


def _tensors(value: dict, path: str | os.PathLike) -> dict[str, _Tensor]:
    """The tensors right in a dictionary, none where they go by other names than texts."""
    for name, thing in value.items():
        if type(thing) is _Unsupported:
            raise _rare(path, f"{printable(str(name))} as {thing}")
    tensors = {name: thing for name, thing in value.items() if type(thing) is _Tensor}
    return tensors if all(type(name) is str for name in tensors) else {}


def _rare(path: str | os.PathLike, found: str) -> CaptioningError:
    return CaptioningError(
        f"{path} holds {found}, and only dense tensors of common types can be read; save its "
        "state_dict as plain float32 tensors"
    )


def _arrays(
    tensors: Mapping[str, _Tensor],
    storage_bytes: Callable[[_Storage], bytes],
    path: str | os.PathLike,
) -> dict[str, np.ndarray]:
    file_size = os.path.getsize(path)
    storage_bytes = functools.cache(storage_bytes)
    numbers: dict[tuple[str, str], np.ndarray] = {}  # by storage and dtype: views share them
    arrays = {}
    for name, tensor in tensors.items():
        key = tensor.storage.key, tensor.dtype
        if key not in numbers:
            numbers[key] = _numbers(storage_bytes(tensor.storage), tensor.dtype)
        arrays[name] = _view(numbers[key], tensor, file_size)
    return arrays


def _numbers(data: bytes, dtype: str) -> np.ndarray:
    """A storage's bytes as a flat array."""
    numpy_dtype = np.dtype(_DTYPES[dtype])
    flat = np.ndarray(len(data) // numpy_dtype.itemsize, numpy_dtype, buffer=data)
    return (flat.astype("<u4") << 16).view("<f4") if dtype == "bfloat16" else flat


def _view(flat: np.ndarray, tensor: _Tensor, file_size: int) -> np.ndarray:
    """The tensor in its storage, after a check that it lies inside."""
    _, _, offset, shape, strides = tensor
    if (
        type(shape) is not tuple
        or type(strides) is not tuple
        or not len(shape) == len(strides) < 64
    ):
        raise ValueError("a tensor without a shape")
    if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *shape, *strides)):
        raise ValueError("a tensor of an impossible shape")
    count = math.prod(shape)
    if count == 0:  # numpy itself refuses sides whose product is out of all bounds
        return np.empty(shape, flat.dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= flat.size or count * flat.itemsize > 2 * file_size:  # strides of 0 repeat numbers
        raise ValueError(f"a tensor of {count} numbers, more than the file holds")
    return np.ndarray(
        shape,
        flat.dtype,
        buffer=flat,
        offset=offset * flat.itemsize,
        strides=[stride * flat.itemsize for stride in strides],
    )
