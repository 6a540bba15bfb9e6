"""Encode all 2**32 float32 patterns and compare every code with ml_dtypes or NumPy.

    python scripts/exhaustive_float32.py [format ...]

Formats: bf16, fp16, e4m3fn, e5m2, e2m1fn (all of them if none is named), rounding to nearest even. One line per
format; the exit status is 1 if any code differs. Differences that are documented count as agreement: the sign of NaN
(`lowprec` writes one canonical NaN), and NaN sources in e2m1fn, which has no NaN (`lowprec` refuses them, ml_dtypes
gives a zero), are left out. Most of the time is the oracle's: NumPy's float16 takes minutes, the others under one.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

import lowprec as lp

FORMATS = ("bf16", "fp16", "e4m3fn", "e5m2", "e2m1fn")
CHUNK = 1 << 22


def differing(patterns: NDArray[np.uint32], name: str) -> NDArray[np.uint32]:
    """Return those of the float32 bit patterns whose code is not the oracle's."""
    fmt = lp.format(name)
    x = patterns.view(np.float32)
    if not fmt.has_nan:
        x = x[~np.isnan(x)]
    codes = lp.encode(x, fmt)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        oracle = x.astype(fmt.storage_dtype).view(fmt.code_dtype)
    wrong = codes != oracle
    if fmt.nan_code is not None:  # NaN must come of NaN or of overflow alone, and be the canonical one
        nan_of_oracle = np.isnan(oracle[wrong].view(fmt.storage_dtype).astype(np.float32))
        wrong[wrong] = ~(nan_of_oracle & (codes[wrong] == fmt.nan_code))
    return x[wrong].view(np.uint32)


def sweep(name: str) -> int:
    """Go through all patterns of float32, print a line, and return how many codes differ."""
    start, count, first = time.perf_counter(), 0, ""
    for low in range(0, 1 << 32, CHUNK):
        wrong = differing(np.arange(low, low + CHUNK, dtype=np.uint64).astype(np.uint32), name)
        if wrong.size and not first:
            x = wrong[:1].view(np.float32)[0]
            first = f"; the first at {wrong[0]:#010x} = {x!r}, encoded as {int(lp.encode(x, name)):#x}"
        count += wrong.size
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{name} {100 * (low + CHUNK) // (1 << 32)} %")
    if sys.stderr.isatty():
        sys.stderr.write("\r")
    seconds = time.perf_counter() - start
    print(f"{lp.format(name).name}: {1 << 32} patterns, {count} differ{first} ({seconds:.0f} s)", flush=True)
    return count


def main(names: list[str]) -> int:
    """Sweep the named formats."""
    unknown = set(names) - set(FORMATS)
    if unknown:
        print(f"formats must be among {', '.join(FORMATS)}, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    return int(sum(sweep(name) for name in names or FORMATS) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
