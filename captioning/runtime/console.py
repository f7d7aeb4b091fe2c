"""What every script shares on the command line: arguments, progress, errors, exit codes.

Importing this module is cheap, so `--help` and usage errors answer before TensorFlow is loaded.
"""

import argparse
import contextlib
import errno
import functools
import gc
import importlib.util
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

_WRONG_PATH = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
    errno.EEXIST,  # a file where a folder should be
}
_CPUINFO = Path("/proc/cpuinfo")
# as TensorFlow, JAX and PyTorch say it, none of them by a MemoryError
_OUT_OF_MEMORY = re.compile("OOM when|RESOURCE_EXHAUSTED|out of memory|can't allocate memory")
_TRY_SMALLER = "out of memory; try a smaller --batch-size or close other programs"
DONE, FAILED, SOME_SKIPPED, INTERRUPTED = 0, 1, 3, 130


def parser(description: str, **keywords) -> argparse.ArgumentParser:
    """An argument parser that shows a script's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **keywords
    )


def add_seed(parser: argparse.ArgumentParser, draws: str) -> None:
    """Add --seed; `draws` says of what."""
    parser.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help=f"random seed of {draws} (default: %(default)s)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision, float32 or bfloat16."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the arithmetic; bfloat16 is faster where the processor has it (default: "
        "%(default)s)",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add --resume of a training."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the training-state.npz that was left; "
        "with more --epochs, where the learning rate does not fall to zero over all of them",
    )


def positive_int(text: str) -> int:
    """`argparse` type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def positive_float(text: str) -> float:
    """`argparse` type: a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def share(text: str) -> float:
    """`argparse` type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return value


def natural(text: str) -> int:
    """`argparse` type: a whole number of at least 0 that generators take as a seed (32 bits)."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2³² − 1, got {text}")
    return value


# argparse names the type in "invalid … value"
natural.__name__ = positive_int.__name__ = "whole number"
positive_float.__name__ = share.__name__ = "number"


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's `main` and exit: 0 done, 1 failed, 3 some images skipped, 130 interrupted.

    A `CaptioningError` and the machine's own refusals (disk full, no permission, memory of the
    machine or of its GPU full) become one sentence on stderr; anything else is a defect of ours and
    keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # odd file names
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main() or DONE)
    except CaptioningError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; files already written are whole", file=sys.stderr)
        os._exit(INTERRUPTED)  # worker threads of a framework may be in the middle of a batch
    except BrokenPipeError:  # `| head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except MemoryError:
        fail(_TRY_SMALLER)
    except OSError as error:
        if error.errno in files.NO_ROOM:
            fail(f"no space left on the disk while writing {_name_of(error)}; free some, run again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fail(f"not allowed to read or write {_name_of(error)}; check its permissions")
        if error.errno in _WRONG_PATH and error.filename:
            fail(f"{_name_of(error)}: {error.strerror.lower()}; check the path")
        raise
    except Exception as error:
        if _OUT_OF_MEMORY.search(str(error)):
            fail(_TRY_SMALLER)
        raise


def _name_of(error: OSError) -> str:
    return str(error.filename2 or error.filename or "a file")


def fail(sentence: str) -> NoReturn:
    """Print one sentence on stderr and exit with status 1."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(FAILED)


def note(line: str) -> None:
    """Print one line about what is going on, on stderr: results alone go to stdout."""
    _clear_progress()
    print(line, file=sys.stderr)


@functools.cache
def note_once(line: str) -> None:
    """`note`, unless the same line has been said."""
    note(line)


def result(line: str) -> None:
    """Print one line of what the user asked for, on stdout."""
    if sys.stdout.isatty():
        _clear_progress()
    print(line)


def _clear_progress() -> None:
    if sys.stderr.isatty():  # an unfinished line of `Progress` may stand there
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def written(paths: Iterable[str | os.PathLike], stream: TextIO | None = None) -> None:
    """End a script: one line per file written, with its size."""
    for path in paths:
        print(f"wrote {path} ({readable_size(Path(path).stat().st_size)})", file=stream)


