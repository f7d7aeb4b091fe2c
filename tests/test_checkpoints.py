import os
import pickle
from pathlib import Path

import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import make
from test_pickles import (
    EXAMPLES,
    assert_one_sentence,
    mutated,
    nothing_runs,
    peak_memory,
    write,
)

from captioning.formats import checkpoints
from captioning.runtime.errors import CaptioningError

FORMATS = pytest.mark.parametrize("kind", make.FORMATS)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture(scope="module")
def tensorflow():
    return pytest.importorskip("tensorflow")


def assert_equal(arrays, expected):
    """Same names in the same order, shapes, types and bits."""
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape), name
        assert arrays[name].tobytes() == array.tobytes(), name


def arrays_of(tensors) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def assert_read(path: Path, expected) -> None:
    with nothing_runs():
        framework, arrays = checkpoints.read(path)
    assert framework == "torch"
    assert_equal(arrays, expected)


def assert_refused(path: Path) -> None:
    with pytest.raises(CaptioningError, match="only dense tensors of common types") as caught:
        checkpoints.read_torch(path)
    assert_one_sentence(str(caught.value), path)


@FORMATS
@pytest.mark.parametrize("name", make.EXAMPLES)
def test_tensors_are_those_of_pytorch(name, kind):
    """Every dtype, views of every kind, and the places where repositories put a state_dict."""
    assert_read(make.checkpoint(name, kind), make.arrays(name))


@FORMATS
@pytest.mark.parametrize("name", make.REFUSED)
def test_tensors_of_rare_kinds_are_refused(name, kind):
    assert_refused(make.checkpoint(name, kind))


@pytest.mark.filterwarnings("ignore")
def test_what_the_installed_pytorch_writes_is_read_alike(torch, tmp_path):
    make.write(tmp_path)
    for kind in make.FORMATS:
        for name in make.EXAMPLES:
            assert_read(make.checkpoint(name, kind, tmp_path), make.arrays(name, tmp_path))
        for name in make.REFUSED:
            assert_refused(make.checkpoint(name, kind, tmp_path))


@FORMATS
def test_views_share_memory_and_cannot_be_written_to(kind):
    arrays = checkpoints.read_torch(make.checkpoint("views", kind))
    assert np.shares_memory(arrays["shared"], arrays["flat"])
    assert not any(array.flags.writeable for array in arrays.values() if array.dtype != "f4")


def test_stored_checkpoints_are_small():
    files = [path for path in make.FOLDER.iterdir() if path.suffix in (".pth", ".npz")]
    assert len(files) == 3 * len(make.EXAMPLES) + 2 * len(make.REFUSED)
    assert max(path.stat().st_size for path in files) < 30_000


def test_dictionaries_in_dictionaries_take_no_more_room_than_the_file(tmp_path):
    """One dictionary under many names is read once, one under a long name not at all."""
    many = b"".join(hostile.push(f"x{i}") + b"h\x01" for i in range(5000))
    inner = b"}(" + b"".join(hostile.push(f"y{i}") + b"h\x00" for i in range(5000)) + b"uq\x01"
    pickled = b"\x80\x02}(" + hostile.push("z") + hostile.tensor() + b"q\x00"
    pickled += hostile.push("x") + inner + many + b"u."
    path = write(tmp_path / "a.pth", hostile.archive(pickled))
    arrays = checkpoints.read_torch(path)
    assert list(arrays) == ["z", *(f"x.y{i}" for i in range(5000))]
    long = hostile.push("x" * 1000) + b"}(" + hostile.push("a") + hostile.tensor() + b"u"
    pickled = b"\x80\x02}(" + hostile.push("z") + hostile.tensor() + long + b"u."
    path = write(tmp_path / "b.pth", hostile.archive(pickled))
    assert list(checkpoints.read_torch(path)) == ["z"]


def test_a_dictionary_that_holds_itself(tmp_path):
    pickled = b"\x80\x02}q\x00(" + hostile.push("x") + b"h\x00"
    pickled += hostile.push("z") + hostile.tensor() + b"u."
    path = write(tmp_path / "a.pth", hostile.archive(pickled))
    assert list(checkpoints.read_torch(path)) == ["z"]


