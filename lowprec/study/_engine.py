"""The units of a study, one setting on one part each: looked up, computed here or by an executor, kept."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import pickle
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from lowprec.study import _registry
from lowprec.study._cache import Identity, StudyCache, identity, plain
from lowprec.study._extras import require

_UNPACKING = Lock()
_Found = Generator[tuple[int, dict[str, Any]], None, None]
_KINDS = (TypeError, ValueError, ImportError, MemoryError, OSError)


class Unit(NamedTuple):
    """One setting on one part of a workload.

    Parameters
    ----------
    setting : Arithmetic
        How it computes, or what a workload has in its place.
    part : int
        Index of the part.
    label : str
        Workload, setting and part, for people.
    key : str
        What its numbers depend on, beside the library and the CPU.
    """

    setting: Any
    part: int
    label: str
    key: str


class Outcome(NamedTuple):
    """What all units gave.

    Parameters
    ----------
    values : list of dict
        In the order of the units.
    cached : int
        How many were there already.
    """

    values: list[dict[str, Any]]
    cached: int


@dataclass(frozen=True)
class Parcel:
    """Something on its way to another process, unpacked there once.

    Parameters
    ----------
    digest : str
        Hash of its content.
    content : bytes
        A pickle.
    """

    digest: str
    content: bytes = field(compare=False, repr=False)

    @classmethod
    def of(cls, thing: Any, what: str) -> Parcel:
        """Pack something.

        Parameters
        ----------
        thing : object
            What is to travel.
        what : str
            What errors call it.

        Returns
        -------
        Parcel
            By `cloudpickle` where Dask has loaded it, which takes what the main module defines; else by `pickle`.

        Raises
        ------
        TypeError
            If it cannot be pickled.
        """
        cloud = sys.modules.get("cloudpickle")
        try:
            content = (cloud or pickle).dumps(thing)
        except Exception as error:
            msg = (
                f"{what} must be something that can be pickled to go to other processes, got a "
                f"{type(thing).__name__} that cannot ({error}); define what it consists of at the top of a module, or "
                "run without `executor` or with a ThreadPoolExecutor."
            )
            raise TypeError(msg) from error
        return cls(hashlib.sha256(content).hexdigest(), content)


class _Named(NamedTuple):
    """A workload that travels by its name, with the fingerprint that it must have where it arrives."""

    name: str
    options: dict[str, Any]
    fingerprint: str


@lru_cache(maxsize=2)
def _workload(parcel: Parcel) -> Any:
    """Unpack a workload, and keep it for the next units."""
    thing = pickle.loads(parcel.content)
    if not isinstance(thing, _Named):
        return thing
    made = _registry.workload(thing.name, **thing.options)
    if made.fingerprint() != thing.fingerprint:
        msg = (
            f"`workload` {thing.name!r} must be the same for all workers; here its files, options or packages differ "
            "from those where the study runs."
        )
        raise ValueError(msg)
    return made


@lru_cache(maxsize=64)
def _setting(parcel: Parcel) -> Any:
    """Unpack a setting."""
    return pickle.loads(parcel.content)


def _evaluate(workload: Any, setting: Any, part: int) -> dict[str, Any]:
    """Return the numbers of one unit as they are kept."""
    value = workload.evaluate(setting, part)
    if not isinstance(value, Mapping):
        msg = f"`evaluate` must return a dict, got {type(value).__name__}."
        raise TypeError(msg)
    try:
        return dict(plain(value))
    except TypeError as error:
        msg = f"`evaluate` must return what JSON holds: {error}"
        raise TypeError(msg) from None


def _work(workload: Parcel, setting: Parcel, part: int) -> tuple[Identity, dict[str, Any]]:
    """Compute one unit in another process, and say who did."""
    with _UNPACKING:  # a worker with several threads loads the workload once
        chosen = _workload(workload)
    return identity(), _evaluate(chosen, _setting(setting), part)


def key_of(workload: Any, setting: Any, part: int) -> str:
    """Return what the numbers of a unit depend on, beside the library and the CPU.

    Parameters
    ----------
    workload : Workload
        Its fingerprint; and its own source if its class is not of this package.
    setting : Arithmetic
        Its key: all parameters of its formats, of its accumulator, and the rest.
    part : int
        Index of the part.

    Returns
    -------
    str
        A hash, in hexadecimal digits.

    Raises
    ------
    ValueError
        As `Arithmetic.key`.
    """
    kind: Any = type(workload)
    content = [_source(kind), workload.fingerprint(), setting.key(), part, str(workload.parts[part])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@lru_cache(maxsize=64)
def _source(kind: Any) -> str:
    """Return the name of a class, with the hash of the files that define it and its bases outside this package."""
    digest = hashlib.sha256()
    for each in kind.__mro__:
        digest.update(f"{each.__module__}.{each.__qualname__} ".encode())
        if each.__module__.partition(".")[0] in ("lowprec", "builtins", "abc", "typing"):
            continue
        with contextlib.suppress(OSError, TypeError):
            file = inspect.getsourcefile(each)
            known = file is not None and Path(file).is_file()
            digest.update(Path(str(file)).read_bytes() if known else inspect.getsource(each).encode())
    return digest.hexdigest()


def check_executor(executor: Any) -> Executor | None:
    """Refuse what is no executor, and say what makes one.

    Parameters
    ----------
    executor : object
        What the user gave.

    Returns
    -------
    Executor or None
        The same.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if executor is None or isinstance(executor, Executor):
        return executor
    mends = {"Client": "client.get_executor()", "int": f"ProcessPoolExecutor({executor})"}
    mend = mends.get(type(executor).__name__, "ProcessPoolExecutor()")
    msg = f"`executor` must be a concurrent.futures.Executor, got {type(executor).__name__}; such as {mend}."
    raise TypeError(msg)


