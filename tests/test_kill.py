"""Whatever stops a stage at whatever moment, nothing is lost: see kill.py."""

import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = ("1 captions", "1 features", "2 training", "3 BLEU", "4 tokenizer", "5 captions")


def survived(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill.py"), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return int(done.stdout.splitlines()[-1].split()[0])


def test_some_moments_of_every_stage():
    assert survived("--moments", "1", "--only", *PIPELINE) == 19


def test_some_moments_of_the_jigsaw_scripts():
    stages = (
        "jigsaw/to_hdf5",
        "jigsaw/main",
        "Jigsaw_feature_extraction",
    )  # after them, as in the pipeline
    assert survived("--moments", "1", "--only", *stages) == 8


@pytest.mark.long
def test_every_moment_of_every_stage():
    assert survived("--only", *PIPELINE) > 300


@pytest.mark.long
def test_many_moments_of_the_scripts_that_pretrain():
    assert survived("--moments", "20", "--only", "jigsaw", "pretraining/main.py") > 220


@pytest.mark.long
def test_the_scripts_at_random_times():
    assert survived("--scripts", "2") >= 12  # of 28: where the machine is busy, some end before
