"""Convolution layers, rounding included, against NumPy's float32 product on the whole matrix of patches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import lowprec as lp
from benchmarks.common import fresh, medians, some
from lowprec import reference


class Layer(NamedTuple):
    """Images, weights, stride, padding, groups."""

    images: tuple[int, int, int, int]
    weights: tuple[int, int, int, int]
    stride: int
    padding: int
    groups: int


LAYERS = {
    "3x3, 64 of 56x56": Layer((8, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1),
    "3x3, 512 of 7x7": Layer((8, 512, 7, 7), (512, 512, 3, 3), 1, 1, 1),
    "1x1, 256 of 28x28": Layer((8, 256, 28, 28), (512, 256, 1, 1), 1, 0, 1),
    "7x7 by 2, 3 of 224x224": Layer((4, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1),
    "3x3, 128 apart of 28x28": Layer((8, 128, 28, 28), (128, 1, 3, 3), 1, 1, 128),
    "3x3, 4 of 8x8": Layer((1, 4, 8, 8), (4, 4, 3, 3), 1, 1, 1),
}
NAMES = some(list(LAYERS), ["3x3, 4 of 8x8"])
FORMATS = some(["float32", "bfloat16", "float8_e4m3fn"], ["bfloat16"])
EXTRA = """
import re, numpy as np, lowprec as lp

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

x, w = np.ones((1, 16, {n}, {n}), np.float32), np.ones((16, 16, 3, 3), np.float32)
lp.conv2d(x[..., :300, :300], w, padding=1, dtype="bf16")
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = peak()
result = lp.conv2d(x, w, padding=1, dtype="bf16")
assert result.max() == 144
print(peak() - before - result.nbytes)
"""


def operands(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(layer.images, np.float32), rng.standard_normal(layer.weights, np.float32)


def explicit(x: np.ndarray, w: np.ndarray, layer: Layer) -> np.ndarray:
    """Copy all patches, (k, positions) for each image, which NumPy multiplies faster than (positions, k)."""
    p, s, g = layer.padding, layer.stride, layer.groups
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))) if p else x
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))[:, :, ::s, ::s]
    n, c, height, width = windows.shape[:4]
    depth = c // g * w.shape[2] * w.shape[3]
    patches = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, g, depth, height * width)
    return np.matmul(w.reshape(g, -1, depth), patches).reshape(n, len(w), height, width)


def check(x: np.ndarray, w: np.ndarray, fmt: str, layer: Layer) -> None:
    """Compile, and compare two elements with the specification in code."""
    p, s = layer.padding, layer.stride
    got = lp.conv2d(x, w, stride=s, padding=p, groups=layer.groups, dtype=fmt)
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    per, rows, columns = w.shape[1:]
    for n, o, i, j in ((0, 0, 0, 0), tuple(length - 1 for length in got.shape)):
        first = o // (len(w) // layer.groups) * per
        window = padded[n, first : first + per, i * s : i * s + rows, j * s : j * s + columns]
        left, right = ([reference.round_to(float(v), fmt) for v in part.ravel()] for part in (window, w[o]))
        want = np.float32(reference.dot(left, right))
        if got[n, o, i, j].view(np.uint32) != want.view(np.uint32):
            msg = f"conv2d in {fmt}, {layer}: element {(n, o, i, j)} is {got[n, o, i, j]!r}, must be {want!r}."
            raise AssertionError(msg)


class Convolution:
    """One layer."""

    params = (FORMATS, NAMES)
    param_names = ("format", "layer")

    def setup(self, fmt: str, name: str) -> None:
        self.layer = LAYERS[name]
        self.x, self.w = operands(self.layer)
        check(self.x, self.w, fmt, self.layer)

    def ours(self, fmt: str) -> np.ndarray:
        layer = self.layer
        return lp.conv2d(self.x, self.w, stride=layer.stride, padding=layer.padding, groups=layer.groups, dtype=fmt)

    def time_conv2d(self, fmt: str, name: str) -> None:
        self.ours(fmt)

    def track_ratio_to_numpy(self, fmt: str, name: str) -> float:
        ours, numpys = medians(lambda: self.ours(fmt), lambda: explicit(self.x, self.w, self.layer))
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32 on all patches, copying them included"


class Memory:
    """What a layer takes beyond its operands and its result."""

    params = (some([300, 1000, 2000], [300]),)
    param_names = ("n",)

    def track_extra(self, n: int) -> float:
        try:
            return float(fresh(EXTRA.format(n=n)))
        except FileNotFoundError as error:
            msg = "the peak is read from /proc"
            raise NotImplementedError(msg) from error

    track_extra.unit = "bytes"
