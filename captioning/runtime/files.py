"""Writing files so that an interruption leaves the old file or the new one, never half of one."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioning.runtime.errors import CaptioningError, printable

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it to `path` when the block ends well.

    The temporary name keeps the suffix, because libraries choose a format by it. On an exception
    (Ctrl-C included) the temporary file is removed and `path` is left as it was; what a process
    killed outright leaves behind goes with the next write into the same folder. When there is no
    room, the `OSError` names `path`, whoever raised it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    token = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.stem[:30]}.{token}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in NO_ROOM or str(error.filename) == str(temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files whose process on this machine is no more, as `atomic` does first."""
    ours = re.compile(
        rf"\..*\.{re.escape(platform.node())}-(\d{{1,9}})-[0-9a-f]{{8}}\.tmp.*", re.DOTALL
    )
    for name in os.listdir(folder):
        match = ours.fullmatch(name)
        if match and not _is_running(int(match[1])):
            with contextlib.suppress(OSError):  # another user's in a shared folder
                (folder / name).unlink()


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere there is no harmless way to ask
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextlib.contextmanager
def locked(folder: str | os.PathLike, name: str = "") -> Iterator[None]:
    """Let no other run write into a folder, or the one file `name` of it, while the block runs.

    The operating system holds the lock, on a hidden file; however the process ends, the lock ends
    with it. Where the file system has no locks, the block runs without.

    Raises:
        CaptioningError: if another run has the lock; says which.
        OSError: if the folder cannot be written, which shows here before the long work.
    """
    os.makedirs(folder, exist_ok=True)
    lock = Path(folder, f".{name or 'run'}.lock")
    descriptor = _lock(lock, Path(folder, name))
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):  # Windows keeps what is open
                lock.unlink()
            os.close(descriptor)


def _lock(lock: Path, subject: Path) -> int | None:
    """A file descriptor that has the lock, or None where there is none to be had."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link could lead anywhere
    try:
        descriptor = os.open(lock, flags, 0o666)
    except OSError as error:
        if not os.path.lexists(lock):  # it is the folder that is at fault
            error.filename = os.fspath(subject)
        raise
    try:
        if os.name == "posix":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        holder = b""
        with contextlib.suppress(OSError):
            holder = os.read(descriptor, 80)
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise CaptioningError(
                f"expected {subject} for this run alone, found another one writing it "
                f"({printable(holder.decode(errors='replace')) or 'process unknown'}); wait for "
                "its end, stop it, or choose another place"
            ) from None
        with contextlib.suppress(OSError):
            lock.unlink()
        return None
    try:
        current = os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        current = False
    if not current:  # its last holder removed it after we had opened it
        os.close(descriptor)
        return _lock(lock, subject)
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
    return descriptor


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write UTF-8 text with `\\n` line ends as given, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return Path(path)


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; file names that are not UTF-8 become escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; a file that is not JSON raises `CaptioningError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaptioningError(
            f"{path} is not a JSON file ({error}); delete or replace it"
        ) from None


def copy(source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Copy a file, atomically; returns the target."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    return Path(target)


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
