"""Arrays that other processes fill: right numbers, memory used again, no process left behind."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from captioning.runtime import shared_arrays
from captioning.runtime.errors import CaptioningError
from captioning.runtime.shared_arrays import Fillers

SHAPE = (3, 5)


def multiply(array: np.ndarray, factor: int) -> int:
    if factor < 0:
        raise ValueError(f"not by {factor}")
    if factor > 99:
        os.kill(os.getpid(), signal.SIGKILL)
    array[...] = factor * np.arange(15).reshape(SHAPE)
    return os.getpid()


@pytest.fixture(scope="module")
def fillers() -> Fillers:
    return Fillers(multiply, 2, SHAPE, np.float32)


def test_other_processes_fill_the_arrays(fillers):
    fillings = [fillers.submit(factor) for factor in range(6)]
    for factor, filling in enumerate(fillings):
        array, process = filling.result()
        assert (array.shape, array.dtype) == (SHAPE, np.float32)
        assert array.ravel().tolist() == [factor * i for i in range(15)]
        assert process != os.getpid()


def test_memory_is_used_again_when_no_view_of_the_array_is_left(fillers):
    array, _ = fillers.submit(2).result()
    row = array[1]
    del array
    others = [fillers.submit(9).result()[0] for _ in range(8)]
    assert row.tolist() == [10, 12, 14, 16, 18]
    place = row.__array_interface__["data"][0] - row.nbytes
    assert place not in {other.__array_interface__["data"][0] for other in others}
    del row, others
    gc.collect()
    count = len(fillers._made)
    again = [fillers.submit(9).result()[0] for _ in range(count)]
    assert place in {other.__array_interface__["data"][0] for other in again}
    assert len(fillers._made) == count


def test_arrays_outlive_the_processes():
    fillers = Fillers(multiply, 1, SHAPE, np.int64)
    array, _ = fillers.submit(3).result()
    del fillers
    gc.collect()
    assert array.ravel().tolist() == [3 * i for i in range(15)]


def test_errors_come_back(fillers):
    for _ in range(3):  # and the memory of none is lost
        count = len(fillers._made)
        with pytest.raises(ValueError, match="not by -1"):
            fillers.submit(-1).result()
    assert len(fillers._made) == count
    assert fillers.submit(1).result()[0][0, 1] == 1


def test_a_killed_process_is_said():
    fillers = Fillers(multiply, 1, SHAPE, np.int64)
    for factor in (100, 1):  # what is wanted after it, too
        with pytest.raises(CaptioningError, match=r"ended before its time.*smaller batches"):
            fillers.submit(factor).result()


@pytest.mark.skipif(not shared_arrays._SHARED.is_dir(), reason="no /dev/shm on this system")
def test_too_little_shared_memory_is_said():
    shape = (2**20, 2**24)  # 16 TiB, which nothing writes to
    with pytest.raises(CaptioningError, match=r"expected \d+ bytes of shared memory.*found \d+"):
        Fillers(multiply, 1, shape, np.uint8).submit(1)


@pytest.mark.skipif(not shared_arrays._SHARED.is_dir(), reason="no /dev/shm on this system")
def test_shared_memory_is_counted_before_it_is_written(monkeypatch):
    size = int(np.prod(SHAPE)) * 8
    free = shutil.disk_usage(shared_arrays._SHARED)._replace(free=2 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    fillers = Fillers(multiply, 1, SHAPE, np.int64)
    held = [fillers.submit(1), fillers.submit(2)]
    with pytest.raises(CaptioningError, match=f"expected {3 * size} bytes.*found {2 * size}"):
        fillers.submit(3)
    assert held[1].result()[0][0, 1] == 2


def test_nothing_outlives_a_killed_main_process_and_nothing_is_said_of_it(tmp_path):
    (tmp_path / "script.py").write_text(
        "import os, signal\n"
        "import numpy as np\n"
        "from captioning.runtime.shared_arrays import Fillers\n"
        "from tests.test_shared_arrays import SHAPE, multiply\n"
        "if __name__ == '__main__':\n"
        "    fillers = Fillers(multiply, 1, SHAPE, np.int64)\n"
        "    print(fillers.submit(1).result()[1], fillers._made[0].name, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (-signal.SIGKILL, "")
    worker, memory = run.stdout.split()
    assert within_10_seconds(ProcessLookupError, lambda: os.kill(int(worker), 0))
    assert within_10_seconds(FileNotFoundError, lambda: SharedMemory(memory).close())


def within_10_seconds(error: type[Exception], call) -> bool:
    """Whether a call comes to raise `error`."""
    for _ in range(100):
        try:
            call()
        except error:
            return True
        time.sleep(0.1)
    return False
