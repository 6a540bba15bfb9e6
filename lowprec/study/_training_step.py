"""One step of training by a recipe: its numerics, its optimiser, and what a step loses."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowprec._checks import fmt_of
from lowprec.codec import round_to
from lowprec.formats import FloatFormat
from lowprec.study._training_network import Array, Network
from lowprec.study._training_recipe import Recipe
from lowprec.study._training_scale import TensorScales

Vector = NDArray[np.float32]
_BETA1, _BETA2, _EPSILON, _MOMENTUM = np.float32(0.9), np.float32(0.999), np.float32(1e-8), np.float32(0.9)


class Rounded:
    """The numerics of a recipe: what is stored, and how the three products of a layer are computed.

    Parameters
    ----------
    recipe : Recipe
        Which formats.

    Raises
    ------
    Nothing.

    Notes
    -----
    With scales, an operand x of a product is rounded once a step to ``q = round_to(x * 2**k, format)``, where it
    saturates, and the product is ``2**-(k + l)`` times that of two such operands; both powers are exact short of the
    ends of float32's range.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._stored = None if recipe.tensors in ("fp32", "float32") else recipe.tensors
        fmt = fmt_of(recipe.forward or recipe.tensors, "forward")
        gradients = fmt_of(recipe.gradients or recipe.tensors, "gradients")
        self._formats: dict[str, Any] = {"x": fmt, "w": fmt, "dz": gradients}
        self._scales = None if recipe.scales == "none" else TensorScales(delayed=recipe.scales == "delayed")
        self._ready: dict[str, tuple[Array, int]] = {}

    def begin(self) -> None:
        """Forget the operands of the step before."""
        self._ready.clear()

    def store(self, x: Array) -> Array:
        """Return activations or their gradients as memory holds them."""
        return x if self._stored is None else np.asarray(round_to(x, self._stored))

    def outputs(self, layer: int, x: Array, w: Array) -> Array:
        """Return ``x @ w.T``."""
        if self._scales is None:
            return np.asarray(self._recipe.products.linear(x, w))
        (one, k), (other, n) = self._operand("x", layer, x), self._operand("w", layer, w)
        return np.asarray(np.ldexp(self._recipe.products.linear(one, other), -(k + n)))

    def inputs_gradient(self, layer: int, dz: Array, w: Array) -> Array:
        """Return ``dz @ w``."""
        if self._scales is None:
            return np.asarray(self._recipe.backward.linear(dz, w.T))
        (one, k), (other, n) = self._operand("dz", layer, dz), self._operand("w", layer, w)
        return np.asarray(np.ldexp(self._recipe.backward.linear(one, other.T), -(k + n)))

    def weight_gradient(self, layer: int, dz: Array, x: Array) -> Array:
        """Return ``dz.T @ x``."""
        if self._scales is None:
            return np.asarray(self._recipe.backward.linear(dz.T, x.T))
        (one, k), (other, n) = self._operand("dz", layer, dz), self._operand("x", layer, x)
        return np.asarray(np.ldexp(self._recipe.backward.linear(one.T, other.T), -(k + n)))

    def _operand(self, role: str, layer: int, tensor: Array) -> tuple[Array, int]:
        """Return a tensor in the format of its operand, and log2 of its scale; once a step."""
        name = f"{role} {layer}"
        if name not in self._ready:
            fmt: FloatFormat = self._formats[role]
            exponent = 0 if self._scales is None else self._scales.exponent(name, tensor, fmt)
            scaled = np.ldexp(tensor, exponent)
            self._ready[name] = np.asarray(round_to(scaled, fmt, overflow="saturate")), exponent
        return self._ready[name]


class Gradient(NamedTuple):
    """What one batch gives.

    Parameters
    ----------
    loss : float
        Before the step, not scaled.
    vector : ndarray of float32, shape (parameters,)
        The gradient of the scaled loss, as it is stored.
    activations : list of ndarray
        The stored gradients by what comes out of each layer's product.
    """

    loss: float
    vector: Vector
    activations: list[Array]


def gradient(
    network: Network, parameters: Array, x: Array, targets: Array, how: Rounded, loss_scale: float = 1.0
) -> Gradient:
    """Return loss and gradient of one batch.

    Parameters
    ----------
    network : Network
        What is trained.
    parameters : ndarray, shape (parameters,)
        As they are kept.
    x, targets : ndarray
        The batch.
    how : Rounded
        The numerics.
    loss_scale : float
        What the loss is multiplied by.

    Returns
    -------
    Gradient
        With the factor `loss_scale` still in it.

    Raises
    ------
    Nothing.
    """
    how.begin()
    with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are what a loss scale is there to see
        inputs, output = network.forward(parameters, x, how)
        activations: list[Array] = []
        vector = network.backward(
            parameters, inputs, network.loss_gradient(output, targets, loss_scale), how,
            lambda _, dz: activations.insert(0, dz),
        )  # fmt: skip
    return Gradient(network.loss_of(output, targets), vector, activations)


