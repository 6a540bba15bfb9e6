"""A multilayer perceptron whose passes, forward and backward, are written out, for any arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lowprec.matmul import matmul

Array = NDArray[Any]
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # the first 32 bits of log(2): times an exponent it is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest
_TERMS = tuple(1 / math.factorial(k) for k in range(13, -1, -1))


class Numerics(Protocol):
    """How a pass computes: what is stored, and the three products of a layer."""

    def store(self, x: Array) -> Array:
        """Return activations or their gradients as memory holds them."""

    def outputs(self, layer: int, x: Array, w: Array) -> Array:
        """Return ``x @ w.T``, of inputs (batch, K) and a weight (N, K)."""

    def inputs_gradient(self, layer: int, dz: Array, w: Array) -> Array:
        """Return ``dz @ w``, of gradients (batch, N) and a weight (N, K)."""

    def weight_gradient(self, layer: int, dz: Array, x: Array) -> Array:
        """Return ``dz.T @ x``, of gradients (batch, N) and inputs (batch, K)."""


def exponential(x: Array) -> NDArray[np.float64]:
    """Return exp(x) for x <= 0, with the same bits on every CPU.

    Parameters
    ----------
    x : ndarray of float
        Not positive; below -700 it counts as -700.

    Returns
    -------
    ndarray of float64
        Within 4 units in the last place; NaN for NaN. Only sums and products of float64 are used, each an operation of
        its own, where NumPy's own `exp` differs between CPUs.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study._training_network import exponential
    >>> bool(np.abs(exponential(np.array([-1.0]))[0] - np.exp(-1.0)) < 1e-15)
    True
    """
    r = np.maximum(x, -700.0, dtype=np.float64)
    n = r * (1 / math.log(2))
    np.rint(n, out=n)
    r -= n * _LN2_HIGH
    r -= n * _LN2_LOW
    total = r * _TERMS[0]
    total += _TERMS[1]
    for term in _TERMS[2:]:
        total *= r
        total += term
    with np.errstate(invalid="ignore"):  # of a NaN any exponent will do
        return np.asarray(np.ldexp(total, n.astype(np.int32), out=total))


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), computed in float64 and rounded to the dtype of z.

    Parameters
    ----------
    z : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    ndarray
        Of the same shape and dtype.

    Raises
    ------
    Nothing.
    """
    small = exponential(-np.abs(z))
    above = np.where(z < 0, small, 1.0)
    small += 1
    above /= small
    return above.astype(z.dtype)


