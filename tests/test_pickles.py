import codecs
import contextlib
import os
import pickle
import pickletools
import re
import struct
import sys
import tempfile
import tracemalloc
from collections import OrderedDict, defaultdict
from pathlib import Path

import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning import pickles
from captioning.errors import CaptioningError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 200))
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
TOKENIZER_MODULES = [
    "keras_preprocessing.text",
    "keras.preprocessing.text",
    "keras.src.preprocessing.text",
    "tf_keras.src.preprocessing.text",
    "keras.src.legacy.preprocessing.text",
    "tensorflow.python.keras.preprocessing.text",
    "captioning.tokenizer",
]
ALARMING = re.compile(
    r"os\.(system|exec|posix_spawn|fork)|subprocess|exec|compile|socket|ctypes|pickle"
)
WIDE = [f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-be", "-le")]  # json's guesses
for codec in ("cp437", "raw_unicode_escape", "utf-8-sig", *WIDE):
    codecs.lookup(codec)  # loaded at first use, which looks like a run
_events: list[str] | None = None


def _listen(event: str, _) -> None:
    if _events is not None and ALARMING.match(event):
        _events.append(event)


sys.addaudithook(_listen)


@contextlib.contextmanager
def nothing_runs():
    """Fail when Python's own audit sees anything run, compiled or looked up for a pickle."""
    global _events
    _events = []
    try:
        yield
    finally:
        events, _events = _events, None
        assert events == []


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def assert_same(ours, plain):
    """Equal in value, type and, for arrays, layout."""
    assert type(ours) is type(plain)
    if isinstance(plain, dict):
        assert list(ours) == list(plain)
        for key in plain:
            assert_same(ours[key], plain[key])
        assert getattr(ours, "default_factory", None) is getattr(plain, "default_factory", None)
    elif isinstance(plain, (list, tuple)):
        assert len(ours) == len(plain)
        for a, b in zip(ours, plain, strict=True):
            assert_same(a, b)
    elif isinstance(plain, np.ndarray):
        assert (ours.dtype, ours.dtype.byteorder) == (plain.dtype, plain.dtype.byteorder)
        assert (ours.shape, ours.tobytes()) == (plain.shape, plain.tobytes())
        assert ours.flags.f_contiguous == plain.flags.f_contiguous
    else:
        assert repr(ours) == repr(plain)


def assert_one_sentence(message: str, path: Path) -> None:
    assert str(path) in message
    rest = message.replace(str(path), "FILE")
    assert rest.isprintable()
    assert ". " not in rest
    assert not rest.endswith(".")
    assert 40 < len(rest) < 400, rest


ARRAYS = {
    **{f"{code}": np.arange(12).reshape(3, 4).astype(code) for code in "bBhHiIlLqQefdFD?g"},
    **{f"{code} big-endian": np.arange(6, dtype=code) for code in (">i2", ">u8", ">f4", ">c16")},
    "Fortran": np.asfortranarray(np.random.default_rng(0).random((3, 4, 5))),
    "transposed": np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
    "every other": np.arange(24).reshape(4, 6)[::2, ::-1],
    "empty": np.zeros((0, 3), "f4"),
    "no dimensions": np.array(2.5),
    "text": np.array([["a", "bücher"], ["", "日本"]]),
    "big-endian text": np.array(["a", "日本"]).astype(">U2"),
    "byte strings": np.array([b"a", b"xyz"]),
    "features": np.random.default_rng(0).random((1, 2048), dtype="f4"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ARRAYS)
def test_reads_arrays_as_pickle_does(tmp_path, kind, protocol):
    data = pickle.dumps({"a": ARRAYS[kind], "again": [ARRAYS[kind]]}, protocol)
    ours = pickles.load(write(tmp_path / "a.pkl", data))
    assert_same(ours, pickle.loads(data))
    assert ours["a"] is ours["again"][0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        OrderedDict([("b", 1), ("a", OrderedDict())]),
        defaultdict(int, a=1),
        defaultdict(list, a=[2]),
        defaultdict(None, a=1),
        {1, 2, 3},
        {"set": {"a"}, "bytes": b"\0\xff\n", "none": b""},
        [np.float32(1.5), np.int64(-3), np.bool_(True), np.float64("nan"), np.str_("é")],
        [np.dtype("f4"), np.dtype(">i8"), np.dtype("U7"), np.dtype("S2")],
        [2**31, -(2**31), 2**64, -(2**2000), 255, 256, 65536],
        [0.1, float("inf"), -0.0, True, False, None],
        (("a", (), ("b",)), ("c", "d", "e", "f")),
        {("a", 1): 2, 3: 4, b"x": 5, None: 6, np.int64(7): 8},
        "\ud800 lone surrogate \0 \u2028",
        ["x" * 300, b"x" * 300, bytes(70_000)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_reads_plain_values_as_pickle_does(tmp_path, value, protocol):
    data = pickle.dumps(value, protocol)
    assert_same(pickles.load(write(tmp_path / "a.pkl", data)), pickle.loads(data))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=300), st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.binary()), inner),
    ),
    max_leaves=20,
)


