"""A plain thread pool: kernels release the GIL, the calling thread does its share, the number never changes bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock


class _Pool:
    """Worker threads, made when first needed, and made anew after a fork or a change of their number."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop the workers (after a fork they do not exist in the child)."""
        self.lock = Lock()
        self.executor: ThreadPoolExecutor | None = None
        self.size = 0

    def get(self, size: int) -> ThreadPoolExecutor:
        """Return an executor of at least ``size`` workers."""
        with self.lock:
            if self.executor is None or self.size < size:
                if self.executor is not None:
                    self.executor.shutdown(wait=False)
                self.executor, self.size = ThreadPoolExecutor(size, thread_name_prefix="lowprec"), size
            return self.executor


class _Limit:
    """The number of threads that a call may use; None until asked for."""

    threads: int | None = None


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


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
    executor = _pool.get(workers - 1)
    helpers: list[Future[object]] = []
    try:
        for _ in range(workers - 1):
            helpers.append(executor.submit(task))
    except RuntimeError:  # the interpreter is shutting down, or another thread replaced the pool: go on with fewer
        pass
    try:
        task()
    finally:
        running = [helper for helper in helpers if not helper.cancel()]
        _wait_for_all(running)
    for helper in running:
        helper.result()


def _wait_for_all(running: list[Future[object]]) -> None:
    """Wait until no helper writes any more, then pass on an interrupt that came meanwhile."""
    interrupt: BaseException | None = None
    while True:
        try:
            wait(running)
            break
        except BaseException as error:  # noqa: BLE001 - a helper still holds the caller's arrays
            interrupt = error
    if interrupt is not None:
        raise interrupt


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
