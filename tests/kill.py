"""Stops every stage of the pipeline at many moments and checks what it leaves behind.

    python tests/kill.py                  # before each file operation of each stage
    python tests/kill.py --moments 2      # at two of these moments
    python tests/kill.py --scripts 20     # the numbered scripts themselves, at 20 random times

A stage runs in a forked process on a tiny dataset. At a chosen operation (a file opened for
writing, moved or removed; a folder made) the process kills itself, interrupts itself as Ctrl-C
does, or is left without room on the disk. After each, every output must be the old one or a new
and whole one; run again, resuming where there is something to resume, the stage must end with
exactly the files of a run that nothing stopped, and no others.
"""

import argparse
import collections
import csv
import hashlib
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import h5py
import numpy as np
from PIL import Image

from captioning import archives, console, encoders, extraction, stages, training

# All that a stage needs is imported once; no operation of TensorFlow may precede the forks.
for module in ("decoding", "metrics", "recipes", "contact_sheet"):
    importlib.import_module(f"captioning.{module}")

WORK, OLD = Path("work"), b"old"
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
WAYS = ("kill", "interrupt", "full disk")


class MeanColour:
    """An encoder that needs no network: how much there is of each colour."""

    size, dimension = 8, 3
    record = dict.fromkeys(("file", "sha256", "preprocessing"), None) | {"name": "mean"}

    def extract(self, pixels):
        return pixels.mean(axis=(1, 2)).astype("float32")


def describe():
    stages.describe(Path("data"), WORK, seed=0)


def extract():
    stages.extract(MeanColour(), Path("data/Images"), WORK, batch_size=1)


def tokenize():
    stages.make_tokenizer(Path("data"), WORK, seed=0)


def train():
    stages.train(
        Path("data"), WORK, 0, recipe="fast", epochs=2, batch_size=8, precision="float32",
        resume=(WORK / training.STATE).exists(),
    )  # fmt: skip


def score():
    stages.score(Path("data"), WORK, 0, "dev", None)


def caption():
    encoders.load = lambda name: MeanColour()
    return stages.caption(
        [Path("data/Images")], WORK, model=None, tokenizer_file=None, encoder_name="mean",
        output=WORK / "captions.png", as_json=False,
    )  # fmt: skip


STAGES: dict[str, Callable] = {
    "1 captions": describe,
    "1 features": extract,
    "4 tokenizer": tokenize,
    "2 training": train,
    "3 BLEU": score,
    "5 captions": caption,
}
QUICK = ("1 captions", "1 features", "4 tokenizer")  # without TensorFlow


def make_dataset(folder: Path, count: int = 20) -> None:
    """One-coloured pictures and their captions in the Kaggle layout, whose splits are drawn."""
    (folder / "Images").mkdir(parents=True)
    rows = ["image,caption"]
    for i in range(count):
        colour = ("red", "green", "blue")[i % 3]
        Image.new("RGB", (9, 9), colour).save(folder / "Images" / f"{i:02d}.png")
        rows += [f"{i:02d}.png,A {colour} square", f"{i:02d}.png,Just {colour}"]
    (folder / "captions.txt").write_text("\n".join(rows))


# What a file holds, apart from dates and durations. Raises anything for one that is not whole.


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _of_keras(path: Path) -> Any:
    with archives.opened(path, "captioner.json") as (_, record, weights):
        found = []
        weights.visititems(
            lambda _, node: found.append(node[()]) if isinstance(node, h5py.Dataset) else None
        )
        return record, _digest(found)


def _of_state(path: Path) -> Any:
    with np.load(path) as state:
        meta = json.loads(str(state["meta"]))
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in meta.pop("history")]
        return meta, rows, _digest(state[name] for name in state.files if name != "meta")


def _of_table(path: Path) -> Any:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _of_picture(path: Path) -> Any:
    with Image.open(path) as image:
        return image.size, _digest([np.asarray(image)])


