"""Exit codes and what users read."""

import errno
import importlib.util
import os
import platform
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from captioning.runtime import console
from captioning.runtime.errors import CaptioningError


def exit_of(main, capsys) -> tuple[int, str]:
    class Stream:
        def reconfigure(self, **_):
            pass

    with pytest.raises(SystemExit) as caught, pytest.MonkeyPatch.context() as patch:
        for name in ("stdout", "stderr"):  # pytest's own streams have no reconfigure
            stream = getattr(sys, name)
            patch.setattr(type(stream), "reconfigure", Stream.reconfigure, raising=False)
        console.run(main)
    return caught.value.code, capsys.readouterr().err


def raises(error):
    def main():
        raise error

    return main


def test_exit_codes(capsys):
    assert exit_of(lambda: None, capsys) == (0, "")
    assert exit_of(lambda: console.SOME_SKIPPED, capsys) == (3, "")
    assert exit_of(raises(CaptioningError("no.")), capsys) == (1, "error: no.\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full", "a.pkl"), "no space left on the disk while writing a.pkl"),
        (PermissionError(errno.EACCES, "no", "a.pkl"), "not allowed to read or write a.pkl"),
        (OSError(errno.EROFS, "no", "a.pkl"), "not allowed to read or write a.pkl"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), "x: is a directory"),
        (FileExistsError(errno.EEXIST, "File exists", "x"), "x: file exists"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "x: file name too long"),
        (OSError(errno.EFBIG, "File too large", "x"), "no space left on the disk while writing x"),
    ],
)
def test_the_machines_refusals_are_sentences(capsys, error, expected):
    code, said = exit_of(raises(error), capsys)
    assert code == 1
    assert said.startswith(f"error: {expected}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("backend", "reason"), [("tensorlow", "tensorlow"), ("torch", "no torch")])
def test_a_backend_that_is_not_there_is_a_sentence(script, tmp_path, backend, reason):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch')")
    places = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(tmp_path)}
    arguments = ("pretraining/main.py", "--hdf5", "x")
    told = script(*arguments, cwd=tmp_path, check=1, env=places).stderr
    assert told.startswith("error: expected KERAS_BACKEND, or else ~/.keras/keras.json, to name a")
    assert f"{reason})" in told
    assert told.count("\n") == 1


def test_keras_is_loaded_without_what_no_script_uses():
    if importlib.util.find_spec("jax"):
        pytest.skip("JAX is installed, which needs SciPy")
    program = (
        "import gc, sys\nfrom captioning.runtime import console\nconsole.announce_device()\n"
        "print({'keras', 'sklearn', 'scipy', 'matplotlib'} & sys.modules.keys())\n"
        "import keras, matplotlib, scipy, sklearn\n"  # to be had, for all that
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "{'keras'}\nTrue True\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is TensorFlow's on x86 alone")
@pytest.mark.parametrize("said", [None, "0"])
def test_tensorflow_computes_by_onednn_unless_told_otherwise(said):
    program = (
        "from captioning.runtime import console\nconsole.announce_device()\n"
        "from tensorflow.python.util import _pywrap_util_port\n"
        "print(_pywrap_util_port.IsMklEnabled())"
    )
    rest = {name: v for name, v in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
        env=rest | ({"TF_ENABLE_ONEDNN_OPTS": said} if said else {}),
    )  # fmt: skip
    assert done.stdout == f"{said is None}\n"


def test_help_does_not_wait_for_what_downloads_need():
    program = (
        "import sys\nfrom captioning.encoders import sources\n"
        "print({'keras', 'http.client', 'urllib.request', 'ssl'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "set()\n"


def test_our_own_defects_keep_their_traceback(capsys):
    with pytest.raises(ZeroDivisionError):
        exit_of(raises(ZeroDivisionError()), capsys)


def test_interruption_exits_with_130():
    program = (
        "import os, signal, time\nfrom captioning.runtime import console\n"
        "def main():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "console.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("seconds", "expected"), [(8, "8 s"), (75.4, "1 min 15 s"), (3720, "1 h 02 min")]
)
def test_readable_time(seconds, expected):
    assert console.readable_time(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(12, "12 bytes"), (1536, "1.5 kB"), (2.4e10, "24.0 GB")]
)
def test_readable_size(size, expected):
    assert console.readable_size(size) == expected


def test_progress_in_a_log_tells_the_time_left(capsys):
    with console.Progress(10, "features", every=0) as progress:
        progress.update(5)
        progress.update(5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("features: 5/10 images, ")
    assert lines[0].endswith(" left")
    assert lines[-1].startswith("features: 10/10 images, in ")


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_positive_int_refuses(text):
    with pytest.raises((ValueError, console.argparse.ArgumentTypeError)):
        console.positive_int(text)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx2 fma\n", False),
        ("flags\t\t: avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: avx512f amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),  # Arm
        (None, True),  # not Linux: nothing is known, nothing is said
    ],
)
def test_bfloat16_is_looked_for_among_the_flags_of_the_processor(tmp_path, cpuinfo, expected):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    assert console._computes_bfloat16(path) is expected


def test_imitated_bfloat16_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(console, "_CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags: avx2\n")
    monkeypatch.setattr(console, "devices", lambda kind: ["cpu:0"] if kind == "cpu" else [])
    console.announce_device("float32")
    assert "bfloat16" not in capsys.readouterr().err
    console.announce_device("bfloat16")
    assert "float32 would be faster" in capsys.readouterr().err