class Optimizer:
    """Weights, the moments of their gradients, and how they change.

    Parameters
    ----------
    recipe : Recipe
        Its optimiser, and the formats of weights and states.
    parameters : ndarray of float32, shape (parameters,)
        To start from; rounded to the format of weights, to nearest even.
    seed : int
        Of stochastic rounding, beside that of the recipe.

    Raises
    ------
    Nothing.

    Notes
    -----
    With g the gradient and every operation rounded to float32, Adam computes::

        m = 0.9 m + (1 - 0.9) g,    v = 0.999 v + (1 - 0.999) g g,    both rounded to the format of the states
        u = rate (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.999**t)) + 1e-8)

    and gradient descent ``m = 0.9 m + g``, rounded likewise, and ``u = rate m``. The weight becomes ``w - u``, rounded
    to float32 and then to the format of weights. With Kahan's compensation c, each line rounded to that format::

        y = -u - c,    s = w + y,    c = (s - w) - y,    w = s

    References
    ----------
    Kingma and Ba, Adam, 2015, arXiv:1412.6980, algorithm 1. Zamirai et al., 2020, arXiv:2010.06192 (Kahan's summation
    of weight updates).
    """

    def __init__(self, recipe: Recipe, parameters: Vector, seed: int) -> None:
        self._recipe, self._seed = recipe, seed
        self._weights = None if recipe.weights in ("fp32", "float32") else recipe.weights
        self._states = None if recipe.states in ("fp32", "float32") else recipe.states
        self.parameters = _round(parameters, self._weights)
        self.steps = 0
        self._first = np.zeros_like(self.parameters)
        self._second = np.zeros_like(self.parameters)
        self._rest = np.zeros_like(self.parameters)

    def step(self, vector: Vector, rate: float) -> tuple[int, int]:
        """Change the weights.

        Parameters
        ----------
        vector : ndarray of float32
            The gradient, without the loss scale.
        rate : float
            The learning rate of this step.

        Returns
        -------
        int, int
            How many updates were not zero, and how many of those left their weight as it was.
        """
        self.steps += 1
        with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
            update = self._update(vector, np.float32(rate))
            before = self.parameters
            self.parameters = self._changed(before, update)
        asked = update != 0
        return int(np.count_nonzero(asked)), int(np.count_nonzero(asked & (self.parameters == before)))

    def _update(self, vector: Vector, rate: np.float32) -> Vector:
        """Return what is to be subtracted."""
        one = np.float32(1)
        if self._recipe.optimizer == "sgd":
            self._first = _round(_MOMENTUM * self._first + vector, self._states)
            return np.asarray(rate * self._first)
        self._first = _round(_BETA1 * self._first + (one - _BETA1) * vector, self._states)
        self._second = _round(_BETA2 * self._second + (one - _BETA2) * (vector * vector), self._states)
        first = self._first / np.float32(1 - 0.9**self.steps)
        second = self._second / np.float32(1 - 0.999**self.steps)
        return np.asarray(rate * first / (np.sqrt(second) + _EPSILON))

    def _changed(self, before: Vector, update: Vector) -> Vector:
        """Return the weights after an update."""
        if self._weights is None and self._recipe.update != "kahan":
            return before - update
        if self._recipe.update == "kahan":
            y = _round(-update - self._rest, self._weights)
            after = _round(before + y, self._weights)
            self._rest = _round(_round(after - before, self._weights) - y, self._weights)
            return after
        if self._recipe.update == "stochastic":
            words = f"{self._recipe.seed} {self._seed} {self.steps}".encode()
            drawn = int.from_bytes(hashlib.sha256(words).digest()[:8], "little")
            return np.asarray(round_to(before - update, self._weights, rounding="stochastic", rng=drawn))
        return _round(before - update, self._weights)


def lost_share(found: Array, reference: Array) -> tuple[int, int]:
    """Return how many numbers are not zero in a reference, and how many of those are zero.

    Parameters
    ----------
    found, reference : ndarray
        Of one shape.

    Returns
    -------
    int, int
        Counts.

    Raises
    ------
    Nothing.
    """
    there = reference != 0
    return int(np.count_nonzero(there)), int(np.count_nonzero(there & (found == 0)))


def _round(values: Vector, fmt: str | None) -> Vector:
    """Return numbers in a format, None being float32."""
    return values if fmt is None else np.asarray(round_to(values, fmt))
