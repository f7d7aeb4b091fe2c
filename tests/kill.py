"""Stops every stage of the pipeline at many moments and checks what it leaves behind.

    python tests/kill.py                  # before each file operation of each stage
    python tests/kill.py --moments 2      # at two of these moments
    python tests/kill.py --only jigsaw/main.py  # one stage; those before it run undisturbed
    python tests/kill.py --eager          # trainings are not compiled: two thirds of the time
    python tests/kill.py --scripts 5      # the scripts themselves, each at 5 random times

A stage runs in a forked process on a tiny dataset: those of the pipeline, and the scripts that
pretrain and those of the jigsaw branch. At a chosen operation (a file opened for writing, moved or
removed; a folder made) the process kills itself, interrupts itself as Ctrl-C does, or is left
without room on the disk. After each, every output must be the old one or a new and whole one; run
again, resuming where there is something to resume, the stage must end with exactly the files of a
run that nothing stopped, and no others.
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
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

import tests.light_keras  # noqa: F401  before all that would load Keras itself

# isort: split
import h5py
import numpy as np
import tensorflow as tf
from PIL import Image

from captioning import (
    archives,
    console,
    dataset,
    encoders,
    files,
    jigsaw,
    networks,
    packing,
    pickles,
    stages,
    training,
)
from jigsaw.hamming_set import maximal_hamming
from tests.toys import one_convolution, tiny_trunk

# All that a stage needs is imported once; no operation of TensorFlow may precede the forks.
for module in (
    *(f"captioning.{name}" for name in ("decoding", "metrics", "recipes", "contact_sheet")),
    "jigsaw.DataGenerator",
):
    importlib.import_module(module)
packing.SAVE_EVERY = 0  # the journal is written after every picture
training.WRITING_SHARE = 1  # and the state of a training after every epoch
# What is stopped is the writing: networks that are compiled at once will do, except for --scripts
networks.BACKBONES["small"] = tiny_trunk
jigsaw.BACKBONES["small"] = (one_convolution, jigsaw.BACKBONES["small"][1])

REPOSITORY = Path(__file__).resolve().parents[1]
WORK, OLD = Path("work"), b"old"
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
WAYS = ("kill", "interrupt", "full disk")


def draw_curves(path: Path, history: list) -> Path:
    """Writes a picture as `training.draw_curves` does, but one that takes no time."""
    with files.atomic(path) as temporary:
        Image.new("L", (9, len(history))).save(temporary)
    return path


training.draw_curves = draw_curves


class MeanColour:
    """An encoder that needs no network: how much there is of each colour."""

    size, dimension = 8, 3
    record = dict.fromkeys(("file", "sha256", "preprocessing"), None) | {"name": "mean"}
    seen = np.empty(0, np.uint64)

    def extract(self, pixels, batch_size=32):
        return pixels.mean(axis=(1, 2)).astype("float32")


def describe():
    stages.describe(dataset.Dataset(Path("data")), WORK)


def extract():
    stages.extract(MeanColour(), Path("data/Images"), WORK, batch_size=1)


def tokenize():
    stages.make_tokenizer(Path("data"), WORK)


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


def script(name: str, arguments: list[str]) -> Callable[[], None]:
    """A stage that runs a script in this process; resuming where there is something to resume."""

    def run_script():
        sys.argv = [name, *arguments, *resumption(name)]
        runpy.run_path(str(REPOSITORY / name), run_name="__main__")

    return run_script


def resumption(name: str, folder: Path = Path()) -> list[str]:
    """--resume for a script that takes it and has a state to go on from."""
    states = {
        "2_train_IC_model.py": WORK,
        "jigsaw/main.py": WORK / "pretraining",
        "contrastive/main.py": WORK / "contrastive",
        "jigsaw/Jigsaw_IC_model.py": WORK,
    }
    return (
        ["--resume"] if name in states and (folder / states[name] / training.STATE).exists() else []
    )


PLACES = ["--dataset", "data", "--workdir", "work"]
PIPELINE: dict[str, list[str]] = {
    "1_data_preprocessor.py": [*PLACES, "--encoder", "random", "--batch-size", "2"],
    "2_train_IC_model.py": [*PLACES, "--epochs", "4", "--batch-size", "4"],
    "3_BLEU.py": PLACES,
    "4_tokenizer.py": PLACES,
    "5_test.py": ["data/Images", "--workdir", "work", "--output", "work/captions.png"],
}
PRETRAINING: dict[str, list[str]] = {
    "jigsaw/to_hdf5.py": [
        "--images", "data/Images", "--output", "work/pictures.hdf5", "--size", "51",
        "--val", "0.2", "--test", "0.2", "--workers", "2",
    ],
    "jigsaw/main.py": [
        "--hdf5", "work/pictures.hdf5", "--permutations", "data/permutations.txt",
        "--max-hamming-set", "9", "--backbone", "small", "--batch-size", "4", "--epochs", "2",
        "--output", "work/pretraining",
    ],
    "jigsaw/Jigsaw_feature_extraction.py": [
        "--model", "work/pretraining/model.keras", "--images", "data/Images", "--workdir", "work",
        "--batch-size", "1",
    ],
    "jigsaw/jigsaw_captions.py": PLACES,
    "jigsaw/Jigsaw_IC_model.py": [*PLACES, "--epochs", "3", "--batch-size", "8"],
    "jigsaw/Jigsaw_test_bleu.py": PLACES,
    "jigsaw/Jigsaw_tokenizer.py": PLACES,
    "jigsaw/Jigsaw_test_images.py": [
        "data/Images", "--workdir", "work", "--output", "work/captions.png",
    ],
    "contrastive/main.py": [
        "--hdf5", "work/pictures.hdf5", "--backbone", "small", "--size", "32", "--batch-size", "4",
        "--epochs", "2", "--output", "work/contrastive",
    ],
}  # fmt: skip
STAGES: dict[str, Callable] = {
    "1 captions": describe,
    "1 features": extract,
    "4 tokenizer": tokenize,
    "2 training": train,
    "3 BLEU": score,
    "5 captions": caption,
}
BRANCHES = (STAGES, {name: script(name, arguments) for name, arguments in PRETRAINING.items()})
QUICK = ("1 captions", "1 features", "4 tokenizer", "jigsaw/to_hdf5.py")  # without TensorFlow


def make_dataset(folder: Path, count: int = 20) -> None:
    """One-coloured pictures and their captions in the Kaggle layout, whose splits are drawn."""
    (folder / "Images").mkdir(parents=True)
    rows = ["image,caption"]
    for i in range(count):
        colour = ("red", "green", "blue")[i % 3]
        Image.new("RGB", (9, 9), colour).save(folder / "Images" / f"{i:02d}.png")
        rows += [f"{i:02d}.png,A {colour} square", f"{i:02d}.png,Just {colour}"]
    (folder / "captions.txt").write_text("\n".join(rows))
    np.savetxt(folder / "permutations.txt", maximal_hamming.choose(9), fmt="%d")


# What a file holds, apart from dates, durations and the folder it is in. Raises anything for one
# that is not whole.


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _without_place(text: str) -> str:
    return re.sub(rf'"[^"]*/{WORK}/', f'"{WORK}/', text)


def _of_json(path: Path) -> Any:
    return _without_place(path.read_text())


def _of_keras(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (name,) = {"captioner.json", "jigsaw.json"} & {*archive.namelist()}
    with archives.opened(path, name) as (_, record, weights):
        found = []
        weights.visititems(
            lambda _, node: found.append(node[()]) if isinstance(node, h5py.Dataset) else None
        )
        return _without_place(json.dumps(record)), _digest(found)


def _of_state(path: Path) -> Any:
    with np.load(path) as state:
        meta = json.loads(str(state["meta"]))
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in meta.pop("history")]
        return meta, rows, _digest(state[name] for name in state.files if name != "meta")


def _of_table(path: Path) -> Any:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _of_columns(path: Path) -> Any:
    return {key: values for key, values in pickles.load(path).items() if key != "seconds"}


def _of_picture(path: Path) -> Any:
    with Image.open(path) as image:
        return image.size, _digest([np.asarray(image)])


READERS = {
    ".keras": _of_keras, ".npz": _of_state, ".csv": _of_table, ".png": _of_picture,
    ".json": _of_json, "history.pkl": _of_columns,
}  # fmt: skip


def holdings(folder: Path) -> dict[str, Any]:
    """Path in the folder → what the file holds, of every file but unfinished ones."""
    return {
        str(path.relative_to(folder)): _holding(path)
        for path in folder.rglob("*")
        if path.is_file() and not _is_unfinished(path.relative_to(folder))
    }


def _holding(path: Path) -> Any:
    data = path.read_bytes()
    reader = READERS.get(path.name) or READERS.get(path.suffix, Path.read_bytes)
    return data if data == OLD else reader(path)


def _is_unfinished(path: Path) -> bool:
    return any(part.startswith(".") or ".partial" in part for part in path.parts)


def _unfinished(folder: Path) -> list[str]:
    """What a stage that ended well should have removed."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return [str(path) for path in paths if _is_unfinished(path)]


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
            path = folder / WORK / name
            if path.name != training.STATE and not name.endswith("Images.txt"):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(OLD)
        return folder

    def check(self, folder: Path, may_leave_litter: bool) -> None:
        """Nothing is half a file; and run again, the stage ends as if nothing had happened."""
        for name, held in holdings(folder / WORK).items():
            if name in self.inputs:
                assert held == self.inputs[name], name
            elif held != OLD and not self.is_training:  # which writes a whole file every epoch
                assert held == self.whole[name], name
        # A lock that Ctrl-C kept from being removed hinders nobody once its process is gone
        litter = [p for p in (folder / WORK).rglob(".*") if p.suffix != ".lock"]
        assert may_leave_litter or not litter, litter
        code, said = self.stage(folder)
        assert code == 0, said
        end = holdings(folder / WORK)
        differing = [k for k in end | self.whole if end.get(k) != self.whole.get(k)]
        assert not differing, f"{differing} differ at the end"
        left = _unfinished(folder / WORK)
        assert not left, left
        shutil.rmtree(folder)


