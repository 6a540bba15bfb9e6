"""Every golden vector, through `matmul` and `vecdot` as a user calls them."""

from typing import Any

import numpy as np
import pytest

import lowprec as lp
from tests import golden
from tests.golden import Case


def operand(codes: np.ndarray[Any, Any], fmt: lp.FloatFormat) -> np.ndarray[Any, Any]:
    """Return codes as an array that holds them."""
    if fmt.name == "tf32":
        return (codes.astype(np.uint32) << 13).view(np.float32)
    assert fmt.storage_dtype is not None
    return np.ascontiguousarray(codes.astype(fmt.code_dtype)).view(fmt.storage_dtype)


def arguments(case: Case) -> dict[str, Any]:
    """Return the keyword arguments of a product that a file records."""
    formats = tuple(fmt.name for fmt in case.formats)
    wanted: dict[str, Any] = {"accumulator": case.model}
    if "tf32" in formats:
        wanted |= {"dtype": formats, "rounding": "toward_zero"}
    if case.d_format.name == "float16":
        wanted["out_dtype"] = "fp16"
    return wanted


def bits(result: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the codes of a result."""
    return np.ascontiguousarray(result).view(f"u{result.dtype.itemsize}")


def scaled(codes: Any, scales: Any, case: Case, side: int) -> Any:
    """Return an operand with its scales along the last axis."""
    scale = lp.format(golden.FORMATS[case.meta["scale_fmt"]])
    own = case.formats[side]
    return lp.QuantizedArray(
        codes.astype(own.code_dtype), operand(scales, scale), format=own, axis=-1, block_size=case.meta["scale_block"]
    )


@pytest.mark.parametrize("name", golden.names())
def test_a_golden_file(name: str) -> None:
    case = golden.load(name)
    a, b = (operand(x, fmt) for x, fmt in zip((case.A, case.B), case.formats, strict=True))
    c = operand(case.C, case.c_format)
    if case.is_matmul:
        result = lp.matmul(a, b, c=c, **arguments(case))
    elif case.SA is not None:
        result = lp.vecdot(scaled(case.A, case.SA, case, 0), scaled(case.B, case.SB, case, 1), c=c, **arguments(case))
    else:
        result = lp.vecdot(a, b, c=c, **arguments(case))
    bad = golden.mismatches(bits(result), case)
    where = np.argwhere(bad)[:3].tolist()
    kinds = {case.meta["cases"][k]: int(bad[case.case == k].sum()) for k in np.unique(case.case)} if bad.any() else {}
    shown = [(hex(int(bits(result)[tuple(i)])), hex(int(case.D[tuple(i)]))) for i in where]
    assert not bad.any(), f"{int(bad.sum())} of {bad.size} wrong, by case {kinds}; first, got and want: {shown}"


@pytest.mark.parametrize(
    "name", [n for n in golden.names() if str(n).startswith(("chain_nv", "matmul_amd", "nv_hopper"))]
)
def test_the_same_bits_in_any_layout(name: str) -> None:
    """A whole matrix product of all rows of a and of b has the dot products on its diagonal."""
    case = golden.load(name)
    if case.is_matmul:
        pytest.skip("holds a matrix product already")
    count = min(len(case.A), 40)
    rows = np.linspace(0, len(case.A) - 1, count).astype(int)
    a, b = (operand(x[rows], fmt) for x, fmt in zip((case.A, case.B), case.formats, strict=True))
    c = np.zeros((count, count), case.c_format.storage_dtype)
    np.fill_diagonal(c, operand(case.C[rows], case.c_format))
    result = np.diagonal(lp.matmul(a, np.asfortranarray(b.T), c=c, **arguments(case)))
    assert not golden.mismatches(bits(result), case, rows).any()
