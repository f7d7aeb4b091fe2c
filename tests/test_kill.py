"""Whatever stops a stage at whatever moment, nothing is lost: see kill.py."""

import subprocess
import sys
from pathlib import Path

import pytest


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
    assert survived("--moments", "1") >= 18


@pytest.mark.long
def test_every_moment_of_every_stage():
    assert survived() > 300


@pytest.mark.long
def test_the_scripts_at_random_times():
    assert survived("--scripts", "15") >= 8  # where the machine is busy, some end before
