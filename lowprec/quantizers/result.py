"""What a weight quantiser returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.matmul import linear
from lowprec.quantizers._settings import activations_of, weight_of
from lowprec.quantizers.transforms import Transform


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A quantised weight, and what to do to activations before it.

    Parameters
    ----------
    weight : QuantizedArray
        Codes and scales, shape (outputs, inputs), of transformed inputs if there is a transform.
    transform : Transform or None
        What activations go through first.
    method : str
        How it was made.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w = np.random.default_rng(0).standard_normal((8, 64))
    >>> lp.quantizers.hadamard(w, None, "int4", block_size=32)
    QuantizedWeight(shape=(8, 64), format='int4', method='hadamard', transform=Rotation(inputs=64, block=64))
    """

    weight: QuantizedArray
    transform: Transform | None
    method: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Outputs and inputs."""
        return self.weight.shape

    def dequantize(self, dtype: Any = np.float32) -> Array:
        """Return the weight that plain activations see.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        ndarray of `dtype`
            Shape (outputs, inputs).

        Raises
        ------
        TypeError
            If `dtype` is neither.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.quantizers.round_to_nearest(np.eye(2), None, "int8").dequantize()
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            msg = f"`dtype` must be float32 or float64, got {np.dtype(dtype)}."
            raise TypeError(msg)
        values = self.weight.dequantize(dtype)
        return values if self.transform is None else self.transform.undo(values)

    def linear(self, x: ArrayLike, bias: ArrayLike | None = None) -> Array:
        """Return what the layer makes of activations: `lowprec.linear` in fp32 of the transformed ones.

        Parameters
        ----------
        x : array_like
            Activations, inputs on the last axis.
        bias : array_like, optional
            One number for each output.

        Returns
        -------
        ndarray of float32
            Outputs on the last axis.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.linear`, and if a number is not finite where there is a transform.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.quantizers.round_to_nearest(np.eye(2), None, "int8").linear([[1.0, 2.0]])
        array([[1., 2.]], dtype=float32)
        """
        moved = x if self.transform is None else self.transform.apply(x)
        return np.asarray(linear(moved, self.weight.dequantize(), bias, "fp32"))

    def error(self, w: ArrayLike, x: ArrayLike) -> float:
        """Return the squared error of the outputs, as a share of the outputs' own squares.

        Parameters
        ----------
        w : array_like
            The weight before.
        x : array_like
            Activations, inputs on the last axis: other ones than those of the calibration.

        Returns
        -------
        float
            ``sum((x @ (w - dequantised).T)**2) / sum((x @ w.T)**2)``, in float64; 0 if both are 0.

        Raises
        ------
        TypeError, ValueError
            If shapes do not fit, or a number is not finite.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> w = np.array([[1.0, 0.5]])
        >>> lp.quantizers.round_to_nearest(w, None, "int2").error(w, [[0.0, 1.0]])
        1.0
        """
        weight, inputs = weight_of(w).astype(np.float64), activations_of(x, self.shape[1]).astype(np.float64)
        if weight.shape != self.shape:
            msg = f"`w` must have the shape {self.shape} that was quantised, got {weight.shape}."
            raise ValueError(msg)
        wrong = float(np.sum((inputs @ (weight - self.dequantize(np.float64)).T) ** 2))
        return wrong / float(np.sum((inputs @ weight.T) ** 2)) if wrong else 0.0

    def __repr__(self) -> str:
        """Return what it is, without its numbers."""
        facts = f"shape={self.shape}, format={self.weight.format.name!r}, method={self.method!r}"
        return f"QuantizedWeight({facts}, transform={self.transform})"
