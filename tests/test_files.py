"""Atomic writing."""

import contextlib
import errno
import fcntl
import platform
import subprocess
import sys

import pytest

from captioning.runtime import files
from captioning.runtime.errors import CaptioningError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, {"a": "é"})
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert files.read_json(path) == {"a": "é"}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


KILLED = """
import os, signal, sys
from captioning.runtime import files
with files.atomic(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_goes_with_the_next_write(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, path])
        assert path.read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 2  # the litter of one kill at most
    with files.atomic(tmp_path / "b.txt") as living:  # that of a process at work stays
        living.write_text("b")
        files.write_text(path, "new")
        assert {p.name for p in tmp_path.iterdir()} == {"a.txt", living.name}
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_temporaries_of_other_machines_and_other_programs_stay(tmp_path):
    others = [".a.elsewhere-1-00000000.tmp.txt", ".a.tmp", "a.tmp.txt", ".hidden"]
    for name in others:
        (tmp_path / name).touch()
    files.write_text(tmp_path / "a.txt", "new")
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", *others}


# Locks


HOLDER = """
import sys, time
from captioning.runtime import files
with files.locked(*sys.argv[1:]):
    print("locked", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def another_run(*arguments):
    """A process that has the lock; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_folder_is_for_one_run_until_that_ends_however(tmp_path):
    folder = tmp_path / "work"
    with another_run(folder) as process:
        holder = f"process {process.pid} on {platform.node()}"
        for _ in range(2):
            refused = pytest.raises(CaptioningError, match=rf"{folder} for .*{holder}")
            with refused, files.locked(folder):
                raise AssertionError
        with files.locked(folder, "a.hdf5"), files.locked(tmp_path):  # other work
            pass
        refused = pytest.raises(CaptioningError, match=r"a\.hdf5 for this run alone")
        with another_run(folder, "a.hdf5"), refused, files.locked(folder, "a.hdf5"):
            raise AssertionError
    assert {path.name for path in folder.iterdir()} == {".a.hdf5.lock", ".run.lock"}  # by kills
    for name in ("", "a.hdf5"):
        with pytest.raises(KeyboardInterrupt), files.locked(folder, name):
            raise KeyboardInterrupt
    assert not list(folder.iterdir())


def test_a_lock_removed_by_its_last_holder_is_not_taken_for_one(tmp_path, monkeypatch):
    """Between opening and locking, the holder ends and a third run makes a file of its own."""

    def late(descriptor, flags, take=fcntl.flock):
        monkeypatch.setattr(fcntl, "flock", take)
        (tmp_path / ".run.lock").unlink()
        stack.enter_context(another_run(tmp_path))
        take(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", late)
    refused = pytest.raises(CaptioningError, match="for this run alone")
    with contextlib.ExitStack() as stack, refused, files.locked(tmp_path):
        raise AssertionError


def test_where_there_are_no_locks_work_goes_on_without(tmp_path, monkeypatch):
    def unsupported(descriptor, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / "plain").mkdir()
    with files.locked(tmp_path / "plain"), files.locked(tmp_path / "plain"):
        assert not list((tmp_path / "plain").iterdir())


def test_a_lock_does_not_follow_links(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"run\.lock"), files.locked(tmp_path / "work"):
        raise AssertionError
    assert (tmp_path / "precious").read_text() == "kept"


LOCKED = "import sys; from captioning.runtime import files; files.locked(sys.argv[1]).__enter__()"


def test_a_folder_that_may_not_be_written_shows_at_once(tmp_path, unprivileged):
    tmp_path.chmod(0o500)
    done = subprocess.run(
        [*unprivileged, sys.executable, "-c", LOCKED, tmp_path], capture_output=True, text=True
    )
    tmp_path.chmod(0o700)
    assert done.stderr.endswith(f"Permission denied: '{tmp_path}'\n")


@pytest.mark.parametrize("name", ["x" * 250 + ".png", "🐕" * 62 + ".png"])
def test_the_longest_names_can_be_written(tmp_path, name):
    assert files.write_text(tmp_path / name, "x").read_text() == "x"


def test_no_room_names_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(OSError) as caught, files.atomic(tmp_path / "a.txt") as temporary:
        temporary.touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(OSError) as caught, files.atomic(tmp_path / "a.txt"):
        pass  # nothing was written, which shows when it is to be moved
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_names_that_are_not_utf8_survive_json(tmp_path):
    value = {"caf\udce9.jpg": "é"}
    path = files.write_json(tmp_path / "a.json", value)
    assert files.read_json(path) == value
    assert "é" in path.read_text(encoding="utf-8")


def test_folders_are_made_and_the_suffix_kept(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    with files.atomic(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert path.read_bytes() == b"x"


def test_broken_json_is_one_sentence(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CaptioningError, match=r"a\.json is not a JSON file"):
        files.read_json(tmp_path / "a.json")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")  # FIPS 180-2, example 1
