"""Write the checkpoints in this folder, and beside them the arrays that they hold, as .npz.

    python tests/stored/make.py

takes PyTorch; those here are by 2.13. The tests read them without it, and where it is installed
write and read the same again.
"""

import argparse
import collections
import os
import pathlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
FORMATS = {"zip": True, "stream": False}  # the stream is that of PyTorch before 1.6


class Callback:
    """Stands for a class that the reader must not import."""

    def __init__(self):
        self.best = Path("best.ckpt")

    def __setstate__(self, state):
        raise AssertionError("a class of the checkpoint was used")


class Settings(dict):
    """As Lightning's AttributeDict."""


def _dtypes(torch) -> tuple[Any, dict]:
    numbers = torch.randn(3, 4) * 50
    names = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64"]
    names += ["uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]
    tensors = {name: numbers.abs().to(getattr(torch, name)) for name in names}
    tensors["special"] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-42])
    tensors["special bfloat16"] = tensors["special"].bfloat16()
    return tensors, tensors


def _views(torch) -> tuple[Any, dict]:
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
    return tensors, tensors


def _lightning(torch) -> tuple[Any, dict]:
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
    tensors = network.state_dict()
    value = {
        "epoch": 3,
        "pytorch-lightning_version": "0.7.6",
        "state_dict": tensors,
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
    return value, tensors


def _parameters(torch) -> tuple[Any, dict]:
    plain, marked = (torch.nn.Parameter(torch.randn(2, 3)) for _ in range(2))
    marked.note = "a parameter with an attribute"
    tensors = {"module.conv1.weight": plain, "marked": marked, "buffer": torch.ones(1)}
    return {"model": tensors, "epoch": 1}, tensors


def _top_level(torch) -> tuple[Any, dict]:
    tensors = {"conv1.weight": torch.randn(2, 3), "bn1.num_batches_tracked": torch.tensor(7)}
    return tensors | {"epoch": 1}, tensors


def _student_and_teacher(torch) -> tuple[Any, dict]:
    networks = {name: torch.nn.Linear(3, 2).state_dict() for name in ("student", "teacher")}
    networks["teacher"]["weight"] = networks["student"]["weight"]  # one storage
    value = networks | {
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
        "settings": {"epochs": 3},
        "loss": {"center": torch.zeros(1, 2)},
    }
    flat = {f"{name}.{key}": t for name, state in networks.items() for key, t in state.items()}
    return value, flat | {"loss.center": value["loss"]["center"]}


REFUSED = {  # tensors that are not dense, of a type numpy lacks, or not stored as they are seen
    "sparse": lambda torch: torch.ones(2, 2).to_sparse(),
    "quantized": lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "float8": lambda torch: torch.ones(2).to(torch.float8_e4m3fn),
    "conjugated": lambda torch: torch.ones(2, dtype=torch.complex64).conj(),
}
EXAMPLES = {
    "dtypes": _dtypes,
    "views": _views,
    "lightning": _lightning,
    "parameters": _parameters,
    "top-level": _top_level,
    "student-and-teacher": _student_and_teacher,
}


def checkpoint(name: str, kind: str, folder: Path = FOLDER) -> Path:
    """The path of an example; `kind` is one of `FORMATS`."""
    return folder / f"{name}.{kind}.pth"


def arrays(name: str, folder: Path = FOLDER) -> Mapping[str, np.ndarray]:
    """What is to be read from an example, bfloat16 as float32."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def write(folder: Path) -> None:
    """Write all examples, and the arrays of those that are not to be refused."""
    import torch

    for name, make in (EXAMPLES | REFUSED).items():
        torch.manual_seed(0)
        if name in EXAMPLES:
            value, tensors = make(torch)
            expected = {key: _array(tensor.detach(), torch) for key, tensor in tensors.items()}
            np.savez_compressed(folder / f"{name}.npz", **expected)
        else:
            value = {"a": make(torch), "b": torch.ones(1)}
        for kind, zipped in FORMATS.items():
            path = checkpoint(name, kind, folder)
            torch.save(value, path, _use_new_zipfile_serialization=zipped)


def _array(tensor, torch) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


if __name__ == "__main__":
    write(FOLDER)
