"""The golden vectors of matrix hardware: where they are, what model each file stands for, and how to compare.

The folder is named by ``LOWPREC_GOLDEN_DIR``; else it is ``golden`` below ``LOWPREC_SHARED``, or below a folder
`shared` beside the repository. Its README.md describes the files; none of them is part of this repository.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec import accumulators as acc

Array = np.ndarray[Any, np.dtype[Any]]

# The files' words for formats. A tf32 is stored in a float32, whose low bits the unit ignores.
FORMATS = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "tf32": "tf32",
    "e5m2": "float8_e5m2",
    "e4m3": "float8_e4m3fn",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "ue8m0": "float8_e8m0fnu",
    "ue4m3": "float8_e4m3fn",
}


def folder() -> Path | None:
    """Return the folder of the golden vectors, or None if there is none."""
    named = os.environ.get("LOWPREC_GOLDEN_DIR")
    if named:
        return Path(named) if Path(named).is_dir() else None
    shared = os.environ.get("LOWPREC_SHARED") or str(Path(__file__).resolve().parents[2] / "shared")
    found = Path(shared) / "golden"
    return found if found.is_dir() else None


def files() -> list[Path]:
    """Return the golden files in the order of their names; skip the test, loudly, if there is no folder."""
    found = folder()
    if found is None:
        pytest.skip(
            "NO GOLDEN VECTORS: set LOWPREC_GOLDEN_DIR to their folder (or LOWPREC_SHARED to the one above `golden`); "
            "without them nothing holds the models of hardware against recorded bits."
        )
    paths = sorted(found.glob("*.npz"))
    assert paths, f"{found} has no .npz files"
    return paths


def names() -> list[Any]:
    """Return the names of the files for `pytest.mark.parametrize`: one marked case if there is no folder."""
    found = folder()
    return [path.stem for path in sorted(found.glob("*.npz"))] if found else ["no golden vectors"]


@dataclass
class Case:
    """One file: what was multiplied and what came out, as codes, and the model that should give it.

    `A` is (N, K) and `B` is (N, K) with `C` and `D` (N,), one dot product per row, unless `is_matmul`: then `A` is
    (M, K), `B` is (K, N), `C` and `D` (M, N). K is a multiple of `instruction_k`; zeros are added where a file leaves
    them out. Codes are as wide as their format; a tf32 has 19 bits. `case` and `disputed` are of `D`'s shape.
    """

    name: str
    meta: dict[str, Any]
    A: Array
    B: Array
    C: Array
    D: Array
    SA: Array | None
    SB: Array | None
    case: Array
    disputed: Array
    model: acc.Accumulator
    formats: tuple[lp.FloatFormat, lp.FloatFormat]
    c_format: lp.FloatFormat
    d_format: lp.FloatFormat
    instruction_k: int
    is_matmul: bool = field(default=False)

    @cached_property
    def nan_by_class(self) -> bool:
        """Whether any NaN is right where a NaN is expected."""
        return self.meta["nan_compare"] == "class"

    def rows(self) -> list[tuple[Any, ...]]:
        """Return (index into D, a, b, c, scales) of every dot product, in plain integers."""
        if self.is_matmul:
            rows, columns = self.A.tolist(), self.B.T.tolist()
            return [((i, j), rows[i], columns[j], int(c), None) for (i, j), c in np.ndenumerate(self.C)]
        scales: Any = [None] * len(self.D)
        if self.SA is not None and self.SB is not None:
            scales = list(zip(self.SA.tolist(), self.SB.tolist(), strict=True))
        return [
            ((i,), *row)
            for i, row in enumerate(zip(self.A.tolist(), self.B.tolist(), self.C.tolist(), scales, strict=True))
        ]

    def sample(self, count: int) -> list[tuple[Any, ...]]:
        """Return about `count` of the rows, spread over the file, from every `case` in it."""
        rows = self.rows()
        kinds = self.case.ravel().tolist()
        chosen = []
        for kind in sorted(set(kinds)):
            own = [row for row, k in zip(rows, kinds, strict=True) if k == kind]
            each = max(1, count // len(set(kinds)))
            chosen += own[:: max(1, -(-len(own) // each))]
        return chosen


def is_nan(codes: Array, fmt: lp.FloatFormat) -> Array:
    """Return which codes of an IEEE format are NaN."""
    magnitude = codes & np.array(2**fmt.magnitude_bits - 1, codes.dtype)
    return magnitude > np.array(fmt.inf_code, codes.dtype)


def mismatches(got: Any, case: Case, where: Any = ...) -> Array:
    """Return which results are wrong: other bits, but for any NaN where the file says that; none where it is disputed.

    `got` are codes in the shape of ``case.D[where]``.
    """
    want = case.D[where]
    codes = np.asarray(got).astype(want.dtype)
    bad = codes != want
    if case.nan_by_class:
        bad &= ~(is_nan(codes, case.d_format) & is_nan(want, case.d_format))
    return bad & ~case.disputed[where]


def model_of(meta: dict[str, Any]) -> acc.Accumulator:
    """Return the model that a file's facts name."""
    params = meta.get("params") or {}
    word = meta.get("algorithm") or params["algorithm"]
    out = FORMATS[meta["d_fmt"]]
    length = min(params.get("L", meta["K"]), meta["K"])
    match word:
        case "fma_chain":
            return acc.Sequential(out)
        case "fma_pair_odd_first":
            return acc.FmaPairOddFirst()
        case "amx_even_odd":
            return acc.EvenOddPair(meta["K"])
        case "arm_bfdot_ro":
            return acc.BfDotRoundOdd()
        case "arm_bfdot_fused":
            return acc.BfDotFused()
        case "fused_trunc":
            return acc.FusedTruncated(
                length,
                params["F"],
                out,
                params["rho"],
                exponent_floor=params["e_zero"],
                c_format=FORMATS[meta["c_fmt"]],
            )
        case "fused_trunc_scale":
            return acc.FusedTruncatedScaled(params["L"], params["F"], params["e_zero"])
        case "fused_trunc_group_scale":
            return acc.FusedTruncatedGroupScaled(
                params["L"], params["G"], params["F"], params["e_zero"], meta["scale_block"], FORMATS[meta["scale_fmt"]]
            )
        case "fused_exact":
            return acc.FusedExact(params["L"])
        case "ftz_pairwise":
            return acc.FlushedPairwise(params["P"])
        case "fused_trunc_late_c_rd" | "fused_trunc_evenodd_late_c_rd":
            return acc.FusedTruncatedLateC(params["L"], params["F"], params["F2"], even_odd="evenodd" in word)
        case "fp8_via_fp16_hmma":
            return acc.Fp8ViaF16(out)
    msg = f"{meta['name']}: unknown algorithm {word!r}"
    raise ValueError(msg)


