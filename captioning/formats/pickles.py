"""Pickle files, read without trusting them: the only module that touches pickle.

A pickle is a program for a small stack machine, and Python's own reader runs whatever function the
program names. `Reader` runs only the instructions that build data. A name in the file never
becomes the thing it names: it selects one of the stand-ins of this module, which check what they
are given and build a plain value.
"""

import io
import math
import os
import pickle
import pickletools
import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import numpy as np

from captioning.runtime import files
from captioning.runtime.errors import CaptioningError, printable, refusing

_DEEPEST = 16  # levels of containers; ours have three
_LITERALS = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
    *("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),  # of Python 2
}
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False}
_SCALARS = (str, bytes, int, float, bool, type(None))
_TOKENIZERS = {
    (module, "Tokenizer")
    for module in (
        "captioning.data.tokenizer",
        "captioning.tokenizer",  # ours, until 2026-11
        "keras_preprocessing.text",
        "keras.preprocessing.text",
        "keras.src.preprocessing.text",
        "keras.src.legacy.preprocessing.text",
        "tensorflow.python.keras.preprocessing.text",
        "tf_keras.preprocessing.text",
        "tf_keras.src.preprocessing.text",
    )
}


def load(path: str | os.PathLike) -> Any:
    """Read a pickle of plain data.

    Dictionaries (also ordered and default ones), lists, tuples, sets, strings, bytes, numbers,
    numpy arrays, scalars and dtypes of numbers or fixed-length strings, written by any protocol
    and by numpy 1 or 2, and tokenizers, which come back as `TokenizerState`. Memory stays within
    25 MB and 30 times the file even for hostile files; arrays cost their own size.

    Raises:
        CaptioningError: when the file is damaged, or asks for anything else.
        OSError: when it cannot be opened or read.
    """
    with open(path, "rb") as file, refusing(path, "a pickle file"):
        value = Reader(file, path).read()
        _check_plain(value, path)
        return value


def dump(path: str | os.PathLike, value: Any) -> None:
    """Write `value` with plain pickle, protocol 4 (Python 3.4 and later), atomically.

    `fast` switches off the memo, which would keep a copy of every array until the end; so the
    memory needed beyond `value` is one array. The value must not contain itself.
    """
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True
        pickler.dump(value)


class Name:
    """A module and a name read from the file; looked up in our tables, never imported."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


class Placeholder:
    """What stands for an object of a class that is never imported.

    Attributes:
        module, name: of its class.
        state: its attributes, as pickled.
    """

    __slots__ = ("module", "name", "state")

    def __init__(self, module: str, name: str):
        self.module, self.name, self.state = module, name, {}

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


class TokenizerState(Placeholder):
    """A pickled Tokenizer, ours or one of Keras's: `state` has its attributes."""

    __slots__ = ()


