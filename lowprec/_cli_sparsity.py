"""The command `lowprec sparsity`: what a weight loses by 2:4 sparsity, and what it then takes to store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp
from lowprec._checks import Array


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
    sparsity = commands.add_parser(
        "sparsity",
        help="what a weight loses by 2:4 sparsity",
        description="Print how much of a weight each way to make it 2:4 keeps, and the storage per format: of numbers "
        "drawn here, or of those of a file.",
    )
    sparsity.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a .npy, .npz or .safetensors file with a weight"
    )
    sparsity.add_argument("--name", metavar="NAME", help="which array of the file, where it has several")
    sparsity.add_argument("--axis", type=int, default=-1, metavar="A", help="of the sums (default: %(default)s)")
    sparsity.add_argument(
        "--activations", type=Path, metavar="FILE", help="a .npy file (tokens, inputs): adds output errors"
    )
    sparsity.add_argument("--test", type=Path, metavar="FILE", help="others, to take the errors of")
    sparsity.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="of each search; 0: none (default: %(default)g)"
    )
    sparsity.add_argument(
        "--size", type=int, default=256, metavar="N", help="draw N x N numbers (default: %(default)s)"
    )
    sparsity.add_argument("--seed", type=int, default=0, metavar="S", help="of the numbers (default: %(default)s)")
    sparsity.add_argument("--csv", type=Path, metavar="FILE", help="also write the losses there")
    sparsity.add_argument("--plot", type=Path, metavar="FILE", help="also draw them there")
    sparsity.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the report.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or a file holds no weight.
    ImportError
        If a package for the file, the plot or SparseGPT is missing.
    OSError
        If a file cannot be read or written.
    """
    if not 0 <= options.seconds < np.inf:
        msg = f"`--seconds` must be 0 or more, got {options.seconds}."
        raise ValueError(msg)
    if options.test is not None and options.activations is None:
        msg = "`--test` must come with `--activations`."
        raise ValueError(msg)
    w = _drawn(options) if options.file is None else _loaded(options.file, options.name)
    x, other = (None if path is None else _array(path) for path in (options.activations, options.test))
    report = lp.sparsity_report(
        w, axis=options.axis, activations=x, test_activations=other, permute=options.seconds or False
    )
    report.show()
    if options.csv is not None:
        report.to_csv(options.csv)
    if options.plot is not None:
        report.plot(options.plot)


def _drawn(options: argparse.Namespace) -> Array:
    """Return numbers to try it on."""
    if not 1 <= options.size <= 8192:
        msg = f"`--size` must be from 1 to 8192, got {options.size}."
        raise ValueError(msg)
    if options.seed < 0:
        msg = f"`--seed` must be 0 or more, got {options.seed}."
        raise ValueError(msg)
    return np.random.default_rng(options.seed).standard_normal((options.size, options.size)).astype(np.float32)


def _array(path: Path) -> Array:
    """Return the numbers of a .npy file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"`FILE` must be a .npy file of numbers, got {path}: {error}."
        raise ValueError(msg) from None
    if not isinstance(array, np.ndarray):
        msg = f"`FILE` must be a .npy file of one array, got {path}."
        raise ValueError(msg)
    return array


def _loaded(path: Path, name: str | None) -> Any:
    """Return the weight of a file."""
    if path.suffix not in (".npz", ".safetensors"):
        if name is not None:
            msg = f"`--name` must come with a .npz or .safetensors file, got {path}."
            raise ValueError(msg)
        return _array(path)
    arrays = {key: value for key, value in lp.load(path).items() if getattr(value, "ndim", 0) > 1}
    if name is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if name not in arrays:
        msg = f"`--name` must be one of the arrays with two axes or more of {path}: {', '.join(arrays)}; got {name}."
        raise ValueError(msg)
    return arrays[name]
