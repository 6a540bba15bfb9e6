"""Write docs/performance.md from the results of the benchmarks.

Without arguments the page is made from benchmarks/results.json. With ``--run`` all benchmarks run first (half an hour,
on a machine that does nothing else) and their results replace that file.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results.json"
PAGE = REPOSITORY / "docs" / "performance.md"
MARKER = "<!-- Made by scripts/make_performance_page.py from benchmarks/results.json. Do not edit. -->\n"
COMMAND = "`python scripts/make_performance_page.py --run`"
NO_MARK = ("pairwise", "chunks", "x86", "arm")
# The least speed of a sum whose name holds a word, in units of np.matmul in float32; 0.04 for any other.
MARKS = (("nvidia", 0.02), ("amd", 0.01), ("exact", 0.005), *((word, 0.0) for word in NO_MARK))
Results = dict[str, Any]


def cpu() -> str:
    """Return the processor's name as Linux gives it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """Return what the numbers depend on."""
    import llvmlite.binding as llvm
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    features = llvm.get_host_cpu_features()
    wide = [name for name in ("avx512f", "avx2", "sse2", "neon") if features.get(name)]
    return {
        "cpu": cpu(),
        "architecture": llvm.get_host_cpu_name(),
        "vectors": wide[0] if wide else "none",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
        "packages": {name: version(name) for name in ("numpy", "numba", "ml_dtypes")},
        "date": datetime.now(tz=UTC).date().isoformat(),
    }


def collect(folder: Path) -> dict[str, Any]:
    """Read asv's results: for every benchmark its unit, the names of its parameters, and a value for each choice."""
    described = json.loads((folder / "benchmarks.json").read_text(encoding="utf-8"))
    (file,) = [f for f in folder.glob("*/*.json") if f.name != "machine.json"]
    told = json.loads(file.read_text(encoding="utf-8"))
    found = {}
    for name, row in told["results"].items():
        record = dict(zip(told["result_columns"], row, strict=False))
        found[name] = {
            "unit": described[name]["unit"],
            "names": described[name]["param_names"],
            "params": [[ast.literal_eval(value) for value in values] for values in record["params"]],
            "values": record["result"],
        }
    return found


def run(only: str | None) -> Results:
    """Run the benchmarks in this environment, package and all."""
    with tempfile.TemporaryDirectory() as folder:
        settings = json.loads((REPOSITORY / "benchmarks" / "asv.conf.json").read_text(encoding="utf-8"))
        settings |= {"results_dir": folder, "repo": str(REPOSITORY), "benchmark_dir": str(REPOSITORY / "benchmarks")}
        config = Path(folder) / "asv.conf.json"
        config.write_text(json.dumps(settings), encoding="utf-8")
        # asv keeps its description of the machine in the home directory; nothing of this run shall stay there.
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        environment = {**os.environ, "HOME": folder, "XDG_CACHE_HOME": cache, "ASV_PYTHONPATH": str(REPOSITORY)}
        asv = [sys.executable, "-m", "asv", "--config", str(config)]
        subprocess.run([*asv, "machine", "--yes", "--machine", "here"], env=environment, check=True)
        command = [*asv, "run", "--python=same", "--machine", "here", "--set-commit-hash", "HEAD", "--show-stderr"]
        # asv exits with an error if one benchmark failed; the others count all the same, and that one shows as missing.
        subprocess.run([*command, "--bench", only or "track_"], env=environment, check=False)
        (Path(folder) / "asv.conf.json").unlink()
        found = collect(Path(folder))
    before = read_results() if only else {}
    machines, here = before.get("machines", []), facts()
    kept = {name: record for name, record in before.get("results", {}).items() if name not in found}
    used = sorted({record["machine"] for record in kept.values()})
    for record in kept.values():
        record["machine"] = used.index(record["machine"])
    machines = [machines[i] for i in used]
    if here not in machines:
        machines.append(here)
    for record in found.values():
        record["machine"] = machines.index(here)
    return {"machines": machines, "results": kept | found}