class _Study:
    """One run: what is known, what is missing, and where new numbers go."""

    def __init__(self, units: Sequence[Unit], cache: StudyCache | None) -> None:
        self.units = units
        self.cache = cache
        self.who = identity()
        self.values: list[dict[str, Any] | None] = []
        self.look()

    def look(self) -> None:
        """See what is there."""
        self.values = [None if self.cache is None else self.cache.get(self.who, unit.key) for unit in self.units]
        self.cached = len(self.units) - len(self.missing)

    @property
    def missing(self) -> list[int]:
        """Indices of the units that are to be computed."""
        return [index for index, value in enumerate(self.values) if value is None]

    def done(self, index: int, value: dict[str, Any]) -> None:
        """Take and keep the numbers of a unit."""
        self.values[index] = value
        if self.cache is not None:
            unit = self.units[index]
            about = {"unit": unit.label, "software": self.who.software, "cpu": self.who.cpu}
            self.cache.put(self.who, unit.key, value, about)

    def state(self) -> str:
        """Say how far the run has come, and what to do to go on."""
        here = len(self.units) - len(self.missing)
        kept = "kept; run the same study again to go on" if self.cache else "lost, since there is no cache"
        return f"{here} of {len(self.units)} parts are done and {kept}"


def run(
    workload: Any,
    units: Sequence[Unit],
    *,
    named: tuple[str, Mapping[str, Any]] | None,
    cache: StudyCache | None,
    executor: Executor | None,
    progress: bool,
) -> Outcome:
    """Return the numbers of all units, computed or looked up, the same whoever computes them.

    Parameters
    ----------
    workload : Workload
        What runs.
    units : sequence of Unit
        Each another one.
    named : tuple, optional
        Name and options, if the workload was made from them: it then travels as these.
    cache : StudyCache, optional
        Where numbers are kept.
    executor : concurrent.futures.Executor, optional
        What computes; this thread if not given.
    progress : bool
        Whether a bar runs on standard error.

    Returns
    -------
    Outcome
        In the order of the units.

    Raises
    ------
    RuntimeError
        If the executor breaks, or its workers are not alike.
    TypeError
        If something cannot travel to another process.
    Exception
        What a unit raises, as an error of the same kind that names workload, setting and part.
    """
    study = _Study(units, cache)
    remote = executor if study.missing else None
    if remote is not None and not isinstance(remote, ThreadPoolExecutor):
        with _broken(study):
            study.who = remote.submit(identity).result()
        if study.who != identity():
            study.look()
    _check_software(study.who, identity())
    missing = study.missing
    bar = None
    if progress:
        bar = require("tqdm", "A progress bar").tqdm(
            total=len(units), initial=study.cached, desc=workload.name, unit="part"
        )
    found = _here(study, workload, missing, bar) if remote is None else _there(study, workload, named, remote)
    try:
        with contextlib.closing(found):  # so that what is pending is cancelled, whatever ends the loop
            for index, value in found:
                study.done(index, value)
                if bar is not None:
                    bar.update()
    finally:
        if bar is not None:
            bar.close()
    return Outcome([value for value in study.values if value is not None], study.cached)


