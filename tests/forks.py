"""Runs scripts in forks of a process that has loaded Keras already: seconds saved, each time."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tests.light_keras", "keras", "h5py", "PIL.Image", "sklearn.metrics",
     "nltk.translate.bleu_score", "matplotlib.backends.backend_agg"]
)  # fmt: skip


def run(path: Path, arguments: list[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess:
    """What `subprocess.run([sys.executable, path, *arguments], text=True, …)` would return."""
    with tempfile.TemporaryDirectory() as folder:
        said = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        command = (str(path), *arguments)
        # such a process ends without tidying up: its temporary files go with the folder
        environment = os.environ | {"TMPDIR": folder}
        process = _context.Process(target=_run, args=(command, cwd, environment, said))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        stdout, stderr = (Path(name).read_text() for name in said)
    return subprocess.CompletedProcess(command, process.exitcode, stdout, stderr)


def _run(command: tuple[str, ...], cwd: Path, environment: dict[str, str], said: list[str]) -> None:
    for stream, name in enumerate(said, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # the environment tells
    os.chdir(cwd)
    for name in [name for name in sys.modules if name.startswith(("captioning", "tests"))]:
        del sys.modules[name]  # nothing of the project itself: the script loads that
    sys.argv = list(command)
    installed = [place for place in sys.path if place.startswith((sys.prefix, sys.base_prefix))]
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [os.path.dirname(command[0]), *filter(None, added), *installed]
    runpy.run_path(command[0], run_name="__main__")
