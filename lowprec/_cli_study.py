"""The command `lowprec study`: a workload in many arithmetics, as a table, figures, CSV and a page."""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lowprec import _text_tables as tables
from lowprec._threads import set_num_threads
from lowprec.study import _extras, _registry
from lowprec.study.plots import KINDS
from lowprec.study.result import StudyResult
from lowprec.study.sweep import study

_MOST_WORKERS = 512


def add(commands: Any) -> None:
    """Add the subcommand to the parsers of the command.

    Parameters
    ----------
    commands : argparse's subparsers
        Where to add it.

    Raises
    ------
    Nothing.
    """
    parser = commands.add_parser(
        "study",
        help="what each format costs a model",
        description="Run a workload in every combination of formats, accumulators, weight formats, sparsity and "
        "scales; print a table, and save it with figures. Numbers are kept on disk: a study that was stopped goes on "
        'where it was. Needs: pip install "lowprec[study]".',
    )
    parser.add_argument("name", nargs="?", metavar="WORKLOAD", help="default: digits; see --list")
    parser.add_argument("--workload", metavar="WORKLOAD", help="the same")
    parser.add_argument("--list", action="store_true", help="print the workloads and leave")
    many = parser.add_argument_group("the grid; several values with spaces or commas, none for as by default")
    many.add_argument("--dtypes", nargs="+", metavar="FORMAT", help="bf16, e4m3fn/exact, nvidia-hopper:e4m3fn, mxfp4")
    many.add_argument("--accumulators", nargs="+", metavar="ACC", help="as in lowprec.matmul, each with every format")
    many.add_argument("--weights", nargs="+", metavar="RULE", help="of stored weights: int4/32, gptq:int4/128, nf4")
    many.add_argument("--sparsity", nargs="+", metavar="PATTERN", help="of weights: 2:4, '2:4 wanda'")
    many.add_argument("--scales", nargs="+", metavar="RULE", help="none, tensor, row, power_of_two, auto")
    many.add_argument("--no-scale", action="store_true", help="the same as --scales none")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--option",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="of the workload, such as K=64,256",
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: this one)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cache-dir", type=Path, metavar="DIR", help="where numbers are kept")
    where.add_argument("--no-cache", action="store_true", help="keep no numbers, and use none")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.add_argument(
        "--plot", nargs="+", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all that the table allows)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("lowprec-study"),
        metavar="DIR",
        help="folder for study.csv, study.html, study.png and one study_KIND.png for each further figure "
        "(default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run a study, print its table, and save it.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    ImportError
        If a package is missing.
    OSError
        If a file cannot be written.
    """
    if options.list:
        rows = [[name, about] for name, about in _registry.describe().items()]
        tables.show(tables.Table(["<workload", "<what it is"], rows))
        return
    name = _name(options)
    _check(options, name)
    start = time.perf_counter()
    with _pool(options.workers) as executor:
        result = study(
            name,
            _split(options.dtypes),
            _split(options.accumulators),
            weights=_split(options.weights),
            sparsity=_split(options.sparsity),
            scales="none" if options.no_scale else _split(options.scales, none="none"),
            seed=options.seed,
            cache=False if options.no_cache else options.cache_dir or True,
            executor=executor,
            progress=not options.no_progress,
            **_options(options.option),
        )
    seconds = time.perf_counter() - start
    result.show()
    written = _save(result, options)
    kept = f", {result.cached} of {result.cached + result.computed} units from the cache" if result.cached else ""
    print(f"Ran in {seconds:.1f} s{kept}. Saved {', '.join(map(str, written))}.")


def _name(options: argparse.Namespace) -> str:
    """Return the name of the workload."""
    if options.name and options.workload and options.name != options.workload:
        msg = f"`--workload` must be named once, got {options.name!r} and {options.workload!r}."
        raise ValueError(msg)
    return str(options.name or options.workload or "digits")


def _check(options: argparse.Namespace, name: str) -> None:
    """Find what is wrong before anything is computed."""
    needed = ["matplotlib", *(["sklearn"] if name == "digits" else []), *([] if options.no_progress else ["tqdm"])]
    for module in needed:
        _extras.require(module, "`lowprec study`")
    if options.no_scale and options.scales:
        msg = f"`--scales` must be left out where --no-scale is given, got {' '.join(options.scales)}."
        raise ValueError(msg)
    if not 0 <= options.workers <= _MOST_WORKERS:
        msg = f"`--workers` must be from 0 to {_MOST_WORKERS}, got {options.workers}."
        raise ValueError(msg)
    for kind in _split(options.plot) or []:
        if kind not in KINDS:
            msg = f"`--plot` must be of {', '.join(KINDS)}, got {kind!r}."
            raise ValueError(msg)
    folder: Path = options.output
    if folder.exists() and not folder.is_dir():
        msg = f"`--output` must be a folder, or a path where one can be made, got the file {str(folder)!r}."
        raise ValueError(msg)
    above = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{str(above)!r} is no folder to write to")


def _unwritable(folder: Path, why: str) -> OSError:
    """Return the error that a folder cannot be made."""
    return OSError(f"`--output` must be a folder that can be written, got {str(folder)!r} ({why}); name another one.")


def _save(result: StudyResult, options: argparse.Namespace) -> list[Path]:
    """Write the table, the page and the figures."""
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror or type(error).__name__) from error
    chosen = _split(options.plot)
    kinds = [kind for kind in result.kinds if chosen is None or kind in chosen]
    missing = [kind for kind in chosen or () if kind not in kinds]
    if missing:
        print(f"lowprec study: no {', '.join(missing)} of such a table", file=sys.stderr)
    written = [result.to_csv(folder / "study.csv"), result.to_html(folder / "study.html")]
    for at, kind in enumerate(kinds):
        written.append(result.plot(folder / ("study.png" if at == 0 else f"study_{kind}.png"), kind))
    return written


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Give processes that share the cores, or none."""
    if not workers:
        yield None
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=set_num_threads, initargs=(threads,))
    try:
        yield pool
    except RuntimeError as error:  # what the study says when workers die
        raise OSError(str(error)) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _split(words: Sequence[str] | None, none: Any = None) -> list[Any] | None:
    """Allow ``a,b`` beside ``a b``; the word none is None."""
    if words is None:
        return None
    parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
    return [none if part.lower() == "none" else part for part in parts]


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of a workload."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            msg = f"`--option` must be KEY=VALUE, got {word!r}."
            raise ValueError(msg)
        if key in found:
            msg = f"`--option` must have each key once, got {key!r} twice."
            raise ValueError(msg)
        if key in _OWN:
            msg = f"`--option` must be an option of the workload, got {key!r}; there is --{_OWN[key]}."
            raise ValueError(msg)
        parts = [_value(part) for part in value.split(",")]
        found[key] = parts[0] if len(parts) == 1 else tuple(parts)
    return found


_OWN = {
    **{name: name for name in ("workload", "dtypes", "accumulators", "weights", "sparsity", "scales", "seed")},
    "scaled": "no-scale",
    "cache": "cache-dir",
    "executor": "workers",
    "progress": "no-progress",
}


def _value(text: str) -> Any:
    """Return a number, True, False or None where the text is one, else the text."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()
    return value if value is None or isinstance(value, (bool, int, float)) else text.strip()
