"""Arrays that other processes fill, and that arrive here without a copy."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from captioning.runtime.errors import CaptioningError

_SHARED = Path("/dev/shm")  # where Linux keeps shared memory; containers often make it small


class Fillers:
    """Processes that fill arrays of one shape and type.

    An array's memory is used again when nothing refers to the array any longer: neither it nor a
    view of it, whoever holds it.
    """

    def __init__(
        self, fill: Callable[..., Any], processes: int, shape: tuple[int, ...], dtype: type
    ):
        """
        Args:
            fill: gets the array and what `submit` was given; picklable, as is what it returns.
            processes: how many, at least 1.
            shape, dtype: of the arrays.
        """
        _start_tracker()
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._free: list[SharedMemory] = []
        self._made: list[SharedMemory] = []
        # nothing is taken before it is written: what was free at the start is shared out here
        self._room = shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else float("inf")
        self._executor = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _begin, (fill, shape, self.dtype)
        )
        weakref.finalize(self, _end, self._executor, self._made)

    def submit(self, *arguments) -> "Filling":
        """Have an array filled: `fill(array, *arguments)`.

        Raises:
            CaptioningError: if there is no shared memory left for it, or a process was killed.
        """
        memory = self._free.pop() if self._free else self._allocate()
        with _killed_said():
            future = self._executor.submit(_fill, memory.name, arguments)
        return Filling(self, memory, future)

    def _allocate(self) -> SharedMemory:
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        needed = (len(self._made) + 1) * size
        if needed > self._room:
            raise CaptioningError(  # else a write would end the process
                f"expected {needed} bytes of shared memory in {_SHARED}, found {self._room}; give "
                "the container more (docker run --shm-size=2g), or take smaller batches"
            )
        memory = SharedMemory(create=True, size=size)
        self._made.append(memory)
        return memory


class Filling:
    """An array that is being filled."""

    def __init__(self, fillers: Fillers, memory: SharedMemory, future: Future):
        self.fillers, self.memory, self.future = fillers, memory, future

    def result(self) -> tuple[np.ndarray, Any]:
        """The array, and what `fill` returned or raised; waits for it. To be called once.

        Raises:
            CaptioningError: if a process was killed.
        """
        loan = _Loan(self.memory, self.fillers.shape, self.fillers.dtype)
        weakref.finalize(loan, self.fillers._free.append, self.memory).atexit = False
        with _killed_said():
            return np.asarray(loan), self.future.result()


class _Loan:
    """What an array on shared memory refers to as its base, and so keeps alive."""

    def __init__(self, memory: SharedMemory, shape: tuple[int, ...], dtype: np.dtype):
        self.__array_interface__ = _array(memory, shape, dtype).__array_interface__


@contextlib.contextmanager
def _killed_said() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise CaptioningError(
            "a process that prepared batches has ended before its time, most often for want of "
            "memory; take smaller batches"
        ) from None


def _start_tracker() -> None:
    """Start the process by which Python frees what an interrupted one leaves, without warnings."""
    if os.name != "posix":
        return  # where the system itself frees
    from multiprocessing import resource_tracker

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _array(memory: SharedMemory, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.ndarray(shape, dtype, memory.buf)


def _end(executor: ProcessPoolExecutor, made: list[SharedMemory]) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    for memory in made:  # the arrays that are still in use stay usable
        memory.unlink()


_here: dict[str, Any] = {}  # in a process of the pool: how to fill, and the memory seen so far


def _begin(fill: Callable[..., Any], shape: tuple[int, ...], dtype: np.dtype) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
    threading.Thread(target=_follow, daemon=True).start()
    _here.update(fill=fill, shape=shape, dtype=dtype, memory={})


def _follow() -> None:
    """End with the main process, even if that was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _fill(name: str, arguments: tuple) -> Any:
    known = _here["memory"]
    if name not in known:
        known[name] = SharedMemory(name)
    return _here["fill"](_array(known[name], _here["shape"], _here["dtype"]), *arguments)
