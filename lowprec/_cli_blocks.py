"""The command `lowprec blocks`: the table of block formats, and what each loses on some numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp
from lowprec import _text_tables as tables
from lowprec._checks import Array

_RULES = ("floor", "ceil", "even", "rceil")
# What users compare block formats with: arguments of `quantize`, and how they are called here.
_OTHERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("int8, a scale per row", "int8", {"axis": 0}),
    ("e4m3fn, a scale per row", "e4m3fn", {"axis": 0}),
    ("int4, groups of 128", "int4", {"axis": -1, "block_size": 128, "scale_dtype": "fp16"}),
    ("int4, groups of 32", "int4", {"axis": -1, "block_size": 32, "scale_dtype": "fp16"}),
)


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
    blocks = commands.add_parser(
        "blocks",
        help="the table of block formats, with what each loses",
        description="Print the table of block formats with bits per element and the signal-to-noise ratio on numbers "
        "drawn here, or on those of a file, in blocks along the last axis.",
    )
    blocks.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a .npy file of floats")
    blocks.add_argument("--size", type=int, default=512, metavar="N", help="draw N x N numbers (default: %(default)s)")
    blocks.add_argument("--seed", type=int, default=0, metavar="S", help="of the numbers (default: %(default)s)")
    blocks.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the file holds no floats.
    """
    data = _drawn(options) if options.file is None else {f"{options.file.name} dB": _loaded(options.file)}
    rows = []
    for fmt in lp.block_formats():
        rules = _RULES if fmt.scale.mantissa_bits == 0 else (None,)
        for rule in rules:
            name = fmt.name if rule is None else f"{fmt.name} {rule}"
            keywords: dict[str, Any] = {} if rule is None else {"scale_rule": rule}
            scale = f"{fmt.scale}{' + offset' if fmt.offset else ''}"
            facts = [name, fmt.element.name, str(fmt.block_size), scale, f"{fmt.bits:g}"]
            rows.append([*facts, *(_told(x, fmt.name, keywords) for x in data.values())])
    for name, fmt_name, keywords in _OTHERS:
        q = [lp.quantize(x, fmt_name, **keywords) for x in data.values()]
        block = str(keywords.get("block_size", "row"))
        facts = [name, q[0].format.name, block, q[0].scale_format.name, f"{8 * q[0].nbytes / q[0].size:.4g}"]
        rows.append([*facts, *(_ratio(x, each) for x, each in zip(data.values(), q, strict=True))])
    notes = [
        "bits: per element, scales included. dB: 10 log10 of the sum of squares over that of the errors.",
        "floor, ceil, even, rceil: how the power of two is found; floor is the default (OCP MX 1.0). See lp.quantize.",
    ]
    columns = ["<format", "<element", "block", "<scale", "bits", *data]
    tables.show(tables.Table(columns, rows, "", notes, optional=["scale"]))


def _drawn(options: argparse.Namespace) -> dict[str, Array]:
    """Return numbers to try the formats on."""
    if not 32 <= options.size <= 8192 or options.size % 32:
        msg = f"`--size` must be a multiple of 32 from 32 to 8192, got {options.size}."
        raise ValueError(msg)
    if options.seed < 0:
        msg = f"`--seed` must be 0 or more, got {options.seed}."
        raise ValueError(msg)
    rng = np.random.default_rng(options.seed)
    normal = rng.standard_normal((options.size, options.size)).astype(np.float32)
    heavy = rng.standard_t(3, (options.size, options.size)).astype(np.float32)
    return {"normal dB": normal, "outliers dB": heavy}


def _loaded(path: Path) -> Array:
    """Return the numbers of a file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"`FILE` must be a .npy file of numbers, got {path}: {error}."
        raise ValueError(msg) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.ndim:
        msg = f"`FILE` must hold an array of floats with an axis, got {getattr(array, 'dtype', type(array).__name__)}."
        raise ValueError(msg)
    return np.atleast_2d(array.astype(np.float32))


def _told(x: Array, fmt: str, keywords: dict[str, Any]) -> str:
    """Return the ratio of a block format, or why there is none."""
    if lp.block_format(fmt).ggml and x.shape[-1] % lp.block_format(fmt).block_size:
        return "no whole blocks"
    return _ratio(x, lp.quantize(x, fmt, **keywords))


def _ratio(x: Array, q: lp.QuantizedArray) -> str:
    """Return the signal-to-noise ratio in dB."""
    wide = x.astype(np.float64)
    noise = float(((q.dequantize(np.float64) - wide) ** 2).sum())
    return f"{10 * np.log10(float((wide**2).sum()) / noise):.1f}" if noise else "exact"
