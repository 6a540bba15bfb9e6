"""Products by pairs of k on the CPU's own instructions, where those give the bits of x86's VDPBF16PS.

The ways: "vdpbf16ps" is the instruction itself; "fma" is two fused multiply-adds of an x86 CPU without it, and is right
for every format within float32; "portable" is "fma" on operands packed as for the instruction, for tests; "0" is none
of them, so that the emulation in `lowprec.kernels.pairs` is left. The variable LOWPREC_NATIVE forces one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cache, cached_property, lru_cache
from typing import cast

import llvmlite.binding as llvm

from lowprec import _jit, _product
from lowprec._checks import Array
from lowprec._plan import Kernels, Plan, Side, lanes
from lowprec.accumulators import FmaPairOddFirst
from lowprec.formats import FloatFormat
from lowprec.formats import format as resolve
from lowprec.kernels import convert, native, pack, tile

WAYS = ("vdpbf16ps", "portable", "fma", "0")


@cache
def can() -> tuple[str, ...]:
    """Return the ways that this CPU can go, the best first."""
    found, wide = _jit.cpu_features(), lanes()
    if not {"fma", "avx2"} <= found or wide not in ("16", "8"):
        return ("0",)
    return WAYS if wide == "16" and "avx512bf16" in found else WAYS[1:]


@cache
def way() -> str:
    """Return the way to go; the variable LOWPREC_NATIVE forces one."""
    forced = os.environ.get("LOWPREC_NATIVE")
    if forced is None:
        return next(each for each in can() if each != "portable")
    if forced not in can():
        msg = f"the variable `LOWPREC_NATIVE` must be one of {', '.join(can())} on this CPU, got {forced!r}."
        raise ValueError(msg)
    return forced


@dataclass(frozen=True, eq=False)
class _NativePlan(Plan):
    """A plan with kernels of a way."""

    way: str = "fma"

    @cached_property
    def kernels(self) -> Kernels:
        """The compiled kernels."""
        llvm.initialize_native_asmparser()
        wide = lanes()
        packer = pack.pack if self.way == "fma" else native.pack_pairs
        return Kernels(
            _jit.address(native.TILES[self.way, wide], tile.SIGNATURE),
            _jit.address(packer, pack.SIGNATURE),
            _converter(self.a),
            _converter(self.b),
            tile.SHAPES[wide, 4],
        )


def _is_bfloat16(side: Side) -> bool:
    """Say whether an operand is taken as it is, in bfloat16."""
    return bool(side.fmt == side.own == resolve("bfloat16"))


def _converter(side: Side) -> int:
    """Return the address of an operand's converter to float32."""
    if _is_bfloat16(side):
        return _jit.address(native.bfloat16_single, convert.SIGNATURE)
    return _jit.address(convert.CONVERTERS[side.kind, 4], convert.SIGNATURE)


def _as_it_is(side: Side) -> Side:
    """Return how a float32 operand is read: unchanged, NaN too, if that is its format."""
    if side.kind == "float32" and side.fmt == resolve("float32"):
        return side._replace(numbers=(*side.numbers[:2], convert.EXACT, 0))
    return side


def _within_bfloat16(fmt: FloatFormat) -> bool:
    """Say whether bfloat16 holds every number of a format."""
    wide = cast(FloatFormat, resolve("bfloat16"))
    smallest = fmt.smallest_subnormal if fmt.has_zero else fmt.min
    return fmt.precision <= wide.precision and wide.smallest_subnormal <= smallest and fmt.max <= wide.max


@lru_cache(maxsize=256)
def _native_plan(plan: Plan, chosen: str) -> _NativePlan | None:
    """Return a plan of a way, or None where the emulation is needed."""
    if chosen == "0":
        return None
    sides = (plan.a, plan.b)
    # What NaN become that other codes hold is not for these kernels to say.
    if any(side.own is not None and side.own == side.fmt and not _is_bfloat16(side) for side in sides):
        return None
    if not all(_within_bfloat16(side.fmt) for side in sides):
        chosen = "fma"
    known = {field.name: getattr(plan, field.name) for field in fields(Plan)}
    return _NativePlan(**{**known, "a": _as_it_is(plan.a), "b": _as_it_is(plan.b)}, way=chosen)


def multiply(a: Array, b: Array, out: Array, plan: Plan, start: Array | None) -> bool:
    """Write the product of stacks of matrices to a C-contiguous array if the CPU has a way; say whether it has."""
    if not isinstance(plan.model, FmaPairOddFirst) or not a.shape[-1]:
        return False
    own = _native_plan(plan, way())
    if own is None:
        return False
    _product.multiply(a, b, out, own, start)
    return True
