import argparse
import collections
import os
import pathlib
import pickle
from pathlib import Path

import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pickles import (
    EXAMPLES,
    assert_one_sentence,
    mutated,
    nothing_runs,
    peak_memory,
    write,
)

from captioning import checkpoints
from captioning.errors import CaptioningError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture(scope="module")
def tensorflow():
    return pytest.importorskip("tensorflow")


def saved(torch, folder: Path, value, zipped: bool) -> Path:
    path = folder / "checkpoint.ckpt"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_equal(arrays, tensors, torch):
    """Same names, shapes, types and bits as PyTorch has."""
    assert list(arrays) == list(tensors)
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        expected = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape), name
        assert arrays[name].tobytes() == expected.tobytes(), name


@FORMATS
def test_every_dtype(torch, tmp_path, zipped):
    numbers = torch.randn(3, 4) * 50
    names = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64"]
    names += ["uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]
    tensors = {name: numbers.abs().to(getattr(torch, name)) for name in names}
    tensors["special"] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-42])
    tensors["special bfloat16"] = tensors["special"].bfloat16()
    assert_equal(checkpoints.read_torch(saved(torch, tmp_path, tensors, zipped)), tensors, torch)


@FORMATS
def test_views_of_every_kind(torch, tmp_path, zipped):
    base = torch.arange(120.0).reshape(4, 5, 6)
    tensors = {
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:3, ::2, 1:],
        "column": base[:, 2, 3],
        "expanded": torch.ones(3, 1).expand(3, 5),
        "scalar": torch.tensor(2.5),
        "element": base[3, 4, 5],
        "empty": torch.zeros(0, 7),
        "empty at the end": base[4:],
        "shared": base,
        "flat": base.view(-1),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bfloat16": torch.randn(6, 6).bfloat16().T[1:],
    }
    arrays = checkpoints.read_torch(saved(torch, tmp_path, tensors, zipped))
    assert_equal(arrays, tensors, torch)
    assert np.shares_memory(arrays["shared"], arrays["flat"])
    assert not any(array.flags.writeable for array in arrays.values() if array.dtype != "f4")


class Callback:
    """Stands for a class that the reader must not import."""

    def __init__(self):
        self.best = Path("best.ckpt")

    def __setstate__(self, state):
        raise AssertionError("a class of the checkpoint was used")


class Settings(dict):
    """As Lightning's AttributeDict."""


@FORMATS
def test_a_checkpoint_as_lightning_writes_it(torch, tmp_path, zipped):
    network = torch.nn.Sequential(
        collections.OrderedDict(
            encoder=torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)),
            projection=torch.nn.Linear(8, 4),
        )
    )
    network.projection.weight.note = "a parameter with an attribute"
    optimizer = torch.optim.Adam(network.parameters())
    network.projection(network.encoder(torch.randn(2, 3, 9, 9)).mean((2, 3))).sum().backward()
    optimizer.step()
    value = {
        "epoch": 3,
        "pytorch-lightning_version": "0.7.6",
        "state_dict": network.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [0.1], "_get_lr": np.float64(2)}],
        "callbacks": {Callback: {"best": torch.tensor(1.0), "path": pathlib.PurePosixPath("/a")}},
        "hparams": argparse.Namespace(lr=0.1, data=Path("/data"), nested=argparse.Namespace(a=1)),
        "hyper_parameters": Settings(a=1, b={2, 3}, c=collections.Counter("abc")),
        "objects": [Callback(), collections.deque([1]), torch.device("cpu"), torch.Size([1, 2])],
        "function": os.path.join,
        "random": [np.random.RandomState(0).get_state(), torch.get_rng_state()],
        "dtype": torch.float16,
        "arrays": np.array([Callback], dtype=object),
    }
    path = saved(torch, tmp_path, value, zipped)
    with nothing_runs():
        arrays = checkpoints.read_torch(path)
    assert "encoder.1.num_batches_tracked" in arrays
    assert_equal(arrays, network.state_dict(), torch)