def read_results() -> Results:
    """Return the kept results, or nothing."""
    if not RESULTS.exists():
        return {}
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def grid(record: dict[str, Any], good: Callable[[str, Any, float], bool]) -> str:
    """Return one row for each first parameter, one column for each second; what misses its mark in bold."""
    first, second = record["params"] if len(record["params"]) == 2 else (record["params"][0], [""])
    rows = []
    for i, one in enumerate(first):
        values = record["values"][i * len(second) : (i + 1) * len(second)]
        cells = [cell(value, good(one, other, value or 0)) for other, value in zip(second, values, strict=True)]
        rows.append([f"`{one}`", *cells])
    head = [record["names"][0], *(f"{record['names'][1]} = {o}" if isinstance(o, int) else str(o) for o in second)]
    return table(head if len(record["params"]) == 2 else [record["names"][0], record["unit"]], rows)


def cell(value: float | None, good: bool) -> str:
    if value is None or math.isnan(value):
        return "not run"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return text if good else f"**{text}**"


def described(machine: dict[str, Any]) -> str:
    """Return what the numbers of a machine depend on, in a line."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['cpu']} ({machine['architecture']}, {machine['vectors']}), {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, {packages}, {machine['blas']}, on {machine['date']}"
    )


def always(*_: Any) -> bool:
    return True


def page(results: Results) -> str:
    """Return the page, every number of it from the results."""
    if not results:
        return f"{MARKER}\n# Performance\n\nNo results are kept. {COMMAND} measures, and writes this page.\n"
    told = results["results"]

    def section(name: str, good: Callable[[str, Any, float], bool] = always) -> str:
        if name not in told:
            return "Not run.\n"
        where = f"\nMachine {told[name]['machine'] + 1}.\n" if len(results["machines"]) > 1 else ""
        return grid(told[name], good) + where

    def one(name: str) -> float:
        return told[name]["values"][0] if name in told else float("nan")

    def product(_: str, n: int, ratio: float) -> bool:
        return ratio >= (1.2 if n >= 512 else 0.5)

    def copy(_: str, __: Any, ratio: float) -> bool:
        return ratio <= 1.5

    def integers(_: str, n: int, ratio: float) -> bool:
        return ratio >= 5 or n < 512

    def least_one(_: Any, __: Any, ratio: float) -> bool:
        return ratio >= 1

    def weights(_: str, __: Any, ratio: float) -> bool:
        return ratio >= 0.8

    def at_most_one(_: Any, __: Any, ratio: float) -> bool:
        return ratio <= 1

    def minute(_: Any, __: Any, took: float) -> bool:
        return took <= 60

    def ten(_: Any, __: Any, took: float) -> bool:
        return took <= 10

    def four(_: str, __: Any, ratio: float) -> bool:
        return ratio <= 4

    def half_more(_: Any, __: Any, ratio: float) -> bool:
        return ratio >= 1.5

    def third_more(_: Any, __: Any, ratio: float) -> bool:
        return ratio >= 1.3

    def six(_: Any, __: Any, ratio: float) -> bool:
        return ratio <= 6

    def seconds(_: Any, __: Any, took: float) -> bool:
        return took <= 20

    def values(name: str) -> list[tuple[int, float]]:
        return list(zip(told[name]["params"][0], told[name]["values"], strict=True)) if name in told else []

    def mark(name: str) -> float:
        """Return the mark of a sum by its name."""
        return next((least for word, least in MARKS if word in name), 0.04)

    def summed(name: str, _: Any, ratio: float) -> bool:
        return ratio >= mark(name)

    marks = ", ".join(f"{least:g} {word or 'any other'}" for word, least in (*MARKS, ("", 0.04)))
    sizes = values("bench_matmul.NumPy.track_gflops")
    numpys = table(["", *(f"n = {n}" for n, _ in sizes)], [["GFLOP/s", *(f"{value:.0f}" for _, value in sizes)]])
    memory = table(
        ["n", "beyond operands and result"],
        [[str(n), f"{value / 2**20:.1f} MiB"] for n, value in values("bench_memory.Memory.track_extra")],
    )
    machines = "".join(f"{i}. {described(machine)}\n" for i, machine in enumerate(results["machines"], 1))
    return f"""{MARKER}
# Performance