class Reader:
    """Runs the pickle instructions that build data, and no others.

    `pickletools` splits the file into instructions, and the method `_<instruction>` carries one
    out. The hooks `find`, `call`, `build` and `persistent` decide about everything beyond
    literals and containers; here they admit what `load` promises.
    """

    holds = "features or a tokenizer"

    def __init__(self, file: BinaryIO, path: str | os.PathLike):
        self.path = path
        self._source = _Source(file)

    def read(self) -> Any:
        """Run the next pickle of the file up to its STOP and return what it built."""
        self._stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._unfinished: dict[int, Any] = {}  # arrays and dtypes that may still be built, by id
        # An instruction of a single byte can cost a hundred times that in memory (an empty set).
        # Real files have one in 20 bytes or fewer.
        allowance = 100_000 + self._source.left // 16
        self._copies = 100_000 + 2 * self._source.left
        for opcode, argument, _ in pickletools.genops(self._source):
            if opcode.arg is None:
                allowance -= 1
                if allowance < 0:
                    self.refuse("far more objects than its size explains")
            if opcode.name in _LITERALS:
                self._stack.append(_CONSTANTS.get(opcode.name, argument))
            else:
                instruction = getattr(self, f"_{opcode.name.lower()}", None)
                if instruction is None:
                    self.refuse(f"the pickle instruction {opcode.name}")
                instruction(argument)
        value = self._stack.pop()
        if any(isinstance(thing, np.ndarray) for thing in self._unfinished.values()):
            raise ValueError("an array without data")
        return value

    def refuse(self, what: str) -> NoReturn:
        """Raise the sentence for a file that asks for something that no honest one needs."""
        raise CaptioningError(
            f"{self.path} asks for {what}, which a file of {self.holds} never needs; "
            "do not trust it and get the file elsewhere"
        )

    def _copy(self, size: int) -> None:
        """Count what is copied: the memo lets a small file ask for one text many times."""
        self._copies -= size
        if self._copies < 0:
            self.refuse("far more copies of its data than its size explains")

    # What a file may name.

    def find(self, module: str, name: str) -> Any:
        """What the file's `module.name` stands for: a `Name`, or a refusal."""
        if (module, name) not in _STAND_INS and (module, name) not in _TOKENIZERS:
            self.refuse(str(Name(module, name)))
        return Name(module, name)

    def call(self, function: Any, arguments: Any) -> Any:
        """The result of "calling" what `find` gave."""
        if type(function) is not Name or type(arguments) is not tuple:
            self.refuse("a call of something that is no function")
        key = function.module, function.name
        if key in _TOKENIZERS and not arguments:
            return TokenizerState(*key)
        stand_in = _STAND_INS.get(key)
        if stand_in is None:
            self.refuse(f"a call of {function}")
        return stand_in(self, *arguments)

    def build(self, thing: Any, state: Any) -> None:
        """Set the state of a thing that `call` gave."""
        if type(thing) is TokenizerState and type(state) is dict:
            thing.state = state
        elif self._unfinished.pop(id(thing), None) is None:
            self.refuse(f"a change to a value of the type {type(thing).__name__}")
        elif type(thing) is np.ndarray:
            self._fill_array(thing, *state)
        else:
            _finish_dtype(thing, *state)

    def persistent(self, reference: Any) -> Any:
        """What stands for a reference to something outside the pickle."""
        self.refuse("something outside the file")

    # Stand-ins for the functions of numpy and Python that pickles name.

    def _new_array(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
        if type(kind) is not Name or kind.name != "ndarray" or shape != (0,):
            raise ValueError("an array of an unknown kind")
        array = np.ndarray((0,), np.int8)
        self._unfinished[id(array)] = array
        return array

    def _fill_array(
        self, array: Any, version: Any, shape: Any, dtype: Any, fortran: Any, data: Any
    ):
        self._copy(len(data))
        if type(data) is str:  # Python 2
            data = data.encode("latin1")
        self._check_data(shape, dtype, data)
        array.__setstate__((1, shape, dtype, bool(fortran), data))

    def _array_of_buffer(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None):
        self._check_data(shape, dtype, data)
        array = np.ndarray(math.prod(shape), dtype, buffer=data)
        if order == "K" and axes is not None:
            return array.reshape(shape).transpose(axes)
        return array.reshape(shape, order=order)

    def _scalar(self, dtype: Any, data: Any) -> np.generic:
        self._check_data((), dtype, data)
        self._copy(len(data))
        return np.ndarray((), dtype, buffer=data)[()]

    def _check_data(self, shape: Any, dtype: Any, data: Any) -> None:
        if not isinstance(dtype, np.dtype) or type(data) not in (bytes, bytearray):
            raise ValueError("an array of something other than numbers")
        if type(shape) is not tuple or len(shape) > 64 or {type(n) for n in shape} - {int}:
            raise ValueError("an array without a shape")
        if min(shape, default=0) < 0 or math.prod(filter(None, shape)) >= 2**48:
            raise ValueError("an array of an impossible shape")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError("an array whose data has not the size of its shape")
        if dtype.kind == "U" and len(data):  # numpy would raise much later
            points = np.ndarray(len(data) // 4, np.dtype("u4").newbyteorder(dtype.byteorder), data)
            if points.max() > 0x10FFFF:
                raise ValueError("text that is not Unicode")
        self._unfinished.pop(id(dtype), None)  # a dtype in use changes no more

    def _new_dtype(self, code: Any, align: Any = False, copy: Any = True) -> np.dtype:
        if type(code) is not str or not re.fullmatch(r"[biufc]\d{1,2}|[SU][1-9]\d{0,8}", code):
            self.refuse(f"arrays of the type {printable(str(code))}")
        dtype = np.dtype(code, False, True)
        self._unfinished[id(dtype)] = dtype
        return dtype

    def _default_dict(self, factory: Any = None) -> defaultdict:
        factories = {"int": int, "long": int, "list": list}
        if factory is not None and (type(factory) is not Name or factory.name not in factories):
            self.refuse("a dictionary with a strange default")
        return defaultdict(factories[factory.name] if factory else None)

    def _ordered_dict(self) -> OrderedDict:
        return OrderedDict()

    def _set(self, items: Any) -> set:
        if type(items) is not list:
            raise ValueError("a set of no list")
        self._copy(len(items))
        return {self._key(item) for item in items}

    def _bytes_of_text(self, text: Any, encoding: Any) -> bytes:  # as protocols 0 to 2 write bytes
        if type(text) is not str or encoding != "latin1":
            self.refuse("an unknown encoding")
        self._copy(len(text))
        return text.encode("latin1")

    def _no_bytes(self) -> bytes:
        return b""

    def _new_object(self, kind: Any, base: Any, state: Any) -> Any:  # as protocols 0 and 1 do
        return self.call(kind, ())

    # The instructions. `argument` is what follows one in the file.

    def _key(self, key: Any) -> Any:
        """Only plain keys: the hash of nested tuples can take for ever."""
        plain = type(key) in _SCALARS or isinstance(key, (Name, Placeholder, np.generic))
        if not plain and not (type(key) is tuple and all(type(item) in _SCALARS for item in key)):
            raise ValueError(f"a {type(key).__name__} as the key of a dictionary or in a set")
        return key

    def _items(self) -> list:
        """Pop everything above the last mark."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _extend(self, items: list) -> None:
        if type(self._stack[-1]) is list:
            self._stack[-1].extend(items)
        elif type(self._stack[-1]) is not Placeholder:
            raise ValueError("items for something that is no list")

    def _update(self, items: list) -> None:
        if isinstance(self._stack[-1], dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                self._stack[-1][self._key(key)] = value
        elif type(self._stack[-1]) is not Placeholder:
            raise ValueError("items for something that is no dictionary")

    def _proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"pickle protocol {version}")

    def _frame(self, length: int) -> None:
        if length > self._source.left:  # else only a hint for buffering, which the file does
            raise EOFError("it ends too early")

    def _stop(self, _) -> None:
        """`read` ends here."""

    def _mark(self, _) -> None:
        self._marks.append(len(self._stack))

    def _empty_list(self, _) -> None:
        self._stack.append([])

    def _empty_dict(self, _) -> None:
        self._stack.append({})

    def _empty_set(self, _) -> None:
        self._stack.append(set())

    def _empty_tuple(self, _) -> None:
        self._stack.append(())

    def _list(self, _) -> None:
        self._stack.append(self._items())

    def _dict(self, _) -> None:
        items = self._items()
        self._stack.append({})
        self._update(items)

    def _tuple(self, _) -> None:
        self._stack.append(tuple(self._items()))

    def _tuple1(self, _) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    def _tuple2(self, _) -> None:
        self._stack[-2:] = [(self._stack[-2], self._stack[-1])]

    def _tuple3(self, _) -> None:
        self._stack[-3:] = [(self._stack[-3], self._stack[-2], self._stack[-1])]

    def _append(self, _) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _) -> None:
        self._extend(self._items())

    def _setitem(self, _) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self, _) -> None:
        self._update(self._items())

    def _additems(self, _) -> None:
        items = self._items()
        if type(self._stack[-1]) is set:
            self._stack[-1].update(map(self._key, items))
        elif type(self._stack[-1]) is not Placeholder:
            raise ValueError("items for something that is no set")

    def _memoize(self, _) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, index: int) -> None:
        if not 0 <= index <= len(self._memo) + 1:  # writers count up, some from 1
            raise ValueError(f"entry {index} of a memo of {len(self._memo)}")
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"no entry {index} in a memo of {len(self._memo)}")
        self._stack.append(self._memo[index])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _global(self, names: str) -> None:
        self._stack.append(self._find(*names.split(" ", 1)))

    def _stack_global(self, _) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._find(module, name))

    def _find(self, module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        python2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocols 0 to 2 say
        return self.find(python2.get(module, module), name)

    def _reduce(self, _) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self.call(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _) -> None:
        self._stack.pop()  # keywords: no stand-in takes any
        self._reduce(None)

    def _build(self, _) -> None:
        state = self._stack.pop()
        self.build(self._stack[-1], state)

    def _binpersid(self, _) -> None:
        self._stack.append(self.persistent(self._stack.pop()))


_STAND_INS = {  # None: may be named but not called
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): Reader._new_dtype,
    ("numpy.core.multiarray", "_reconstruct"): Reader._new_array,
    ("numpy._core.multiarray", "_reconstruct"): Reader._new_array,
    ("numpy.core.multiarray", "scalar"): Reader._scalar,
    ("numpy._core.multiarray", "scalar"): Reader._scalar,
    ("numpy.core.numeric", "_frombuffer"): Reader._array_of_buffer,
    ("numpy._core.numeric", "_frombuffer"): Reader._array_of_buffer,
    ("_codecs", "encode"): Reader._bytes_of_text,
    ("collections", "OrderedDict"): Reader._ordered_dict,
    ("collections", "defaultdict"): Reader._default_dict,
    ("builtins", "bytes"): Reader._no_bytes,
    ("builtins", "set"): Reader._set,
    ("builtins", "int"): None,
    ("builtins", "long"): None,  # int of Python 2, which protocols 0 to 2 are written for
    ("builtins", "list"): None,
    ("builtins", "object"): None,
    ("copyreg", "_reconstructor"): Reader._new_object,
}


class _Source:
    """A file as `pickletools` reads it, which never asks for more than is left.

    A length in a hostile file may be anything, and Python makes room for it before it reads.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        start = file.tell()
        self.left = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise EOFError("it ends too early")
        self.left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline()
        self.left -= len(line)
        return line


def _finish_dtype(dtype: np.dtype, version: Any, order: Any, *rest: Any) -> None:
    """Set the byte order, which is all that the state of a simple dtype tells."""
    if order not in ("<", ">", "|", "=") or len(rest) != 6 or rest[:3] != (None, None, None):
        raise ValueError("arrays of records")
    layout = dtype.itemsize, dtype.alignment, dtype.flags
    dtype.__setstate__((3, order, None, None, None, *layout))


def _check_plain(value: Any, path: str | os.PathLike) -> None:
    """Refuse what is nested too deep, or in itself, to be walked, and names among the values."""
    level = [value]
    for _ in range(_DEEPEST):
        inner = {}
        for thing in level:
            for item in _children(thing):
                if type(item) not in _SCALARS:
                    inner[id(item)] = item
        level = inner.values()
        if not level:
            return
    raise CaptioningError(
        f"{path} holds containers nested deeper than {_DEEPEST} levels, or inside themselves; "
        "do not trust it and get the file elsewhere"
    )


def _children(thing: Any) -> Iterator[Any]:
    if isinstance(thing, dict):
        yield from thing.values()
        yield from thing
    elif isinstance(thing, (list, tuple, set)):
        yield from thing
    elif type(thing) is TokenizerState:
        yield thing.state
    elif isinstance(thing, Name):
        raise ValueError(f"{thing} as a value")