def folded_sum(values: Array) -> float:
    """Return a sum in an order that is written down, in the array's dtype.

    Parameters
    ----------
    values : ndarray, shape (n,)
        What is added; overwritten.

    Returns
    -------
    float
        While there are several, the second half is added to the first, element by element; of an odd count the middle
        one stays. 0 of none.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study._training_network import folded_sum
    >>> folded_sum(np.array([1.0, 2.0, 3.0]))  # (1 + 3) + 2
    6.0
    """
    count = len(values)
    while count > 1:
        half = (count + 1) // 2
        values[: count - half] += values[half:count]
        count = half
    return float(values[0]) if count else 0.0


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron and its loss.

    Parameters
    ----------
    sizes : tuple of int
        Width of the input and of every layer's output.
    activation : {"sigmoid", "relu"}
        Of every layer but the last, which is linear.
    loss : {"squared", "cross_entropy"}
        The mean over all elements of the squared difference from the targets, or the mean over samples of the
        cross-entropy of softmax with classes, in nats.

    Raises
    ------
    Nothing.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str

    @property
    def layers(self) -> int:
        """Count of weights."""
        return len(self.sizes) - 1

    @property
    def count(self) -> int:
        """Count of parameters, biases included."""
        return sum((k + 1) * n for k, n in zip(self.sizes, self.sizes[1:], strict=False))

    def parts(self, vector: Array) -> list[tuple[Array, Array]]:
        """Return weight (N, K) and bias (N,) of every layer, as views of one vector.

        Parameters
        ----------
        vector : ndarray, shape (count,)
            All parameters, or something for each of them: layer by layer, the weight first.

        Returns
        -------
        list of (ndarray, ndarray)
            Views.
        """
        found, at = [], 0
        for k, n in zip(self.sizes, self.sizes[1:], strict=False):
            bias = at + k * n
            found.append((vector[at:bias].reshape(n, k), vector[bias : bias + n]))
            at = bias + n
        return found

    def initial(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return parameters to start from: uniform within 1 / sqrt(K), weights and biases, as ``torch.nn.Linear`` has.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where they come from.

        Returns
        -------
        ndarray of float32, shape (count,)
            In the order of `parts`.
        """
        vector = np.empty(self.count, np.float32)
        for weight, bias in self.parts(vector):
            bound = 1 / math.sqrt(weight.shape[1])
            weight[...] = rng.uniform(-bound, bound, weight.shape)
            bias[...] = rng.uniform(-bound, bound, bias.shape)
        return vector

    def forward(self, parameters: Array, x: Array, how: Numerics) -> tuple[list[Array], Array]:
        """Run the network.

        Parameters
        ----------
        parameters : ndarray, shape (count,)
            As they are kept.
        x : ndarray, shape (batch, K)
            Inputs.
        how : Numerics
            What is stored, and how products are computed.

        Returns
        -------
        list of ndarray, ndarray
            What goes into each layer, and what comes out of the last, both as they are stored. Biases are added to the
            finished products in their dtype; the activation is computed of what is stored.
        """
        inputs = [how.store(x)]
        for layer, (weight, bias) in enumerate(self.parts(parameters)):
            z = how.store(how.outputs(layer, inputs[-1], weight) + bias)
            if layer == self.layers - 1:
                return inputs, z
            inputs.append(how.store(sigmoid(z)) if self.activation == "sigmoid" else np.maximum(z, 0))
        raise AssertionError  # pragma: no cover - there is a last layer

    def loss_of(self, output: Array, targets: Array) -> float:
        """Return the loss.

        Parameters
        ----------
        output : ndarray, shape (batch, N)
            What the network gives.
        targets : ndarray
            (batch, N) numbers, or (batch,) classes.

        Returns
        -------
        float
            In float64, by `folded_sum` of squares; NaN where an output is not finite.
        """
        if not np.isfinite(output).all():
            return math.nan
        wide = output.astype(np.float64)
        if self.loss == "squared":
            wide -= targets
            wide *= wide
            return folded_sum(wide.ravel()) / wide.size
        shifted = wide - wide.max(axis=1, keepdims=True)
        right = np.take_along_axis(shifted, targets[:, None], axis=1)[:, 0].tolist()
        sums = [math.fsum(row) for row in exponential(shifted).tolist()]
        return math.fsum(math.log(total) - value for total, value in zip(sums, right, strict=True)) / len(sums)

    def loss_gradient(self, output: Array, targets: Array, scale: float) -> Array:
        """Return the gradient of ``scale`` times the loss by the output, in the output's dtype.

        Parameters
        ----------
        output, targets : ndarray
            As `loss_of`.
        scale : float
            The loss scale.

        Returns
        -------
        ndarray, shape (batch, N)
            Not stored yet.
        """
        dtype = output.dtype.type
        if self.loss == "squared":
            return np.asarray((output - targets.astype(output.dtype)) * dtype(2 * scale / output.size))
        wide = output.astype(np.float64)
        powers = exponential(wide - wide.max(axis=1, keepdims=True))
        total = powers[:, 0].copy()
        for column in powers.T[1:]:  # one after the other: the order is written down
            total += column
        share = powers / total[:, None]
        share[np.arange(len(targets)), targets] -= 1
        return np.asarray(share.astype(output.dtype) * dtype(scale / len(output)))

    def backward(
        self,
        parameters: Array,
        inputs: Sequence[Array],
        dz: Array,
        how: Numerics,
        seen: Callable[[int, Array], None] | None = None,
    ) -> Array:
        """Return the gradient by all parameters.

        Parameters
        ----------
        parameters : ndarray, shape (count,)
            As they are kept.
        inputs : sequence of ndarray
            What went into each layer, from `forward`.
        dz : ndarray, shape (batch, N)
            Gradient by the output, not stored yet.
        how : Numerics
            What is stored, and how products are computed.
        seen : callable, optional
            Given each layer, the last first, and the stored gradient by what comes out of its product.

        Returns
        -------
        ndarray, shape (count,)
            As it is stored. Gradients of biases are sums over the batch in ascending order, in float32, or in float64
            if `dz` is.
        """
        gradient = np.empty(self.count, dz.dtype)
        parts, slots = self.parts(parameters), self.parts(gradient)
        wide = dz.dtype == np.float64
        for layer in reversed(range(self.layers)):
            dz = how.store(dz)
            if seen is not None:
                seen(layer, dz)
            weight, x = parts[layer][0], inputs[layer]
            slots[layer][0][...] = how.weight_gradient(layer, dz, x)
            ones = np.ones((1, len(dz)), dz.dtype)
            slots[layer][1][...] = matmul(ones, dz, "fp64" if wide else "fp32")[0]
            if layer:
                back = how.store(how.inputs_gradient(layer, dz, weight))
                dz = back * (x * (1 - x)) if self.activation == "sigmoid" else np.where(x > 0, back, back * 0)
        return how.store(gradient)
