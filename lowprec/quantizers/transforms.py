"""What to do to activations before a layer whose weight was changed to be easier to quantise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._observer import finite, integer
from lowprec.quantizers import _hadamard
from lowprec.quantizers._settings import fresh


class Transform(ABC):
    """An invertible linear map A of a layer's inputs: ``x @ w.T == apply(x) @ weight(w).T`` but for rounding.

    Raises
    ------
    TypeError
        If it is made: `Divide` and `Rotation` are the transforms there are.

    Notes
    -----
    Results have the argument's dtype, float32 or float64 (float32 for narrower floats, float64 for Python numbers), and
    products are taken in it.

    Examples
    --------
    >>> import lowprec as lp
    >>> isinstance(lp.quantizers.Divide([1, 2]), lp.quantizers.Transform)
    True
    """

    inputs: int

    def apply(self, x: ArrayLike) -> Array:
        """Return transformed activations.

        Parameters
        ----------
        x : array_like
            Activations, inputs on the last axis.

        Returns
        -------
        ndarray
            Of the shape of `x`.

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If the last axis has another length, or a number is not finite.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.quantizers.Divide([1, 4]).apply([[1, 1]])
        array([[1.  , 0.25]])
        """
        return self._forward(self._values(x, "x"))

    def weight(self, w: ArrayLike) -> Array:
        """Return the weight that takes transformed activations.

        Parameters
        ----------
        w : array_like
            A weight, inputs on the last axis.

        Returns
        -------
        ndarray
            Of the shape of `w`.

        Raises
        ------
        TypeError, ValueError
            As `apply`.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.quantizers.Divide([1, 4]).weight([[1, 1]])
        array([[1., 4.]])
        """
        return self._inverse_transposed(self._values(w, "w"))

    def undo(self, w: ArrayLike) -> Array:
        """Return the weight of plain activations that does what `w` does to transformed ones.

        Parameters
        ----------
        w : array_like
            A weight of transformed activations, inputs on the last axis.

        Returns
        -------
        ndarray
            Of the shape of `w`.

        Raises
        ------
        TypeError, ValueError
            As `apply`.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.quantizers.Divide([1, 4]).undo([[1, 4]])
        array([[1., 1.]])
        """
        return self._transposed(self._values(w, "w"))

    def fold(self, previous: ArrayLike) -> Array:
        """Return the weight or bias of the layer before, so that its outputs come transformed.

        Parameters
        ----------
        previous : array_like
            A weight (outputs, inputs) or a bias (outputs,) of the layer whose outputs are this layer's inputs, with
            nothing in between that does not commute with the transform; or, for `Divide`, the gain of a norm.

        Returns
        -------
        ndarray
            Of the shape of `previous`.

        Raises
        ------
        TypeError, ValueError
            As `apply`, for the first axis.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.quantizers.Divide([1, 4]).fold([[1, 1, 1], [4, 4, 4]])
        array([[1., 1., 1.],
               [1., 1., 1.]])
        """
        values = finite(previous, "previous")
        if values.ndim not in (1, 2) or values.shape[0] != self.inputs:
            msg = f"`previous` must have {self.inputs} outputs on its first axis, got shape {values.shape}."
            raise ValueError(msg)
        return np.ascontiguousarray(self._forward(values.T).T)

    def _values(self, x: Any, name: str) -> Array:
        """Return finite numbers whose last axis fits."""
        values = finite(x, name)
        if values.ndim < 1 or values.shape[-1] != self.inputs:
            msg = f"`{name}` must have {self.inputs} features on its last axis, got shape {values.shape}."
            raise ValueError(msg)
        return values

    @abstractmethod
    def _forward(self, x: Array) -> Array:
        """Return x A."""

    @abstractmethod
    def _inverse_transposed(self, w: Array) -> Array:
        """Return w A^-T."""

    @abstractmethod
    def _transposed(self, w: Array) -> Array:
        """Return w A^T."""


class Divide(Transform):
    """Every input divided by a number of its own; the weight is multiplied by it.

    Parameters
    ----------
    scale : array_like
        Positive numbers, one for each input; kept in float32.

    Raises
    ------
    TypeError
        If `scale` does not hold real numbers.
    ValueError
        If `scale` has not one axis, or a number is not positive and finite.

    Notes
    -----
    Attributes: `scale`, the divisors, read-only; `inputs`, their number.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.quantizers.Divide([2, 0.5])
    Divide(inputs=2)
    """

    def __init__(self, scale: ArrayLike) -> None:
        numbers = finite(scale, "scale").astype(np.float32)
        if numbers.ndim != 1 or not numbers.size:
            msg = f"`scale` must have one axis with a number for each input, got shape {numbers.shape}."
            raise ValueError(msg)
        if not ((numbers > 0) & np.isfinite(numbers)).all():
            msg = f"`scale` must be positive and finite in float32, got {numbers.min()}."
            raise ValueError(msg)
        numbers.flags.writeable = False
        self.scale, self.inputs = numbers, numbers.size

    def _forward(self, x: Array) -> Array:
        return np.asarray(x / self.scale)

    def _inverse_transposed(self, w: Array) -> Array:
        return np.asarray(w * self.scale)

    def _transposed(self, w: Array) -> Array:
        return np.asarray(w / self.scale)

    def __repr__(self) -> str:
        """Return how many inputs it has."""
        return f"Divide(inputs={self.inputs})"


class Rotation(Transform):
    """Blocks of inputs rotated by a Hadamard matrix divided by the root of its order, after random signs if wanted.

    Parameters
    ----------
    inputs : int
        How many.
    block : int, optional
        Inputs rotated together: a divisor of `inputs` for which a Hadamard matrix is known. By default all inputs, or
        if there is none of that order, the largest power of two that divides `inputs`.
    rng : int or numpy.random.Generator, optional
        Seed of random signs, which inputs are multiplied by first; no signs without it.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `block` does not divide `inputs`, or no Hadamard matrix of that order is known.

    Notes
    -----
    Attributes: `inputs` and `block`; `matrix`, the orthogonal matrix of one block in float64; `signs`, those of all
    inputs or None; both read-only.

    Known orders are powers of two, and by Paley's constructions 12, 20, 24, 28, 36, 44, ..., and their doubles: 576 and
    1536 are among them. Rotation spreads an outlier over its block (QuaRot, Ashkboos et al. 2024).

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.quantizers.Rotation(4).apply([2, 0, 0, 0])
    array([1., 1., 1., 1.])
    >>> lp.quantizers.Rotation(576), lp.quantizers.Rotation(200)
    (Rotation(inputs=576, block=576), Rotation(inputs=200, block=200))
    """

    def __init__(self, inputs: int, *, block: int | None = None, rng: Any = None) -> None:
        self.inputs = integer(inputs, "inputs")
        if self.inputs < 1:
            msg = f"`inputs` must be 1 or more, got {inputs}."
            raise ValueError(msg)
        if block is None:
            block = self.inputs if _hadamard.matrix(self.inputs) is not None else self.inputs & -self.inputs
        self.block = integer(block, "block")
        if self.block < 1 or self.inputs % self.block:
            msg = f"`block` must divide the number of inputs, {self.inputs}, got {block}."
            raise ValueError(msg)
        entries = _hadamard.matrix(self.block)
        if entries is None:
            msg = f"`block` must be the order of a known Hadamard matrix, got {block}; {block & -block} is one."
            raise ValueError(msg)
        self.matrix = entries / np.sqrt(self.block)
        self.matrix.flags.writeable = False
        self.signs: Array | None = None
        if rng is not None:
            self.signs = fresh(rng).choice(np.array([-1, 1], np.float32), self.inputs)
            self.signs.flags.writeable = False

    def _turn(self, x: Array, matrix: Array) -> Array:
        """Return blocks of the last axis times a matrix."""
        turned = np.ascontiguousarray(x).reshape(-1, self.block) @ matrix.astype(x.dtype)
        return np.asarray(turned.reshape(x.shape))

    def _forward(self, x: Array) -> Array:
        return self._turn(x if self.signs is None else x * self.signs, self.matrix)

    def _inverse_transposed(self, w: Array) -> Array:
        return self._forward(w)

    def _transposed(self, w: Array) -> Array:
        turned = self._turn(w, self.matrix.T)
        return turned if self.signs is None else turned * self.signs

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"Rotation(inputs={self.inputs}, block={self.block}{'' if self.signs is None else ', signs=True'})"
