"""2:4 sparse times dense against our own dense kernel of the same shape, both on all cores, and times of their own."""

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some

_EVERY = ["1024x1024x64", "1024x1024x1024", "2048x2048x256", "4096x4096x64", "4096x4096x2048"]
_SHAPES = some(_EVERY, _EVERY[:1])
_FORMATS = some(["bf16", "fp16", "e4m3fn"], ["bf16"])


def _sizes(shape: str) -> tuple[int, ...]:
    """Return rows, K and columns."""
    return tuple(int(each) for each in shape.split("x"))


def _operands(shape: str, fmt: str) -> tuple[lp.Sparse24, np.ndarray, np.ndarray]:
    """Return a sparse weight, the same dense, and what it is multiplied by, all in their format."""
    m, k, n = _sizes(shape)
    rng = np.random.default_rng(0)
    sparse = lp.sparsify(lp.cast(rng.standard_normal((m, k)).astype(np.float32), fmt))
    return sparse, sparse.to_dense(), lp.cast(rng.standard_normal((k, n)).astype(np.float32), fmt)


class SparseTimesDense:
    """Fused multiply-adds in float32 of operands in a format."""

    params = (_SHAPES, _FORMATS)
    param_names = ("shape", "format")
    timeout = 300

    def setup(self, shape, fmt):
        """Make the operands."""
        self.sparse, self.dense, self.other = _operands(shape, fmt)
        m, _, n = _sizes(shape)
        self.out = np.empty((m, n), np.float32)

    def time_matmul(self, shape, fmt):
        """Time the product."""
        lp.matmul(self.sparse, self.other, out=self.out)

    def track_speedup(self, shape, fmt):
        """Return how many times faster than dense it is."""
        sparse, dense = medians(
            lambda: lp.matmul(self.sparse, self.other, out=self.out),
            lambda: lp.matmul(self.dense, self.other, out=self.out),
        )
        return dense / sparse

    track_speedup.unit = "dense / sparse"


class SparseTimesVector:
    """A batch of one."""

    params = (some(["1024x1024", "4096x4096"], ["1024x1024"]), _FORMATS)
    param_names = ("shape", "format")

    def setup(self, shape, fmt):
        """Make the operands."""
        self.sparse, self.dense, self.other = _operands(shape + "x1", fmt)

    def time_matmul(self, shape, fmt):
        """Time the product."""
        lp.matmul(self.sparse, self.other)

    def track_speedup(self, shape, fmt):
        """Return how many times faster than dense it is."""
        sparse, dense = medians(lambda: lp.matmul(self.sparse, self.other), lambda: lp.matmul(self.dense, self.other))
        return dense / sparse

    track_speedup.unit = "dense / sparse"

    def track_bytes(self, shape, fmt):
        """Return how many times fewer bytes of weights are read."""
        return self.dense.nbytes / self.sparse.nbytes

    track_bytes.unit = "dense / sparse"


class SparseLayers:
    """Sparse weights where users have them: `linear` of many inputs, and a convolution."""

    params = (("linear", "conv2d"), ("bf16",))
    param_names = ("layer", "format")

    def setup(self, layer, fmt):
        """Make a layer of a transformer, or of a residual network."""
        rng = np.random.default_rng(0)
        if layer == "linear":
            weight = rng.standard_normal((1024, 1024)).astype(np.float32)
            self.x = lp.cast(rng.standard_normal((512, 1024)).astype(np.float32), fmt)
            self.sparse, self.run = lp.sparsify(lp.cast(weight, fmt)), lp.linear
        else:
            weight = rng.standard_normal((256, 128, 3, 3)).astype(np.float32)
            self.x = lp.cast(rng.standard_normal((4, 128, 28, 28)).astype(np.float32), fmt)
            self.sparse, self.run = lp.sparsify(lp.cast(weight, fmt), axis=1), lp.conv2d
        self.dense = self.sparse.to_dense()

    def time_layer(self, layer, fmt):
        """Time the layer."""
        self.run(self.x, self.sparse)

    def track_speedup(self, layer, fmt):
        """Return how many times faster than dense it is."""
        sparse, dense = medians(lambda: self.run(self.x, self.sparse), lambda: self.run(self.x, self.dense))
        return dense / sparse

    track_speedup.unit = "dense / sparse"