def readable_size(size: float) -> str:
    """1536 → '1.5 kB': bytes in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def readable_time(seconds: float) -> str:
    """3700 → '1 h 02 min', 75 → '1 min 15 s', 8 → '8 s'."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """A line on stderr that counts up and estimates the time left.

    On a terminal the line is rewritten in place; in a log a new line appears every `every`
    seconds. Use as a context manager and call `update` with the number of units done since.
    """

    def __init__(self, total: int, label: str, unit: str = "images", every: float = 15.0):
        self.total, self.label, self.unit = total, label, unit
        self.done = 0
        self.start = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.every = 0.2 if self.terminal else every
        self.shown = self.start

    def __enter__(self) -> "Progress":
        return self

    def update(self, count: int = 1, suffix: str = "") -> None:
        """Count `count` more units; `suffix` is shown behind them."""
        self.done += count
        now = time.monotonic()
        if now - self.shown >= self.every:
            self.shown = now
            left = (now - self.start) / max(self.done, 1) * (self.total - self.done)
            self._show(f"{readable_time(left)} left{suffix}")

    def __exit__(self, *exception) -> None:
        if exception == (None, None, None):
            self._show(f"in {readable_time(time.monotonic() - self.start)}")
        if self.terminal:
            sys.stderr.write("\n")

    def _show(self, tail: str) -> None:
        line = f"{self.label}: {self.done}/{self.total} {self.unit}, {tail}"
        sys.stderr.write(f"\r\x1b[K{line}" if self.terminal else line + "\n")
        sys.stderr.flush()


def announce_device(precision: str = "float32") -> None:
    """Load the framework and say on stderr which device the Keras backend will compute on.

    Says too when the device can only imitate the `precision` asked for.

    To be called before anything else that imports Keras: TensorFlow's start-up notices, which
    heed no log level, are held back here. TF_CPP_MIN_LOG_LEVEL=0 shows them.
    """
    show = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
    with contextlib.nullcontext() if show else _stderr_held_back():
        try:
            keras = _import_keras()
        except (ModuleNotFoundError, ValueError) as error:
            raise CaptioningError(
                "expected KERAS_BACKEND, or else ~/.keras/keras.json, to name a framework that is "
                f"installed: tensorflow, jax or torch ({error})"
            ) from None
        found = devices("gpu") or devices("cpu")
    note(f"device: {', '.join(found)} ({keras.backend.backend()} backend)")
    if precision == "bfloat16" and not devices("gpu") and not _computes_bfloat16(_CPUINFO):
        note("this processor has no bfloat16 arithmetic: --precision float32 would be faster")


def _import_keras() -> ModuleType:
    """Import Keras; the first time, in about half the time that it takes by itself.

    Keras and TensorFlow would load scikit-learn, SciPy and Matplotlib for wrappers, plots and
    sparse matrices that no script uses (Keras's own stay without them for as long as the process
    lives); and a third of a million objects would be searched for garbage, again and again.

    Raises:
        ModuleNotFoundError, ValueError: if there is no backend of the name that is configured.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    unused = {"sklearn", "matplotlib"} - sys.modules.keys()
    if "scipy" not in sys.modules and not importlib.util.find_spec("jax"):  # which needs it
        unused.add("scipy")
    sys.modules.update(dict.fromkeys(unused))  # None: as if it were not installed
    collecting = gc.isenabled()
    gc.disable()
    try:
        import keras

        gc.freeze()
        return keras
    finally:
        if collecting:
            gc.enable()
        for name in unused:
            del sys.modules[name]


def _computes_bfloat16(cpuinfo: Path) -> bool:
    """Whether the processor has bfloat16 instructions, as Linux tells; elsewhere supposed."""
    if not cpuinfo.exists():
        return True
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpuinfo.read_text()))


def devices(kind: str) -> list[str]:
    """Names of the devices of a kind, "gpu" or "cpu", that the Keras backend computes on."""
    import keras

    if keras.backend.backend() == "tensorflow":
        return keras.distribution.list_devices(kind)
    if keras.backend.backend() == "jax":  # where Keras's list of GPUs fails if there is none
        import jax

        return [f"{kind}:{device.id}" for device in jax.devices() if device.platform == kind]
    import torch  # for which Keras has no such list

    return [f"{kind}:{i}" for i in range(torch.cuda.device_count() if kind == "gpu" else 1)]


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what libraries write to file descriptor 2; show it only if the block fails."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