def survive(
    name: str, stage: Callable, base: Path, ways: Iterable[str], moments: int | None
) -> tuple[int, Path]:
    """Stop a stage in each way before each of its file operations, or `moments` times of these.

    A training as often again once it has a state to go on from.

    Returns:
        how often it was stopped, and the folder as it is at the end.
    """
    counted = os.memfd_create("operations")
    states = {path.relative_to(base) for path in (base / WORK).rglob(training.STATE)}

    def count(_: int) -> None:  # whether by then the stage has left a state to go on from
        os.write(counted, bytes([set(WORK.rglob(training.STATE)) > states]))

    scene = Scene(base, lambda folder: run(stage, folder, count), is_training(name))
    resumable = os.pread(counted, 10**6, 0)
    stops = []
    for which in (False, True):
        numbers = [number for number, can in enumerate(resumable, start=1) if can == which]
        part = list(itertools.product(ways, numbers))
        few = moments and moments < len(part)
        stops += random.Random(name).sample(part, moments) if few else part
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
    if not stops:
        return 0, scene.end
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    print(
        f"{name}: {len(resumable)} file operations; stopped before one by {counts}: survived",
        flush=True,
    )
    return len(stops), scene.end


def survive_branch(branch: dict[str, Callable], base: Path, options: argparse.Namespace) -> int:
    """Stop the stages of a branch one after the other; returns how often."""
    survived = 0
    chosen = [name for name in branch if any(part in name for part in options.only or [""])]
    for name, stage in branch.items():
        if not chosen:
            break
        ways = ()
        if name == chosen[0]:
            ways = options.ways
            chosen.pop(0)
        moments = options.moments and options.moments * (5 if name in QUICK else 1)
        count, base = survive(name, stage, base, ways, moments)
        survived += count
    return survived