Measured on

{machines}
Both sides of a ratio use all cores and run in turn in one process; a ratio is of medians. Turns of products are apart
by a pause, since OpenBLAS' threads spin for a tenth of a second after each product, and who multiplies within that time
has a core less. **Bold** marks what misses the mark that stands above its table. Another machine gives other ratios:
{COMMAND} measures yours.

## Products of float32 matrices, rounding included

Speed of `lp.matmul(a, b, format)` in units of the speed of `np.matmul(a, b)` in float32, n by n; more is better. Marks:
at least 1.2 from n = 512 on, at least 0.5 below. The product is defined to the last bit, NumPy's is not.

{section("bench_matmul.Product.track_ratio_to_numpy", product)}
`np.matmul` itself:

{numpys}
### Against what users write today

Speed in units of `a.astype(dtype).astype(np.float32) @ b.astype(dtype).astype(np.float32)`.

{section("bench_matmul.OneLiner.track_ratio_to_one_liner", always)}
Operands that already are ml_dtypes arrays: speed in units of `np.matmul` of the same arrays.

{section("bench_matmul.Stored.track_ratio_to_numpy", always)}
Speed in units of torch's product in the format, casts included. torch may use instructions that flush subnormals and
sum in another order, so its bits are others.

{section("bench_matmul.Torch.track_ratio_to_torch", always)}
## Sums by model

Speed of `lp.matmul(a, b, dtype, accumulator=...)` in units of `np.matmul(a, b)` in float32, n by n normal numbers,
rounding of the operands included. Marks: {marks}. `x86-avx512bf16` runs VDPBF16PS where the CPU has it, with a mark
of 2 there, and two fused multiply-adds where it has not.

{section("bench_accumulators.Sums.track_ratio_to_numpy", summed)}
Hopper's bf16 product, 256 x 256 x 256 on one thread, in units of MMA-Sim's speed (PyPI `mmasim`, one call for each
64 x 256 x 16 instruction; mark 25): {one("bench_accumulators.Simulator.track_ratio_to_mmasim"):.0f}.

## Convolution

Speed of `lp.conv2d(x, w, dtype="bf16", padding=...)` in units of explicit patches and `np.matmul` in float32.

{section("bench_conv.Convolution.track_ratio_to_numpy", always)}
## Integers

Speed of exact integer products, to int32, in units of `np.matmul` in float32, n by n. Marks from n = 512 on: 5 for
int8 x int8 (aim 7.5, with the CPU's dot product of four bytes; without one the instructions' own peak is about 1.6 for
8 by 8 bits), and within a fifth of that for the others.

{section("bench_integers.Pairs.track_ratio_to_numpy", integers)}
With zero points and scales for every row and column and a bias, to float32:

{section("bench_integers.Ends.track_ratio_to_numpy", always)}
On each way that the CPU can go:

{section("bench_integers.Ways.track_ratio_to_numpy", always)}
In units of `torch._int_mm`; mark 1:

{section("bench_integers.Torch.track_ratio_to_torch", least_one)}
## Quantised operands

Speed of `lp.matmul(x, w)` with float32 x and quantised w, in units of `np.matmul` of float32 arrays, n by n; mark 0.8.

{section("bench_quantized_matmul.WeightOnly.track_ratio_to_numpy", weights)}
The same as `lp.linear`, weights (N, K):

{section("bench_quantized_matmul.WeightOnly.track_linear_ratio_to_numpy", weights)}
Two quantised operands, each block of K summed apart and scaled:

{section("bench_quantized_matmul.Both.track_ratio_to_numpy", always)}
## Structured sparsity

Speed of `lp.matmul(s, b)` with a 2:4 sparse s of M x K, in units of that of the same product with the dense
`s.to_dense()`, both operands in the format, M x K x N. Mark 1.5 (aim 1.8).

{section("bench_sparse.SparseTimesDense.track_speedup", half_more)}
One column, mark 1.3; the bytes of weights that are read are 1.78 times fewer for 16 bits, 1.6 times for 8:

{section("bench_sparse.SparseTimesVector.track_speedup", third_more)}
`lp.linear` of 512 inputs with weights of 1024 x 1024, and `lp.conv2d` of 4 images of 28 x 28 with 256 x 128 kernels of
3 x 3:

{section("bench_sparse.SparseLayers.track_speedup", always)}
int8 x int8 to int32, mark 1.3:

{section("bench_sparse_integers.Sparse.track_ratio_to_dense", third_more)}
Time of `lp.sparsify` of 4096 x 4096 weights in units of `np.copyto` of the same; less is better, mark 6:

{section("bench_sparsify.Magnitude.track_sparsify", six)}
## Quantising

Time of `lp.quantize` of 16 million float32 numbers in units of `np.copyto` of the same numbers; less is better, marks 4
for int8 per row, MXFP8, MXFP4 and NVFP4.

{section("bench_quantize.Quantize.track_quantize", four)}
`dequantize()` of the same, to a new array:

{section("bench_quantize.Quantize.track_dequantize", always)}
Speed in units of torchao's `to_mx`:

{section("bench_quantize.Torchao.track_speedup", always)}
Seconds to quantise a weight (outputs, inputs) with 8,192 tokens of activations; mark 20 for GPTQ of (1536, 576):

{section("bench_quantizers.Weights.track_seconds", seconds)}
## Cost

Milliseconds of [closed forms](cost.md), mark 1:

{section("bench_cost.ClosedForms.track_milliseconds", at_most_one)}
Seconds for the gates of 10,000 MACs that all differ: {one("bench_cost.Sweep.track_seconds"):.2g}.

Seconds of `lp.cost.pareto` with its own candidates at 1024 x 1024 x 1024, each in the unit that suits it or all in dot
units of 32 lanes, mark 60:

{section("bench_cost.Pareto.track_seconds", minute)}
Seconds of `lp.systolic.simulate`, an array of 128 x 128 on 512 x 512 x 512, every register in every cycle, mark 10:

{section("bench_systolic.Simulate.track_seconds", ten)}
## Rounding, encoding, decoding

Time for 16,777,216 float32 elements in units of the time of `np.copyto` of the same array; less is better. Mark: at
most 1.5. With `out` given, nothing is allocated; without it, the operating system first has to find 64 MiB of pages.

### round_to with out

{section("bench_codec.Round.track_round_to_out", copy)}
### round_to

{section("bench_codec.Round.track_round_to", copy)}
### encode with out

{section("bench_codec.Round.track_encode_out", copy)}
### encode

{section("bench_codec.Round.track_encode", copy)}
### decode with out

{section("bench_codec.Decode.track_decode_out", copy)}
### decode

{section("bench_codec.Decode.track_decode", copy)}
### Stochastic rounding

No mark; `round_to` with `out`.

{section("bench_codec.Stochastic.track_round_to_out", always)}
### Against ml_dtypes

Speed of `round_to` in units of `x.astype(dtype).astype(np.float32)`, both allocating; more is better.

{section("bench_codec.MlDtypes.track_speedup", always)}
## Start

| what | seconds | mark |
| --- | ---: | ---: |
| `import lowprec` | {one("bench_startup.Startup.track_import"):.2f} | |
| the same, in units of `import numba, ml_dtypes` | {one("bench_startup.Startup.track_import_ratio"):.2f} | 1.15 |
| first `matmul` of a process, nothing compiled yet | {one("bench_startup.Startup.track_first_matmul_cold"):.2f} | 4 |
| first `matmul` of a process, from the cache | {one("bench_startup.Startup.track_first_matmul_cached"):.2f} | 0.3 |

## Memory

Most memory that a product of n by n float32 matrices takes beyond operands and result, in bfloat16, float32 and
float64; mark: 64 MiB.

{memory}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the benchmarks first")
    parser.add_argument("--bench", help="run only those whose name matches, and keep the other results")
    arguments = parser.parse_args()
    if os.environ.get("LOWPREC_BENCHMARK_QUICK"):
        parser.error("LOWPREC_BENCHMARK_QUICK must be unset: the numbers of a quick run mean nothing.")
    if arguments.run or arguments.bench:
        RESULTS.write_text(json.dumps(run(arguments.bench), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(read_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