def test_only_what_is_asked_for_is_read(tmp_path):
    value = {"state_dict": {"a": np.ones(1000, "f4")}, "optimizer": np.ones(3_000_000, "f4")}
    path = write(tmp_path / "a.ckpt", hostile.torch_file(value))
    assert peak_memory(checkpoints.read_torch, path) < 1_000_000


@FORMATS
def test_memory_is_that_of_the_tensors(kind, tmp_path):
    value = {str(i): np.ones(100_000, "f4") for i in range(20)}
    path = write(tmp_path / "a.ckpt", hostile.torch_file(value, make.FORMATS[kind]))
    assert peak_memory(checkpoints.read_torch, path) < 1.2 * path.stat().st_size


def test_hand_made_checkpoints_are_such(torch, tmp_path):
    """Shows that hostile files are refused for what is wrong with them alone."""
    pickled = hostile.state_dict(a=hostile.tensor())
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64(7), "c": np.ones((2, 0), "f2")}
    value = {"state_dict": arrays, "epoch": 3}
    for data in (
        hostile.archive(pickled),
        hostile.stream(pickled),
        hostile.torch_file(value),
        hostile.torch_file(value, zipped=False),
    ):
        path = write(tmp_path / "a.pth", data)
        expected = torch.load(path, weights_only=True)["state_dict"]
        assert_equal(checkpoints.read_torch(path), arrays_of(expected))
    assert_equal(arrays_of(expected), {name: np.asarray(array) for name, array in arrays.items()})


CHECKPOINTS = hostile.checkpoints()


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_hostile_checkpoints_are_refused_in_one_sentence(tmp_path, kind):
    path = write(tmp_path / "hostile.pth", CHECKPOINTS[kind])

    def load():
        with pytest.raises(CaptioningError) as caught, nothing_runs():
            checkpoints.read_torch(path)
        assert_one_sentence(str(caught.value), path)

    assert peak_memory(load) < 25e6 + 30 * len(CHECKPOINTS[kind])


@pytest.mark.parametrize("what", hostile.running(Path("sentinel")))
@FORMATS
def test_nothing_in_a_checkpoint_runs(tmp_path, what, kind):
    sentinel = tmp_path / "sentinel"
    pickled = hostile.running(sentinel)[what]
    data = hostile.archive(pickled) if make.FORMATS[kind] else hostile.stream(pickled)
    path = write(tmp_path / "a.pth", data)
    with nothing_runs(), pytest.raises(CaptioningError) as caught:
        checkpoints.read_torch(path)
    assert_one_sentence(str(caught.value), path)
    assert not sentinel.exists()


def test_what_would_run_is_inert_beside_the_tensors(tmp_path):
    sentinel = tmp_path / "sentinel"
    evil = pickle.dumps(hostile.Calls(os.system, f"touch {sentinel}"), 2)[2:-1]
    pickled = hostile.state_dict(a=hostile.tensor(), b=evil)
    with nothing_runs():
        arrays = checkpoints.read_torch(write(tmp_path / "a.pth", hostile.archive(pickled)))
    assert list(arrays) == ["a"]
    assert not sentinel.exists()


def torch_seeds() -> list[bytes]:
    pickled = hostile.state_dict(a=hostile.tensor(), b=hostile.tensor((1,), (1,), 1))
    files = [hostile.archive(pickled), hostile.stream(pickled), hostile.stream(pickled)]
    return files + [data for data in CHECKPOINTS.values() if len(data) < 2000][:20]


@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")
@pytest.mark.fuzz
@given(data=mutated(torch_seeds()))
@settings(max_examples=2 * EXAMPLES, deadline=None)
def test_any_bytes_are_tensors_or_a_sentence(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.pth", data)
    try:
        with nothing_runs():
            arrays = checkpoints.read_torch(path)
    except CaptioningError as error:
        assert_one_sentence(str(error), path)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= 10 * len(data)


@given(value=st.dictionaries(st.text(), st.integers(0, 5), min_size=1))
@settings(max_examples=50, deadline=None)
def test_names_are_unchanged(tmp_path_factory, value):
    arrays = {name: np.arange(count, dtype="f4") for name, count in value.items()}
    path = write(tmp_path_factory.getbasetemp() / "a.ckpt", hostile.torch_file(arrays))
    assert_equal(checkpoints.read_torch(path), arrays)


# TensorFlow


def save_variables(tensorflow, prefix: Path, **tensors) -> Path:
    """Write a checkpoint with variables of these very names."""
    tensorflow.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tensorflow.constant(tensor) for tensor in tensors.values()],
    )
    return prefix