READERS = {".keras": _of_keras, ".npz": _of_state, ".csv": _of_table, ".png": _of_picture}


def holdings(folder: Path) -> dict[str, Any]:
    """Name → what the file holds, of every file but unfinished ones."""
    return {path.name: _holding(path) for path in folder.iterdir() if not _is_unfinished(path)}


def _holding(path: Path) -> Any:
    data = path.read_bytes()
    return data if data == OLD else READERS.get(path.suffix, Path.read_bytes)(path)


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".") or path.name == extraction.PARTIAL


# Running a stage in a process of its own, and stopping it.


def run(stage: Callable, folder: Path, on_operation: Callable[[int], Any] | None = None):
    """Exit code (negative: a signal) and stderr of a stage run in `folder`.

    Args:
        on_operation: called with 1, 2, … before each file operation.
    """
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.chdir(folder)
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            if on_operation:
                _listen(on_operation)
            console.run(stage)
        except SystemExit as end:
            os._exit(end.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(99)
    os.close(write)
    with open(read) as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), said


def _listen(on_operation: Callable[[int], Any]) -> None:
    numbers = itertools.count(1)
    writing = os.O_WRONLY | os.O_RDWR

    def listen(event: str, arguments: tuple) -> None:
        if event in OPERATIONS or (event == "open" and (arguments[2] or 0) & writing):
            on_operation(next(numbers))

    sys.addaudithook(listen)


def stop(way: str) -> None:
    """What happens to the process at the chosen operation."""
    if way == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
    else:
        os.kill(os.getpid(), signal.SIGKILL if way == "kill" else signal.SIGINT)


def check_end(way: str, code: int, said: str) -> None:
    """A stopped process says why in one sentence, unless it was killed or had all but ended."""
    errors = [line for line in said.splitlines() if line.startswith(("error: ", "interrupted"))]
    assert "Traceback" not in said, said
    if way == "kill":
        assert code == -signal.SIGKILL, said
    elif code not in (0, console.SOME_SKIPPED):
        assert code == (console.FAILED if way == "full disk" else console.INTERRUPTED), said
        assert len(errors) == 1, said
        assert way != "full disk" or "no space left on the disk while writing work/" in said, said


class Scene:
    """The files a stage starts from, and those it ends with when nothing stops it."""

    def __init__(self, base: Path, stage: Callable[[Path], tuple[int, str]], is_training: bool):
        self.stage, self.is_training = stage, is_training
        self.start = base
        self.inputs = holdings(base / WORK)
        whole = self.fresh()
        begun = time.monotonic()
        code, said = stage(whole)
        self.seconds = time.monotonic() - begun
        assert code == 0, said
        self.whole = holdings(whole / WORK)
        self.outputs = self.whole.keys() - self.inputs.keys()
        self.end = whole

    def fresh(self) -> Path:
        """A copy of the folder as it is at the start."""
        folder = Path(tempfile.mkdtemp(dir=self.start.parent))
        shutil.copytree(self.start, folder, dirs_exist_ok=True)
        return folder

    def with_old_outputs(self) -> Path:
        """The same with an older file for every output that a stage does not go on from."""
        folder = self.fresh()
        for name in self.outputs:
            if name != training.STATE and not name.endswith("Images.txt"):
                (folder / WORK / name).write_bytes(OLD)
        return folder

    def check(self, folder: Path, may_leave_litter: bool) -> None:
        """Nothing is half a file; and run again, the stage ends as if nothing had happened."""
        for name, held in holdings(folder / WORK).items():
            if name in self.inputs:
                assert held == self.inputs[name], name
            elif held != OLD and not self.is_training:  # which writes a whole file every epoch
                assert held == self.whole[name], name
        litter = [p.name for p in (folder / WORK).iterdir() if p.name.startswith(".")]
        assert may_leave_litter or not litter, litter
        code, said = self.stage(folder)
        assert code == 0, said
        end = holdings(folder / WORK)
        differing = [k for k in end | self.whole if end.get(k) != self.whole.get(k)]
        assert not differing, f"{differing} differ at the end"
        left = [path.name for path in (folder / WORK).iterdir() if _is_unfinished(path)]
        assert not left, left
        shutil.rmtree(folder)