def load(path: Path | str) -> Case:
    """Read a file, named by its path or by its name without the ending."""
    if isinstance(path, str):
        found = folder()
        if found is None:
            files()  # skips
        path = found / f"{path}.npz"
    with np.load(path) as stored:
        meta = json.loads(str(stored["meta"]))
        arrays = {key: stored[key] for key in stored.files if key != "meta"}
    is_matmul = "shape" in meta
    for key, word in (("A", meta["a_fmt"]), ("B", meta["b_fmt"])):
        if word == "tf32":
            arrays[key] = arrays[key] >> 13
    spare = -arrays["A"].shape[1] % meta["K"]
    arrays["A"] = np.pad(arrays["A"], ((0, 0), (0, spare)))
    arrays["B"] = np.pad(arrays["B"], ((0, spare), (0, 0)) if is_matmul else ((0, 0), (0, spare)))
    shape = arrays["D"].shape
    return Case(
        name=path.stem,
        meta=meta,
        A=arrays["A"],
        B=arrays["B"],
        C=arrays["C"],
        D=arrays["D"],
        SA=arrays.get("SA"),
        SB=arrays.get("SB"),
        case=arrays.get("case", np.zeros(shape, np.uint8)),
        disputed=arrays.get("disputed", np.zeros(shape, bool)),
        model=model_of(meta),
        formats=(lp.format(FORMATS[meta["a_fmt"]]), lp.format(FORMATS[meta["b_fmt"]])),
        c_format=lp.format(FORMATS[meta["c_fmt"]]),
        d_format=lp.format(FORMATS[meta["d_fmt"]]),
        instruction_k=meta["K"],
        is_matmul=is_matmul,
    )
