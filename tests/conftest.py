"""Fixtures shared by the tests: the real dataset, a tiny one, photographs that are always there."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning  # noqa: F401  what it sets in the environment must be there before TensorFlow
from tests import forks
from tests.toys import tiny_network

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collectstart():
    """Before any test file is loaded, in each process that runs tests."""
    from tests import light_keras  # noqa: F401


@pytest.fixture(scope="session")
def flickr8k() -> Path:
    """The folder that holds Flicker8k_Dataset/ and Flickr8k_text/, from the environment."""
    folder = os.environ.get("FLICKR8K")
    if not folder:
        pytest.skip("FLICKR8K does not name a folder with the real dataset")
    return Path(folder)


@pytest.fixture(scope="session")
def coco40k() -> Path:
    """A folder with part of COCO in Kaggle's layout, a caption each, from the environment."""
    folder = os.environ.get("COCO40K")
    if not folder:
        pytest.skip("COCO40K does not name a folder with real pictures of COCO")
    return Path(folder)


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Two real photographs that scikit-learn ships, uint8 (427, 640, 3)."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


@pytest.fixture(scope="session")
def script():
    """Run a script of the project as a user would, in a folder of its own.

    Where nothing is asked of the process itself, in a fork that has Keras: see `forks`.
    """

    def run(name: str, *arguments, cwd: Path, check: int | None = 0, before=(), **keywords):
        arguments = list(map(str, arguments))
        if before or keywords:
            done = subprocess.run(
                [*before, sys.executable, str(REPOSITORY / name), *arguments],
                cwd=cwd,
                capture_output=True,
                text=True,
                timeout=300,
                **keywords,
            )
        else:
            done = forks.run(REPOSITORY / name, arguments, cwd, timeout=300)
        assert check is None or done.returncode == check, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def here(monkeypatch, capsys):
    """Run a script inside this process, which has loaded the framework already."""

    def run_here(name: str, *arguments, code: int = 0) -> str:
        path = REPOSITORY / name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(path), run_name="__main__")
        told = capsys.readouterr()
        assert exit_.value.code == code, told.err
        return told.out + told.err

    return run_here


@pytest.fixture(scope="session")
def unprivileged() -> list[str]:
    """What to put before a command so that permissions hold for it, even for root."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv to give that up")
    powers = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]


CAPTIONS = {
    "red": ["A red square .", "One red block !", "Red"],
    "green": ["A green square .", "Some green grass , seen close"],
    "blue": ["A blue square .", "The blue sky 's colour", "blue blue blue"],
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """See `tiny_dataset`."""
    return tiny_dataset(tmp_path / "tiny")


def tiny_dataset(folder: Path) -> Path:
    """A dataset of 24 one-coloured pictures in the published layout: 16 train, 4 dev, 4 test."""
    pictures, texts = folder / "Flicker8k_Dataset", folder / "Flickr8k_text"
    pictures.mkdir(parents=True)
    texts.mkdir()
    names, lines = [], []
    for i in range(24):
        colour = list(CAPTIONS)[i % 3]
        name = f"{i:03d}_{colour}.jpg"
        Image.new("RGB", (40 + i, 30), colour).save(pictures / name)
        names.append(name)
        lines += [f"{name}#{n}\t{text}" for n, text in enumerate(CAPTIONS[colour])]
    (texts / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for split, part in (("train", names[:16]), ("dev", names[16:20]), ("test", names[20:])):
        (texts / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part) + "\n")
    return folder


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Smooth shades, uint8 (26, 48, 48, 3): three batches of 8 and two that wait."""
    from keras import ops

    from captioning.pretraining import views

    rough = np.random.default_rng(0).random((26, 3, 3, 3))
    numbers = {"box": np.tile(np.float32([0, 0, 1, 1]), (26, 1)),
               "colour": np.tile(np.eye(3, dtype="float32"), (26, 1, 1)),
               "gray": np.zeros(26, "float32"), "blur": np.zeros(26, "float32")}  # fmt: skip
    return np.uint8(255 * ops.convert_to_numpy(views.apply(255 * rough, numbers, 48)))


@pytest.fixture(name="every_epoch_written")
def _every_epoch_written(monkeypatch):
    """See `every_epoch_written`."""
    every_epoch_written(monkeypatch)


def every_epoch_written(monkeypatch) -> None:
    """Training writes its state after every epoch, however short; drawing would take longest."""
    from captioning.runtime import training

    monkeypatch.setattr(training, "WRITING_SHARE", 1)
    monkeypatch.setattr(training, "draw_curves", lambda path, history: path)


@pytest.fixture
def eagerly():
    """Training is not compiled: for a few batches that is quicker."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def tiny_backbone():
    """Makes it a backbone like the others, "tiny"."""
    from captioning.encoders.registry import BACKBONES

    BACKBONES.add("tiny", tiny_network(), "two blocks")
    yield
    BACKBONES.remove("tiny")


@pytest.fixture(scope="module")
def untrained(tiny_backbone, tmp_path_factory) -> Path:
    """The file of an encoder that was never trained."""
    import keras

    from captioning.encoders import backbones

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("untrained") / "encoder.weights.h5"
    return backbones.save(path, backbones.untrained("tiny", 48), {})