def survive(name: str, base: Path, ways: Iterable[str], moments: int | None) -> tuple[int, Path]:
    """Stop a stage in each way before each of its file operations, or `moments` times of these.

    Returns:
        how often it was stopped, and the folder as it is at the end.
    """
    stage, counted = STAGES[name], os.memfd_create("operations")
    scene = Scene(
        base, lambda folder: run(stage, folder, lambda _: os.write(counted, b".")), stage is train
    )
    total = os.fstat(counted).st_size
    stops = list(itertools.product(ways, range(1, total + 1)))
    if moments and moments < len(stops):
        stops = random.Random(name).sample(stops, moments)
    with console.Progress(len(stops), name, "stops") as progress:
        for way, number in stops:
            folder = scene.with_old_outputs()
            try:
                check_end(way, *run(stage, folder, lambda n: n == number and stop(way)))  # noqa: B023
                scene.check(folder, may_leave_litter=way == "kill")
            except Exception as error:
                raise AssertionError(f"{name}: {way} before operation {number}: {error}") from error
            progress.update()
    kinds = collections.Counter(way for way, _ in stops)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    print(f"{name}: {total} file operations; stopped before one by {counts}: survived", flush=True)
    return len(stops), scene.end


SCRIPTS = {
    "1_data_preprocessor.py": ["--encoder", "random", "--batch-size", "2"],
    "2_train_IC_model.py": ["--epochs", "4", "--batch-size", "4"],
    "3_BLEU.py": [],
    "4_tokenizer.py": [],
    "5_test.py": ["data/Images", "--output", "work/captions.png"],
}


def survive_scripts(base: Path, count: int, seed: int) -> int:
    """Kill the scripts themselves at random times, `count` times in all but for those too late."""
    times, survived = random.Random(seed), 0
    for i, (name, arguments) in enumerate(SCRIPTS.items()):
        command = [
            sys.executable,
            Path(__file__).resolve().parents[1] / name,
            *arguments,
            "--workdir",
            WORK,
        ]
        command += ["--dataset", "data"] if name != "5_test.py" else []

        def script(folder: Path, after: float | None = None, command=command) -> tuple[int, str]:
            resume = command[1].name.startswith("2") and (folder / WORK / training.STATE).exists()
            process = subprocess.Popen(
                [*command, *(["--resume"] if resume else [])],
                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                said = process.communicate(timeout=after)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[1]
            return process.returncode, said

        scene = Scene(base, script, name.startswith("2"))
        killed = 0
        for _ in range(count // len(SCRIPTS) + (i < count % len(SCRIPTS))):
            folder = scene.with_old_outputs()
            code, said = script(folder, times.uniform(0.1, 0.9) * scene.seconds)
            assert code in (0, -signal.SIGKILL), said
            killed += code != 0
            scene.check(folder, may_leave_litter=True)
        survived += killed
        print(f"{name}: killed {killed} times within {scene.seconds:.0f} s: survived")
        base = scene.end
    return survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--moments", type=int, help="of each stage, and five times as many of quick ones"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--scripts", type=int, help="kill the scripts themselves, so often")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "start")
        make_dataset(base / "data")
        (base / WORK).mkdir()
        if arguments.scripts:
            survived = survive_scripts(base, arguments.scripts, arguments.seed)
        else:
            survived = 0
            for name in STAGES:
                moments = arguments.moments and arguments.moments * (5 if name in QUICK else 1)
                count, base = survive(name, base, arguments.ways, moments)
                survived += count
        print(f"{survived} stops survived")


if __name__ == "__main__":
    main()
