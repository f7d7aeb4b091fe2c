"""Whatever stops a stage at whatever moment, nothing is lost: see kill.py."""

import re
from pathlib import Path

import pytest

from tests import forks

PIPELINE = ("1 captions", "1 features", "2 training", "3 BLEU", "4 tokenizer", "5 captions")
JIGSAW = (
    "jigsaw/to_hdf5.py", "jigsaw/main.py", "jigsaw/Jigsaw_feature_extraction.py",
    "jigsaw/jigsaw_captions.py", "jigsaw/Jigsaw_IC_model.py", "jigsaw/Jigsaw_test_bleu.py",
    "jigsaw/Jigsaw_tokenizer.py", "jigsaw/Jigsaw_test_images.py", "contrastive/main.py",
)  # fmt: skip


def kill(*arguments: str) -> str:
    """Run kill.py, which fails where something was lost; what it says."""
    program = Path(__file__).with_name("kill.py")
    done = forks.run(program, [*arguments], program.parent, timeout=86_400)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return done.stdout


def stops(said: str) -> dict[str, tuple[int, int]]:
    """Of each stage how many file operations it does, and how often it was stopped before one."""
    lines = re.findall(r"^(.+): (\d+) file operations; stopped before one by (.+): ", said, re.M)
    return {
        name: (int(operations), sum(map(int, re.findall(r"\d+", ways))))
        for name, operations, ways in lines
    }


def test_some_moments_of_every_stage():
    """A training before it has left a state and after; the other stages are quick."""
    stages = (*PIPELINE, *JIGSAW[:3])  # the scripts after these run the pipeline's stages
    found = stops(kill("--moments", "1", "--eager", "--only", *stages))
    assert found.keys() == {*stages}
    assert all(count >= 1 for _, count in found.values())
    assert found["2 training"][1] == found["jigsaw/main.py"][1] == 2


@pytest.mark.long
def test_every_moment_of_every_stage():
    found = stops(kill("--only", *PIPELINE))
    assert found.keys() == {*PIPELINE}
    for operations, count in found.values():
        assert count == 3 * operations > 0  # killed, interrupted, left without room


@pytest.mark.long
def test_many_moments_of_the_scripts_that_pretrain():
    found = stops(kill("--moments", "20", "--only", *JIGSAW))
    assert found.keys() == {*JIGSAW}
    for operations, count in found.values():
        assert count == 3 * operations > 0 or count >= 20


@pytest.mark.long
def test_the_scripts_at_random_times():
    said = kill("--scripts", "2")
    assert int(said.splitlines()[-1].split()[0]) >= 12  # of 28: on a busy machine some end before
