"""Train the classifier of the `digits` workload and write its weights.

A multilayer perceptron, 64-128-64-10 with ReLU, on the handwritten digits that ship with scikit-learn (1,797 images
of 8 x 8 pixels, 17 grey levels, scaled to 0 ... 1). Two thirds of the images train it, one third tests it; the split
is stratified and fixed by a seed. Run it from anywhere:

    pip install "lowprec[study]"
    python scripts/train_digits.py

It overwrites `lowprec/study/data/digits_mlp.npz`, which holds the weights in float32, the indices of the test
images, the seed, and the versions that made them. Another scikit-learn or another BLAS sums in another order and so
ends in other weights; the study reads the file, never the script, so its numbers do not move.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 0
HIDDEN = (128, 64)
TARGET = Path(__file__).resolve().parent.parent / "lowprec" / "study" / "data" / "digits_mlp.npz"


def train(seed: int = SEED) -> dict[str, np.ndarray]:
    """Train on two thirds of the digits and return everything that the file holds.

    Parameters
    ----------
    seed : int
        Fixes the split, the first weights and the order of the batches.

    Returns
    -------
    dict of str to ndarray
        `weight0`, `bias0`, ... in float32, weights of shape (out_features, in_features); `test_indices`; `seed`,
        `script`, `made_with`.
    """
    digits = load_digits()
    images = digits.data / 16.0
    train_indices, test_indices = train_test_split(
        np.arange(len(images)), test_size=1 / 3, random_state=seed, stratify=digits.target
    )
    model = MLPClassifier(HIDDEN, alpha=1e-3, max_iter=500, random_state=seed)
    model.fit(images[train_indices], digits.target[train_indices])
    content: dict[str, np.ndarray] = {}
    for layer, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        content[f"weight{layer}"] = np.ascontiguousarray(weight.T, dtype=np.float32)
        content[f"bias{layer}"] = bias.astype(np.float32)
    content["test_indices"] = np.sort(test_indices).astype(np.int16)
    content["seed"] = np.array(seed)
    content["script"] = np.array("scripts/train_digits.py")
    content["made_with"] = np.array(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}")
    return content


def accuracy(content: dict[str, np.ndarray]) -> float:
    """Return the share of test images that the float32 network gets right, by NumPy alone."""
    digits = load_digits()
    indices = content["test_indices"]
    x = (digits.data[indices] / 16.0).astype(np.float32)
    layers = sum(name.startswith("weight") for name in content)
    for layer in range(layers):
        x = x @ content[f"weight{layer}"].T + content[f"bias{layer}"]
        x = np.maximum(x, 0) if layer < layers - 1 else x
    return float(np.mean(x.argmax(axis=1) == digits.target[indices]))


def main() -> int:
    """Train, write the file, and say what it holds."""
    parser = argparse.ArgumentParser(description="Train the classifier of the digits workload and write its weights.")
    parser.add_argument("--output", type=Path, default=TARGET, help="where to write (default: %(default)s)")
    output = parser.parse_args().output
    content = train()
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file:
        np.savez(file, **content)
    print(f"wrote {output} ({output.stat().st_size:,} bytes, sha256 {hashlib.sha256(output.read_bytes()).hexdigest()})")
    print(f"float32 accuracy on {len(content['test_indices'])} test images: {accuracy(content):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