@FORMATS
@pytest.mark.parametrize("where", ["state_dict", "model", None])
def test_where_tensors_are_found(torch, tmp_path, where, zipped):
    tensors = {"module.conv1.weight": torch.nn.Parameter(torch.randn(2, 3)), "b": torch.ones(1)}
    value = {where: tensors, "epoch": 1} if where else tensors | {"epoch": 1}
    path = saved(torch, tmp_path, value, zipped)
    assert_equal(checkpoints.read_torch(path), tensors, torch)
    framework, arrays = checkpoints.read(path)
    assert framework == "torch"
    assert_equal(arrays, tensors, torch)


def test_only_what_is_asked_for_is_read(torch, tmp_path):
    value = {"state_dict": {"a": torch.ones(1000)}, "optimizer": torch.ones(3_000_000)}
    path = saved(torch, tmp_path, value, True)
    assert peak_memory(checkpoints.read_torch, path) < 1_000_000


def test_memory_is_that_of_the_tensors(torch, tmp_path):
    value = {str(i): torch.ones(100_000) for i in range(20)}
    for zipped in (True, False):
        path = saved(torch, tmp_path, value, zipped)
        assert peak_memory(checkpoints.read_torch, path) < 1.2 * path.stat().st_size


@FORMATS
@pytest.mark.parametrize(
    "make",
    [
        lambda torch: torch.ones(2, 2).to_sparse(),
        lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda torch: torch.ones(2).to(torch.float8_e4m3fn),
        lambda torch: torch.ones(2, dtype=torch.complex64).conj(),
    ],
    ids=["sparse", "quantized", "float8", "conjugated"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_rare_kinds_are_refused(torch, tmp_path, make, zipped):
    path = saved(torch, tmp_path, {"a": make(torch), "b": torch.ones(1)}, zipped)
    with pytest.raises(CaptioningError) as caught:
        checkpoints.read_torch(path)
    assert_one_sentence(str(caught.value), path)


@FORMATS
def test_the_hand_made_checkpoint_is_one(torch, tmp_path, zipped):
    """Shows that the hostile files below are refused for what is wrong with them alone."""
    pickled = hostile.state_dict(a=hostile.tensor())
    data = hostile.archive(pickled) if zipped else hostile.stream(pickled)
    path = write(tmp_path / "a.pth", data)
    expected = torch.load(path, weights_only=True)["state_dict"]
    assert_equal(checkpoints.read_torch(path), expected, torch)


CHECKPOINTS = hostile.checkpoints()


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_hostile_checkpoints_are_refused_in_one_sentence(tmp_path, kind):
    path = write(tmp_path / "hostile.pth", CHECKPOINTS[kind])

    def load():
        with pytest.raises(CaptioningError) as caught, nothing_runs():
            checkpoints.read_torch(path)
        assert_one_sentence(str(caught.value), path)

    assert peak_memory(load) < 25e6 + 30 * len(CHECKPOINTS[kind])


@pytest.mark.parametrize("kind", hostile.running(Path("sentinel")))
@FORMATS
def test_nothing_in_a_checkpoint_runs(tmp_path, kind, zipped):
    sentinel = tmp_path / "sentinel"
    pickled = hostile.running(sentinel)[kind]
    data = hostile.archive(pickled) if zipped else hostile.stream(pickled)
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


@given(value=st.dictionaries(st.text(), st.integers(0, 5), min_size=1), zipped=st.booleans())
@settings(max_examples=50, deadline=None)
def test_names_are_unchanged(torch, tmp_path_factory, value, zipped):
    tensors = {name: torch.arange(float(count)) for name, count in value.items()}
    path = saved(torch, tmp_path_factory.getbasetemp(), tensors, zipped)
    assert_equal(checkpoints.read_torch(path), tensors, torch)


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
        "import sys; from captioning import checkpoints; "
        f"assert list(checkpoints.read_torch({str(path)!r})) == ['a']; "
        "assert not {'torch', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
