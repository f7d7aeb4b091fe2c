"""Makes hostile files: what a stranger could put into a pickle or a checkpoint.

Each function returns name → bytes. Those that try to run something would create the file
`sentinel`. Nothing here is ever loaded by Python's own pickle except in the test that shows that
the sentinel works.
"""

import builtins
import functools
import os
import pickle
import pickletools
import struct
import subprocess
import zipfile
from collections import OrderedDict, defaultdict
from io import BytesIO
from pathlib import Path

import numpy as np

COUNT = 120_000  # instructions in a bomb


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __call__(self):
        """Pickle demands that what is called can be."""

    def __reduce__(self):
        return self.function, self.arguments


class _Updates:
    """Pickles as a call of `function()` whose result is given a state."""

    def __init__(self, function, arguments, state):
        self.reduced = function, arguments, state

    def __reduce__(self):
        return self.reduced


def push(value) -> bytes:
    """Instructions that put a plain value on the stack."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]  # without memo entries


def program(*parts: bytes) -> bytes:
    """A protocol 4 pickle of these instructions."""
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module: str, qualified: str) -> bytes:
    """Instructions that look a name up, dots and all."""
    return push(module) + push(qualified) + pickle.STACK_GLOBAL


def call(module: str, qualified: str, *arguments) -> bytes:
    """Instructions that call a name with plain arguments, or bytes made by `push` or `name`."""
    items = (a if isinstance(a, Code) else push(a) for a in arguments)
    return name(module, qualified) + b"(" + b"".join(items) + b"tR"


class Code(bytes):
    """Instructions to be used as an argument of `call`."""


NDARRAY = Code(name("numpy", "ndarray"))
MEMMAP = Code(name("numpy", "memmap"))
FRESH = call("numpy._core.multiarray", "_reconstruct", NDARRAY, (0,), b"b")


def dtype(code: str, state=None) -> Code:
    """Instructions for a dtype as numpy pickles it."""
    made = call("numpy", "dtype", code, False, True)
    return Code(made + push(state) + b"b" if state else made)


def array(shape, data, code="f4", state=None) -> bytes:
    """An array as numpy pickles it."""
    parts = [push(1), push(shape), dtype(code, state), push(False), push(data)]
    return program(FRESH, b"(", *parts, b"t", b"b")


def running(sentinel: Path) -> dict[str, bytes]:
    """Pickles that would run something."""
    touch = f"touch {sentinel}"
    source = f"open({str(sentinel)!r}, 'w')"
    files = {
        f"os.system protocol {protocol}": pickle.dumps(Calls(os.system, touch), protocol)
        for protocol in range(6)
    }
    objects = {
        "eval": Calls(eval, source),
        "exec": Calls(exec, source),
        "import": Calls(__import__, "this"),
        "open": Calls(open, str(sentinel), "w"),
        "Popen": Calls(subprocess.Popen, ["touch", str(sentinel)]),
        "getattr chain": Calls(Calls(getattr, Calls(__import__, "os"), "system"), touch),
        "partial": Calls(functools.partial(os.system, touch)),
        "map": Calls(list, Calls(map, os.system, [touch])),
        "numpy.load": Calls(np.load, str(sentinel), None, True),
        "numpy.fromfile": Calls(np.fromfile, "/etc/hostname", np.uint8),
        "numpy.memmap": Calls(np.memmap, str(sentinel), "u1", "w+", 0, (10,)),
        "object array": np.array([Calls(os.system, touch)], dtype=object),
        "object array in a dictionary": {"a": np.array([[Calls(eval, source)]], dtype=object)},
        "record array with objects": np.zeros(1, dtype=[("a", "f4"), ("b", "O")]),
        "dictionary that calls": defaultdict(functools.partial(eval, source)),
        "a class as the default": defaultdict(subprocess.Popen),
        "ordered dictionary": OrderedDict(a=Calls(os.system, touch)),
        "key": {Calls(os.system, touch): 1},
        "pickle in a pickle": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "state": _Updates(OrderedDict, (), {"__class__": builtins.object}),
        "path": Path("/"),
    }
    files |= {key: pickle.dumps(value, 4) for key, value in objects.items()}
    tokenizer = name("keras_preprocessing.text", "Tokenizer")
    return files | {
        "dotted name": program(call("os", "path.os.system", touch)),
        "dotted module": program(call("os.path.os", "system", touch)),
        "through numpy": program(call("numpy._core.multiarray", "_reconstruct.__globals__")),
        "through our own package": program(call("captioning.formats.pickles", "os.system", touch)),
        "method of the tokenizer": program(
            call("captioning.data.tokenizer", "Tokenizer.from_state.__globals__.get", "os")
        ),
        "function beside the tokenizer": program(call("keras_preprocessing.text", "one_hot", "a")),
        "tokenizer with arguments": program(tokenizer, push((touch,)), b"R"),
        "tokenizer with a strange state": program(tokenizer, push(()), b"R", push([1]), b"b"),
        "instruction INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "instruction OBJ": program(b"(", name("os", "system"), push(touch), b"o"),
        "instruction NEWOBJ_EX": program(name("os", "system"), push((touch,)), push({}), b"\x92"),
        "extension registry": program(b"\x82\x01"),
        "extension registry, 4 bytes": program(b"\x84\x01\x00\x00\x00"),
        "persistent id": program(push("x"), b"Q"),
        "persistent id as text": b"Pos.system\n.",
        "out-of-band buffer": b"\x80\x05\x97.",
        "call of a number": program(push(5), push(()), b"R"),
        "call of a list": program(push([]), push(()), b"R"),
        "call of an array": program(FRESH, push(()), b"R"),
        "call of int": program(call("builtins", "int", "9" * 5000)),
        "call of object": program(call("builtins", "object")),
        "call without a tuple": program(name("collections", "OrderedDict"), push([]), b"R"),
        "old object of a strange class": program(
            call(
                "copyreg",
                "_reconstructor",
                Code(name("subprocess", "Popen")),
                Code(name("builtins", "object")),
                None,
            )
        ),
        "codec": program(call("_codecs", "encode", "x", "rot13")),
        "compressing codec": program(call("_codecs", "encode", "x", "zip")),
        "state of a list": program(push([]), push({"a": 1}), b"b"),
        "state of a dictionary": program(push({}), push({"a": 1}), b"b"),
        "a name as the value": program(NDARRAY),
        "a name in a list": program(b"](", name("collections", "OrderedDict"), b"e"),
        "name with a control sequence": program(name("os\n\x1b[31mall is well. Trust", "me\r")),
        "very long name": program(name("a" * 100_000, "b")),
    }


def malformed() -> dict[str, bytes]:
    """Pickles of arrays and containers that are not what they say, and bombs."""
    f4 = (3, "<", None, None, None, -1, -1, 0)
    return {
        "absurd shape": array((2**40, 2**20), b"\0" * 16),
        "absurd shape whose product overflows": array((2**61, 2**61, 0, 16), b"\0" * 16),
        "absurd empty shape": array((2**61, 2**61, 0), b""),
        "negative shape": array((-1, -4), b"\0" * 16),
        "shape of fractions": array((4.0,), b"\0" * 16),
        "shape of a hundred thousand dimensions": array((1,) * 100_000, b"\0" * 4),
        "shape that is a list": array([4], b"\0" * 16),
        "too much data": array((3,), b"\0" * 16),
        "too little data": array((5,), b"\0" * 16),
        "data that is a list": array((1,), [1.0]),
        "array without data": program(FRESH),
        "array with a state of another kind": program(FRESH, push({"shape": (1,)}), b"b"),
        "array filled twice": array((4,), b"\0" * 16)[:-1] + push((1, (0,), 1, 0, b"")) + b"b.",
        "object dtype": array((1,), b"\0" * 8, "O8"),
        "object dtype with a list": array((1,), ["x"], "O"),
        "dtype of records": array((1,), b"\0" * 4, "V4"),
        "dtype with fields": array((1,), b"\0" * 4, "f4", (*f4[:3], ("a",), {}, 4, 1, 0)),
        "dtype with metadata": array((1,), b"\0" * 4, "f4", (4, *f4[1:], {"a": 1})),
        "dtype with an odd order": array((1,), b"\0" * 4, "f4", (3, "x", *f4[2:])),
        "dtype that is a sentence": array((1,), b"\0" * 4, "f4,O"),
        "dtype of nothing": array((2**60,), b"", "S0"),
        "dtype of a gigabyte": array((2**30,), b"", "S999999999"),
        "text that is not Unicode": array((1,), b"\xff" * 4, "U1"),
        "array of another kind": program(
            call("numpy._core.multiarray", "_reconstruct", MEMMAP, (0,), b"b")
        ),
        "array made large at once": program(
            call("numpy._core.multiarray", "_reconstruct", NDARRAY, (10**12,), b"b")
        ),
        "scalar of a wrong size": program(
            call("numpy._core.multiarray", "scalar", dtype("f8"), b"1234")
        ),
        "scalar object": program(call("numpy._core.multiarray", "scalar", dtype("O"), b"12345678")),
        "buffer of a wrong size": program(
            call("numpy._core.numeric", "_frombuffer", b"1234", dtype("f4"), (2**40,), "C")
        ),
        "buffer in an odd order": program(
            call("numpy._core.numeric", "_frombuffer", b"1234", dtype("f4"), (1,), "X")
        ),
        "buffer with odd axes": program(
            call("numpy._core.numeric", "_frombuffer", b"1234", dtype("f4"), (1,), "K", (7,))
        ),
        "item set in an array": program(FRESH, push("a"), push("b"), b"s"),
        "item appended to a dictionary": program(push({}), push("b"), b"a"),
        "item set in a list": program(push([1]), push(0), push("b"), b"s"),
        "set of lists": program(b"\x8f(]\x90"),
        "default dictionary of too many": program(call("collections", "defaultdict", None, 1, 2)),
        "default dictionary that calls": program(call("collections", "defaultdict", "int")),
        "nested tuples": b"N" + b"\x85" * 10_000 + b".",
        "nested lists": b"]" * 10_000 + b"a" * 9_999 + b".",
        "nested dictionaries": b"}" + b"K\x01}" * 10_000 + b"s" * 10_000 + b".",
        "list in itself": b"]\x94h\x00a.",
        "dictionary in itself": b"}\x94K\x01h\x00s.",
        "a billion laughs": program(b"]\x94", b"".join(_laugh(i) for i in range(60))),
        "key whose hash takes for ever": program(b"}(N\x94", b"h\x00h\x00\x86q\x00" * 60, b"Nu"),
        "memo index": b"\x80\x02Nr\xff\xff\xff\xff.",
        "memo index as text": b"Np4000000000\n.",
        "negative memo index": b"Np-1\n.",
        "memo entry that is not there": b"h\x07.",
        "memo bomb": b"N" + b"\x94" * COUNT + b".",
        "stack bomb of marks": b"(" * COUNT + b".",
        "stack bomb of sets": b"\x8f" * COUNT + b".",
        "stack bomb of lists": b"]" * COUNT + b".",
        "stack bomb of ordered dictionaries": program(
            name("collections", "OrderedDict"), b"\x94", b"h\x00)R" * COUNT
        ),
        "copies of one text": _copies(
            name("_codecs", "encode") + TEXT + push("latin1") + b"\x86q\x01", b"h\x00h\x01R"
        ),
        "copies of one list as sets": _copies(
            name("builtins", "set") + b"](" + b"K\x01" * 100_000 + b"e\x85q\x01", b"h\x00h\x01R"
        ),
        "copies of one big-endian array": _copies(
            *_arrays_of(push(b"\0" * 1_000_000), 250_000, "f4", (3, ">", *f4[2:]))
        ),
        "copies of one array of Python 2": _copies(*_arrays_of(TEXT, 1_000_000, "u1")),
        "copies of one scalar": _copies(
            name("numpy._core.multiarray", "scalar")
            + dtype("S1000000")
            + push(b"\0" * 1_000_000)
            + b"\x86q\x01",
            b"h\x00h\x01R",
        ),
        "duplicated items": b"N" + b"2" * 1000 + b".",
        "popped items": b"NN0.",
        "empty stack": b"\x80\x04.",
        "mark that is not there": b"\x80\x04t.",
        "length of bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "length of bytes beyond any": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
        "length of 4 GB of bytes": b"\x80\x04B\xff\xff\xff\xffx.",
        "length of a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
        "length of text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
        "length of an integer": b"\x80\x04\x8b\xff\xff\xff\x7fx.",
        "negative length": b"\x80\x04\x8b\xff\xff\xff\xffx.",
        "length of a frame": b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"N.",
        "integer of many digits": b"I" + b"9" * 100_000 + b"\n.",
        "text that is not UTF-8": b"\x80\x04\x8c\x02\xff\xff.",
        "unknown protocol": b"\x80\xffN.",
        "unknown instruction": b"\x80\x04\xff.",
        "empty": b"",
        "text": b"<!DOCTYPE html><html>Not found. Sign in.</html>",
        "zeros": b"\0" * 1000,
    }


TEXT = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000


def _copies(once: bytes, again: bytes) -> bytes:
    """Run `once` (a name, memo entry 0, and its arguments, entry 1), then `again` many times."""
    function, rest = once.split(b"\x93", 1)
    return program(function, b"\x93q\x00", rest, b"](", again * 10_000, b"e")


def _arrays_of(data: bytes, count: int, code: str, state=None) -> tuple[bytes, bytes]:
    """What `_copies` needs for arrays that share one piece of data."""
    new = name("numpy._core.multiarray", "_reconstruct") + NDARRAY + push((0,)) + push(b"b")
    filled = b"(" + push(1) + push((count,)) + dtype(code, state) + push(False) + data + b"tq\x02"
    return new + b"\x87q\x01" + filled, b"h\x00h\x01Rh\x02b"


def _laugh(i: int) -> bytes:
    return b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])


# Checkpoints of PyTorch, made without it.


def torch_name(module: str, qualified: str) -> bytes:
    """Instructions that look a name up, as protocol 2 does."""
    return f"c{module}\n{qualified}\n".encode()


def tensor(
    shape=(2,),
    strides=(1,),
    offset=0,
    kind="FloatStorage",
    key="0",
    count=2,
    function="v2",
    tail=b"",
) -> bytes:
    """Instructions for a tensor as `torch.save` writes it."""
    storage = b"(" + push("storage") + torch_name("torch", kind) + push(key) + push("cpu")
    storage += push(count) + b"tQ"
    hooks = torch_name("collections", "OrderedDict") + b")R"
    return (
        torch_name("torch._utils", f"_rebuild_tensor_{function}")
        + b"("
        + storage
        + push(offset)
        + push(shape)
        + push(strides)
        + push(False)
        + hooks
        + tail
        + b"tR"
    )


def state_dict(**items: bytes) -> bytes:
    """A pickle of `{"state_dict": items}`; the values are instructions."""
    pairs = b"".join(push(key) + value for key, value in items.items())
    return b"\x80\x02}(" + push("state_dict") + b"}(" + pairs + b"uu."


def archive(
    pickled: bytes, *, folder="archive", compression=zipfile.ZIP_STORED, **entries: bytes
) -> bytes:
    """A zip archive as `torch.save` writes it; `entries` are storages, by their key."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as writer:
        writer.writestr(f"{folder}/data.pkl", pickled)
        writer.writestr(f"{folder}/version", b"3\n")
        writer.writestr(f"{folder}/byteorder", entries.pop("byteorder", b"little"))
        for key, data in (entries or {"0": b"\0" * 8}).items():
            writer.writestr(f"{folder}/data/{key}" if "/" not in key else key, data)
    return file.getvalue()