@pytest.fixture
def google(tensorflow, tmp_path):
    """Variables named as SimCLR's, and the prefix of their checkpoint."""
    numbers = np.random.default_rng(0)
    tensors = {
        "base_model/conv2d/kernel": numbers.random((7, 7, 3, 8), dtype="f4"),
        "base_model/batch_normalization/moving_mean": numbers.random(8, dtype="f4"),
        "base_model/batch_normalization/gamma/Momentum": numbers.random(8),
        "global_step": np.int64(5),
    }
    folder = tmp_path / "run"
    folder.mkdir()
    return save_variables(tensorflow, folder / "model.ckpt-5", **tensors), tensors


@pytest.mark.parametrize("name", ["run/model.ckpt-5", "run/model.ckpt-5.index", "run"])
def test_tensorflow_variables_under_their_names(tmp_path, google, name):
    _, tensors = google
    framework, arrays = checkpoints.read(tmp_path / name)
    assert framework == "tensorflow"
    assert arrays.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert arrays[key].dtype == tensor.dtype
        np.testing.assert_array_equal(arrays[key], tensor)


def test_tensorflow_object_checkpoint(tensorflow, tmp_path):
    numbers = np.arange(6, dtype="f4").reshape(2, 3)
    halves = tensorflow.Variable(numbers, dtype=tensorflow.bfloat16)
    objects = tensorflow.train.Checkpoint(a=tensorflow.Variable(numbers), b=halves)
    arrays = checkpoints.read_tensorflow(objects.save(tmp_path / "ckpt"))
    for name in ("a/.ATTRIBUTES/VARIABLE_VALUE", "b/.ATTRIBUTES/VARIABLE_VALUE"):
        assert arrays.pop(name).dtype == np.float32
    assert list(arrays) == ["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]  # no strings


def test_tensorflow_folder_with_several(tensorflow, tmp_path, google):
    save_variables(tensorflow, tmp_path / "run" / "other", a=np.zeros(1))
    with pytest.raises(CaptioningError, match="found 2; name"):
        checkpoints.read(tmp_path / "run")


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_damaged_tensorflow_checkpoint(google, suffix, left):
    path = Path(f"{google[0]}{suffix}")
    write(path, path.read_bytes()[: int(path.stat().st_size * left)])
    with pytest.raises(CaptioningError) as caught:
        checkpoints.read_tensorflow(google[0])
    assert_one_sentence(str(caught.value), google[0])


def test_any_tensorflow_index_is_tensors_or_a_sentence(google):
    path = Path(f"{google[0]}.index")
    whole, numbers = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(numbers.integers(1, 4)):
            data[numbers.integers(len(data))] = numbers.integers(256)
        write(path, data)
        try:
            checkpoints.read_tensorflow(google[0])
        except CaptioningError as error:
            assert_one_sentence(str(error), google[0])


def test_tensorflow_checkpoint_without_data(google):
    Path(f"{google[0]}.data-00000-of-00001").unlink()
    with pytest.raises(CaptioningError) as caught:
        checkpoints.read_tensorflow(google[0])
    assert_one_sentence(str(caught.value), google[0])


@pytest.mark.parametrize("name", ["none", "none.index"])
def test_no_tensorflow_checkpoint(tmp_path, name):
    with pytest.raises(CaptioningError, match="expected a TensorFlow checkpoint"):
        checkpoints.read_tensorflow(tmp_path / name)


def test_a_missing_file_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "missing.ckpt")


def test_torch_is_not_needed(tmp_path):
    """The module imports neither framework by itself."""
    import subprocess
    import sys

    path = write(tmp_path / "a.pth", hostile.archive(hostile.state_dict(a=hostile.tensor())))
    code = (
        "import sys; from captioning.formats import checkpoints; "
        f"assert list(checkpoints.read_torch({str(path)!r})) == ['a']; "
        "assert not {'torch', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