@pytest.mark.fuzz
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
@settings(max_examples=EXAMPLES, deadline=None)
def test_reads_any_plain_value_as_pickle_does(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    data = pickle.dumps(value, protocol)
    assert_same(pickles.load(write(path, data)), pickle.loads(data))


def named_by_numpy_1(data: bytes) -> bytes:
    """A small pickle as numpy 1 would have written it."""
    shorter = len(data)
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy.core." + module, b"numpy._core." + module
        data = data.replace(bytes([0x8C, len(old)]) + old, bytes([0x8C, len(new)]) + new)
        data = data.replace(b"c" + old, b"c" + new)
    assert b"numpy._core" not in data
    shorter -= len(data)
    if data[2:3] == pickle.FRAME:
        length = struct.unpack("<Q", data[3:11])[0] - shorter
        data = data[:3] + struct.pack("<Q", length) + data[11:]
    return data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reads_what_numpy_1_wrote(tmp_path, protocol):
    value = {"a": np.arange(6, dtype="f4").reshape(1, 6), "b": np.float32(2)}
    data = named_by_numpy_1(pickle.dumps(value, protocol))
    assert_same(pickles.load(write(tmp_path / "a.pkl", data)), value)


def test_reads_an_array_and_a_string_of_python_2(tmp_path):
    # What Python 2.7's `pickle.dump({'a': numpy.array([1, 2], '<i4')}, file, 2)` writes: native
    # strings, as SHORT_BINSTRING.
    data = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08\x01\x00\x00\x00\x02\x00\x00\x00tbs."
    )
    value = pickles.load(write(tmp_path / "a.pkl", data))
    assert_same(value, pickle.loads(data, encoding="latin1"))
    assert value["a"].tolist() == [1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("module", TOKENIZER_MODULES)
def test_reads_a_tokenizer_of_the_time_as_its_state(tmp_path, module, protocol):
    text = pytest.importorskip(
        "keras_preprocessing.text", reason="keras-preprocessing==1.1.2 is not installed"
    )
    tokenizer = text.Tokenizer(oov_token="<unk>")
    tokenizer.fit_on_texts(["startseq a dog endseq", "startseq the dog runs endseq"])
    data = renamed(tokenizer, text.Tokenizer, module, protocol)
    read = pickles.load(write(tmp_path / "tokenizer.pkl", data))
    assert isinstance(read, pickles.TokenizerState)
    assert (read.module, read.name) == (module, "Tokenizer")
    assert_same(read.state, vars(tokenizer))


def renamed(value, kind: type, module: str, protocol: int) -> bytes:
    """Pickle `value` as if its class lived in `module`."""
    stand_in = type(kind.__name__, (), {"__module__": module})
    stand_in.__reduce_ex__ = kind.__reduce_ex__
    value.__class__ = stand_in
    pretended = dict(sys.modules)
    try:
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            sys.modules[".".join(parts[:i])] = type(sys)(".".join(parts[:i]))
        setattr(sys.modules[module], kind.__name__, stand_in)
        return pickle.dumps(value, protocol)
    finally:
        sys.modules.clear()
        sys.modules.update(pretended)
        value.__class__ = kind


def test_our_tokenizer_comes_back_as_its_state(tmp_path):
    from captioning.tokenizer import Tokenizer

    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["startseq a dog endseq"])
    pickles.dump(tmp_path / "tokenizer.pkl", tokenizer)
    read = pickles.load(tmp_path / "tokenizer.pkl")
    assert (read.module, read.name) == ("captioning.tokenizer", "Tokenizer")
    assert_same(read.state, vars(tokenizer))


def features(count: int) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0)
    return {f"image{i}": numbers.random((1, 2048), dtype="f4") for i in range(count)}


def test_dump_is_read_by_plain_pickle(tmp_path):
    value = features(3) | {"more": [np.arange(3), OrderedDict(a=defaultdict(int))]}
    pickles.dump(tmp_path / "a.pkl", value)
    with open(tmp_path / "a.pkl", "rb") as file:
        assert_same(pickle.load(file), value)
    assert_same(pickles.load(tmp_path / "a.pkl"), value)
    opcodes = pickletools.genops((tmp_path / "a.pkl").read_bytes())
    assert max(opcode.proto for opcode, _, _ in opcodes) == 4