def stream(pickled: bytes, keys=("0",), data=b"\2" + b"\0" * 15) -> bytes:
    """The same in the format before PyTorch 1.6."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    pickled = pickled.replace(b"tQ", b"NtQ")  # one more field: storages could be views
    return magic + system + pickled + pickle.dumps(list(keys), 2) + data


def torch_file(value, zipped=True) -> bytes:
    """A harmless checkpoint of dictionaries, arrays and plain values, as `torch.save` makes it."""
    kinds = {"f2": "Half", "f4": "Float", "f8": "Double", "i8": "Long", "i4": "Int", "u1": "Byte"}
    storages = {}

    def instructions(value) -> bytes:
        if isinstance(value, dict):
            items = (push(key) + instructions(item) for key, item in value.items())
            return b"}(" + b"".join(items) + b"u"
        if not isinstance(value, np.ndarray | np.generic):
            return push(value)
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = str(len(storages))
        storages[key] = array
        strides = tuple(stride // array.itemsize for stride in array.strides)
        kind = kinds[array.dtype.str[1:]] + "Storage"
        return tensor(array.shape, strides, kind=kind, key=key, count=array.size)

    pickled = b"\x80\x02" + instructions(value) + b"."
    if zipped:
        return archive(pickled, **{key: array.tobytes() for key, array in storages.items()})
    data = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return stream(pickled, storages, b"".join(data))


def checkpoints() -> dict[str, bytes]:
    """PyTorch checkpoints that are not what they say, and bombs."""
    good = state_dict(a=tensor())
    several = {
        "stride beyond the end": tensor(strides=(2,)),
        "negative stride": tensor(strides=(-1,), offset=1),
        "offset beyond the end": tensor(offset=1),
        "negative offset": tensor(offset=-1),
        "absurd shape": tensor((2**40, 2**40), (1, 1)),
        "absurd shape with strides of 0": tensor((2**40,), (0,)),
        "absurd empty shape": tensor((2**47, 0, 2**47), (1, 1, 1)),
        "shape of a hundred thousand dimensions": tensor((1,) * 100_000, (1,) * 100_000),
        "shape without strides": tensor((2,), ()),
        "shape of fractions": tensor((2.0,), (1,)),
        "count that is another": tensor(count=3),
        "absurd count": tensor(count=2**62),
        "negative count": tensor(count=-2),
        "storage that is not there": tensor(key="7"),
        "storage of a numeric key": tensor(key=0),
        "storage elsewhere": tensor(key="../../../etc/passwd"),
        "storage of a strange class": tensor(kind="QInt8Storage"),
        "storage as two kinds": tensor() + push("b") + tensor(kind="IntStorage"),
        "tensor of a strange dtype": tensor(function="v3", tail=torch_name("torch", "float4")),
        "tensor of too few arguments": torch_name("torch._utils", "_rebuild_tensor_v2") + b")R",
        "conjugated numbers": tensor(tail=push({"conj": True})),
        "sparse tensor": torch_name("torch._utils", "_rebuild_sparse_tensor") + b")R",
        "no tensors": push(5),
        "memo bomb": b"N" + b"\x94" * COUNT,
        "stack bomb": b"]" * COUNT,
    }
    files = {}
    for key, value in several.items():
        files[f"{key}, zip"] = archive(state_dict(a=value))
        files[f"{key}, stream"] = stream(state_dict(a=value))
    whole, streamed = archive(good), stream(good)
    bomb = zipfile.ZIP_DEFLATED
    return files | {
        "zip bomb": archive(good, compression=bomb, **{"0": b"\0" * 50_000_000}),
        "zip bomb in the pickle": archive(b"]" * 50_000_000, compression=bomb),
        "zip that claims more than it holds": _claiming(whole, 2**31),
        "zip with overlapping entries": _overlapping(archive(good, **{"0": b"\0" * 100_000})),
        "zip with .. in a path": archive(good, **{"0": b"\0" * 8, "../../evil": b"x"}),
        "zip with an absolute path": archive(good, **{"0": b"\0" * 8, "/tmp/evil": b"x"}),
        "zip of two pickles": archive(good, **{"0": b"\0" * 8, "other/data.pkl": good}),
        "zip of something else": archive(good).replace(b"data.pkl", b"data.txt"),
        "zip of big-endian numbers": archive(good, byteorder=b"big"),
        "zip with damaged numbers": whole.replace(b"\0" * 8, b"\0" * 7 + b"\1", 1),
        "truncated zip": whole[:-30],
        "half a zip": whole[: len(whole) // 2],
        "truncated stream": streamed[:-1],
        "half a stream": streamed[: len(streamed) // 2],
        "stream with another count": stream(good, data=struct.pack("<q", 3) + b"\0" * 8),
        "stream with a strange key": stream(good, keys=("1",)),
        "stream without its storage": stream(good, keys=(), data=b""),
        "some pickle": pickle.dumps({"state_dict": {}}, 2),
        "a whole network": stream(torch_name("torch.nn", "Linear") + b")\x81."),
        "a list": archive(b"\x80\x02](" + tensor() + b"e."),
        "persistent id of another kind": archive(state_dict(a=push(5) + b"Q")),
        "empty": b"",
        "only the signature": b"PK\x03\x04",
        "text": b"version https://git-lfs.github.com/spec/v1. Fetch me.",
    }


def _claiming(archived: bytes, size: int) -> bytes:
    """Raise the sizes of the storage in the zip's directory."""
    start = archived.index(b"PK\x01\x02", archived.rindex(b"PK\x01\x02"))
    return archived[: start + 20] + struct.pack("<II", size, size) + archived[start + 28 :]


def _overlapping(archived: bytes) -> bytes:
    """Let 1,000 entries of the zip's directory point to the same storage."""
    start, end = archived.rindex(b"PK\x01\x02"), archived.rindex(b"PK\x05\x06")
    directory = archived.index(b"PK\x01\x02")
    entries = archived[directory:end] + archived[start:end] * 1000
    count = 4 + 1000
    tail = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(entries), directory, 0)
    return archived[:directory] + entries + tail
