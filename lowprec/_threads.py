"""A plain thread pool: kernels release the GIL, the calling thread does its share, the number never changes bits."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import cast


class _Crew:
    """Daemon threads that run what is put in their queue; hired when first needed, and anew after a fork."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop the threads (after a fork they do not exist in the child)."""
        self.lock = Lock()
        self.queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.size = 0
        self.ids: list[int] = []
        self.avoided = -1

    def hire(self, size: int) -> None:
        """See that there are at least ``size`` threads."""
        if self.size >= size:
            return
        with self.lock:
            while self.size < size:
                thread = Thread(target=self.work, args=(self.queue,), name="lowprec", daemon=True)
                thread.start()
                self.size += 1
                self.ids.append(thread.native_id or 0)
                self.avoided = -1

    def avoid(self, cpu: int) -> None:
        """Keep the threads off a CPU, that of their caller.

        Linux often wakes a thread on the CPU of the one that woke it, where it then waits, for the milliseconds that
        a product takes, while another CPU is idle.
        """
        if cpu < 0 or cpu == self.avoided:
            return
        self.avoided = cpu
        elsewhere = os.sched_getaffinity(0) - {cpu}
        for thread in self.ids if elsewhere else ():
            try:
                os.sched_setaffinity(thread, elsewhere)
            except OSError:  # not permitted here
                return

    @staticmethod
    def work(queue: SimpleQueue[Callable[[], None]]) -> None:
        """Run tasks for ever."""
        while True:
            queue.get()()


def _find_current_cpu() -> Callable[[], int]:
    """Return the function that tells which CPU the calling thread is on; -1 where the system does not say."""
    if sys.platform.startswith("linux"):
        function = getattr(ctypes.CDLL(None), "sched_getcpu", None)
        if function is not None:
            return cast("Callable[[], int]", function)
    return lambda: -1


_current_cpu = _find_current_cpu()


class _Party:
    """A task that several threads may join until it is closed; whoever closes it waits for those inside.

    Only the main thread is ever interrupted (by Ctrl-C), so a helper that has entered also leaves.
    """

    def __init__(self, task: Callable[[], object]) -> None:
        self.task = task
        self.lock = Lock()
        self.inside = 0
        self.closed = False
        self.left: SimpleQueue[None] = SimpleQueue()
        self.failures: list[BaseException] = []

    def __call__(self) -> None:
        """Join, unless it is too late."""
        with self.lock:
            if self.closed:
                return
            self.inside += 1
        try:
            self.task()
        except BaseException as error:
            self.failures.append(error)
        with self.lock:
            self.inside -= 1
        self.left.put(None)

    def close(self) -> None:
        """Let nobody in any more, and wait until all have left. To be called again if it is interrupted."""
        with self.lock:
            self.closed = True
            inside = self.inside
        while inside:
            self.left.get()
            with self.lock:
                inside = self.inside


class _Limit:
    """The number of threads that a call may use; None until asked for."""

    threads: int | None = None


_crew = _Crew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_crew.forget)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int
        What `set_num_threads` set last, else the number of CPUs this process may run on.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.get_num_threads() >= 1
    True
    """
    if _Limit.threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        _Limit.threads = max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
    return _Limit.threads


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, in the whole process. No result depends on it.

    Parameters
    ----------
    n : int
        At least 1, the calling thread included.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is below 1 or above 1024.

    Examples
    --------
    >>> import lowprec as lp
    >>> before = lp.get_num_threads()
    >>> lp.set_num_threads(1)
    >>> lp.get_num_threads()
    1
    >>> lp.set_num_threads(before)
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        msg = f"`n` must be an integer, got {n!r} of type {type(n).__name__}; pass how many threads a call may use."
        raise TypeError(msg)
    if not 1 <= n.__index__() <= 1024:
        msg = f"`n` must be from 1 to 1024, got {n}; pass 1 to stay on the calling thread."
        raise ValueError(msg)
    _Limit.threads = n.__index__()


def share(task: Callable[[], object], workers: int) -> None:
    """Run ``task`` on the calling thread and on up to ``workers - 1`` others, and return when all have ended.

    The task must claim its work piece by piece, so that it is complete whoever comes or does not come.

    Parameters
    ----------
    task : callable
        Claims pieces of work until none is left.
    workers : int
        How many threads may take part, the calling thread included.

    Raises
    ------
    BaseException
        What a task raised, after all have ended.
    """
    if workers <= 1:
        task()
        return
    party = _Party(task)
    failures: list[BaseException] = []
    try:
        _crew.hire(workers - 1)
        _crew.avoid(_current_cpu())
        for _ in range(workers - 1):
            _crew.queue.put(party)
        task()
    except BaseException as error:
        failures.append(error)
    while True:
        try:
            party.close()
            break
        except BaseException as error:  # an interrupt: helpers still write to the caller's arrays, so wait on
            failures.append(error)
    for failure in failures + party.failures:
        raise failure


class Pieces:
    """Hands out the numbers 0 to count - 1, each once, to whichever thread asks."""

    def __init__(self, count: int) -> None:
        self._numbers = iter(range(count))
        self._lock = Lock()

    def __iter__(self) -> Pieces:
        """Return itself: all threads share one iterator."""
        return self

    def __next__(self) -> int:
        """Return the next number."""
        with self._lock:
            return next(self._numbers)