def test_dump_that_fails_leaves_the_old_file(tmp_path):
    pickles.dump(tmp_path / "a.pkl", 1)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickles.dump(tmp_path / "a.pkl", [features(1), lambda: None])
    assert pickles.load(tmp_path / "a.pkl") == 1
    assert os.listdir(tmp_path) == ["a.pkl"]


def peak_memory(function, *arguments) -> int:
    """Bytes that a call holds at most beyond what was there before."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_features_cost_their_own_size(tmp_path):
    value, path = features(1000), tmp_path / "features.pkl"
    assert peak_memory(pickles.dump, path, value) < 1_000_000
    assert peak_memory(pickles.load, path) < 1.5 * path.stat().st_size
    write(path, pickle.dumps(value, 4))
    assert peak_memory(pickles.load, path) < 1.5 * path.stat().st_size


def test_the_hostile_files_are_hostile(tmp_path):
    sentinel = tmp_path / "sentinel"
    pickle.loads(hostile.running(sentinel)["os.system protocol 4"])
    assert sentinel.exists()


SENTINEL = Path(tempfile.gettempdir(), f"sentinel-{os.getpid()}")
HOSTILE = hostile.running(SENTINEL) | hostile.malformed()


@pytest.mark.parametrize("kind", HOSTILE)
def test_refuses_in_one_sentence(tmp_path, kind):
    path = write(tmp_path / "hostile.pkl", HOSTILE[kind])
    modules = set(sys.modules)

    def load():
        with pytest.raises(CaptioningError) as caught, nothing_runs():
            pickles.load(path)
        assert_one_sentence(str(caught.value), path)
        if kind.startswith(("memo bomb", "stack bomb", "copies")):
            assert "than its size explains" in str(caught.value)

    assert peak_memory(load) < 25e6 + 30 * len(HOSTILE[kind])
    assert not SENTINEL.exists()
    assert "this" not in set(sys.modules) - modules


def test_refusal_names_what_the_file_asks_for(tmp_path):
    path = write(tmp_path / "features.pkl", hostile.running(tmp_path / "x")["os.system protocol 4"])
    with pytest.raises(CaptioningError, match=r"asks for posix\.system, which .* do not trust it"):
        pickles.load(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refuses_every_truncation(tmp_path, protocol):
    value = {"a": np.arange(3), "b": [1.5, "text", b"bytes", None], "c": OrderedDict(d=2**70)}
    data = pickle.dumps(value, protocol)
    for end in range(len(data)):
        with pytest.raises(CaptioningError):
            pickles.load(write(tmp_path / "a.pkl", data[:end]))


def test_a_missing_file_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        pickles.load(tmp_path / "a.pkl")


def test_runs_no_instruction_that_only_others_need():
    known = {f"_{opcode.name.lower()}" for opcode in pickletools.opcodes}
    run = {name for name in dir(pickles.Reader) if name in known}
    refused = known - run - {f"_{name.lower()}" for name in pickles._LITERALS}
    assert refused == {
        *("_inst", "_obj", "_persid", "_ext1", "_ext2", "_ext4"),
        *("_next_buffer", "_readonly_buffer", "_frozenset", "_dup", "_pop", "_pop_mark"),
    }


def seeds() -> list[bytes]:
    """Small honest and hostile files to mutate."""
    value = {
        "array": np.arange(4, dtype=">f4").reshape(2, 2),
        "text": np.array(["ab"]),
        "scalar": np.float32(1),
        "tokens": OrderedDict([("a", 1), ("b", defaultdict(int, {"x": 2}))]),
        "list": [1, 2.5, None, True, b"x", "é", {3}, (1, 2, 3, 4), 2**70],
    }
    files = [pickle.dumps(value, protocol) for protocol in PROTOCOLS]
    small = [data for data in hostile.malformed().values() if len(data) < 1000]
    return files + small + list(hostile.running(Path("sentinel-of-the-fuzz")).values())[:40]


SEEDS = seeds()


@st.composite
def mutated(draw, files=SEEDS):
    """An honest file with a few bytes changed, inserted, removed or repeated."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        new = draw(st.one_of(st.binary(max_size=8), st.just(bytes(data[start:end]) * 2)))
        data[start:end] = new
    return bytes(data)


@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")
@pytest.mark.fuzz
@given(data=mutated())
@settings(max_examples=3 * EXAMPLES, deadline=None)
def test_any_bytes_are_a_value_or_a_sentence(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.pkl", data)
    try:
        with nothing_runs():
            pickles.load(path)
    except CaptioningError as error:
        assert_one_sentence(str(error), path)
    assert not Path("sentinel-of-the-fuzz").exists()