def is_training(name: str) -> bool:
    return any(word in name for word in ("train", "IC_model", "main"))


def survive_scripts(
    scripts: dict[str, list[str]], base: Path, count: int, times: random.Random
) -> int:
    """Kill each script itself at `count` random times; returns how many were not too late."""
    survived = 0
    for name, arguments in scripts.items():

        def run_script(folder: Path, after: float | None = None, command=(name, *arguments)):
            process = subprocess.Popen(
                [sys.executable, REPOSITORY / command[0], *command[1:],
                 *resumption(command[0], folder)],
                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                said = process.communicate(timeout=after)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[1]
            return process.returncode, said

        scene = Scene(base, run_script, is_training(name))
        killed = 0
        for _ in range(count):
            folder = scene.with_old_outputs()
            code, said = run_script(folder, times.uniform(0.1, 0.9) * scene.seconds)
            assert code in (0, -signal.SIGKILL), said
            killed += code != 0
            scene.check(folder, may_leave_litter=True)
        survived += killed
        print(f"{name}: killed {killed} times within {scene.seconds:.0f} s: survived", flush=True)
        base = scene.end
    return survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--moments", type=int, help="of each stage, and five times as many of quick ones"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="stages, by part")
    parser.add_argument("--eager", action="store_true", help="train without compiling")
    parser.add_argument("--scripts", type=int, help="kill each script itself, so often")
    parser.add_argument("--seed", type=int, default=0, help="of the random times")
    arguments = parser.parse_args()
    tf.config.run_functions_eagerly(arguments.eager)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "start")
        make_dataset(base / "data")
        (base / WORK).mkdir()
        survived = 0
        if arguments.scripts:
            times = random.Random(arguments.seed)
            for scripts in (PIPELINE, PRETRAINING):
                survived += survive_scripts(scripts, base, arguments.scripts, times)
        else:
            for branch in BRANCHES:
                survived += survive_branch(branch, base, arguments)
        print(f"{survived} stops survived")


if __name__ == "__main__":
    main()