def _here(study: _Study, workload: Any, missing: list[int], bar: Any) -> _Found:
    """Compute in this thread."""
    for index in missing:
        unit = study.units[index]
        if bar is not None:
            bar.set_postfix_str(unit.label.removeprefix(f"{workload.name}, "), refresh=True)
        try:
            value = _evaluate(workload, unit.setting, unit.part)
        except Exception as error:
            raise _named_error(unit, error) from error
        yield index, value


def _there(study: _Study, workload: Any, named: tuple[str, Mapping[str, Any]] | None, executor: Executor) -> _Found:
    """Compute in an executor, in whatever order it likes."""
    futures: dict[Future[tuple[Identity, dict[str, Any]]], int] = {}
    taken = set()
    try:
        with _broken(study):
            for index, call in _calls(study, workload, named, executor):
                futures[executor.submit(*call)] = index
            for future in as_completed(futures):
                index = futures[future]
                who, value = _result(future, study.units[index])
                if who != study.who:
                    _check_software(who, study.who)
                    msg = (
                        f"`executor` must have workers on CPUs of one kind, since NumPy's functions differ in their "
                        f"last bits between kinds, got {study.who.cpu} and {who.cpu}."
                    )
                    raise RuntimeError(msg)
                taken.add(future)
                yield index, value
    except BaseException:
        for future in futures:
            future.cancel()
        for future, index in futures.items():  # what came in while the others were waited for is kept too
            if future not in taken and future.done() and not future.cancelled() and future.exception() is None:
                who, value = future.result()
                if who == study.who:
                    with contextlib.suppress(OSError):
                        study.done(index, value)
        raise


def _calls(
    study: _Study, workload: Any, named: tuple[str, Mapping[str, Any]] | None, executor: Executor
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield what is to be submitted."""
    if isinstance(executor, ThreadPoolExecutor):
        for index in study.missing:
            unit = study.units[index]
            yield index, (_work_in_thread, workload, unit.setting, unit.part)
        return
    thing = workload if named is None else _Named(named[0], dict(named[1]), workload.fingerprint())
    parcel = Parcel.of(thing, "`workload`")
    settings: dict[Any, Parcel] = {}
    for index in study.missing:
        unit = study.units[index]
        if unit.setting not in settings:
            settings[unit.setting] = Parcel.of(unit.setting, f"The setting {unit.setting.label!r}")
        yield index, (_work, parcel, settings[unit.setting], unit.part)


def _work_in_thread(workload: Any, setting: Any, part: int) -> tuple[Identity, dict[str, Any]]:
    """Compute one unit in another thread."""
    return identity(), _evaluate(workload, setting, part)


def _result(future: Future[tuple[Identity, dict[str, Any]]], unit: Unit) -> tuple[Identity, dict[str, Any]]:
    """Return what a future holds; errors name the unit."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError):
        raise
    except Exception as error:
        raise _named_error(unit, error) from error


def _named_error(unit: Unit, error: Exception) -> Exception:
    """Return an error of the same kind that says which unit failed."""
    kind: type[Exception] = next((kind for kind in _KINDS if isinstance(error, kind)), RuntimeError)
    text = str(error) if kind is not RuntimeError else f"{type(error).__name__}: {error}".removeprefix("RuntimeError: ")
    return kind(f"{unit.label}: {text or type(error).__name__}")


@contextlib.contextmanager
def _broken(study: _Study) -> Iterator[None]:
    """Say what has become of a run whose executor breaks."""
    try:
        yield
    except (BrokenExecutor, CancelledError) as error:
        msg = (
            f"`executor` broke ({type(error).__name__}: {str(error).rstrip('.') or 'its work was cancelled'}); "
            f"{study.state()}. A process that ends at once is one without `if __name__ == '__main__':` around the "
            "study; one that ends later has often run out of memory."
        )
        raise RuntimeError(msg) from error
    except RuntimeError as error:
        if "cannot schedule new futures" not in str(error):
            raise
        msg = f"`executor` must be one that still takes work, got one that is shut down; {study.state()}."
        raise RuntimeError(msg) from error


def _check_software(worker: Identity, own: Identity) -> None:
    """Refuse workers that run another version of something."""
    if worker.software != own.software:
        msg = f"`executor` must have workers with the packages of this process, {own.software}, got {worker.software}."
        raise RuntimeError(msg)
