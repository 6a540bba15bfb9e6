"""Scales of training: of the loss, found by a rule, and of tensors, found on them or on their past."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from lowprec.formats import FloatFormat
from lowprec.nn._operands import scale_exponent


class DynamicLossScale:
    """A loss scale that grows while gradients are finite, and shrinks where one is not.

    Parameters
    ----------
    initial : float
        The first scale.
    growth_factor, backoff_factor : float
        What it is multiplied by: above 1, and between 0 and 1.
    growth_interval : int
        After how many finite steps in a row it grows.
    minimum, maximum : float
        It stays within them.

    Raises
    ------
    TypeError
        If an argument is no number.
    ValueError
        If a factor, the interval or a bound makes no sense.

    Notes
    -----
    After each step::

        if a gradient is infinite or NaN:
            scale = max(scale * backoff_factor, minimum)    and the step is not taken
            finite_steps = 0
        else:
            finite_steps += 1
            if finite_steps == growth_interval:
                scale = min(scale * growth_factor, maximum)
                finite_steps = 0

    References
    ----------
    Micikevicius et al., Mixed Precision Training, 2018, arXiv:1710.03740, section 3.2 (skip the update where a gradient
    overflows). The rule and the defaults are those of ``torch.amp.GradScaler``, which has no bounds; the bounds here
    keep float32 from overflowing.

    Examples
    --------
    >>> from lowprec.study import DynamicLossScale
    >>> scale = DynamicLossScale(1024.0, growth_interval=2)
    >>> [scale.update(finite) for finite in (False, True, True)]
    [512.0, 512.0, 1024.0]
    """

    def __init__(
        self,
        initial: float = 2.0**16,
        *,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        minimum: float = 2.0**-14,
        maximum: float = 2.0**24,
    ) -> None:
        numbers = {
            "initial": initial, "growth_factor": growth_factor, "backoff_factor": backoff_factor,
            "minimum": minimum, "maximum": maximum,
        }  # fmt: skip
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                msg = f"`{name}` must be a number, got {value!r} of type {type(value).__name__}."
                raise TypeError(msg)
        if isinstance(growth_interval, bool) or not isinstance(growth_interval, int):
            kind = type(growth_interval).__name__
            msg = f"`growth_interval` must be an integer, got {growth_interval!r} of type {kind}."
            raise TypeError(msg)
        if not 1 < growth_factor < math.inf:
            msg = f"`growth_factor` must be above 1, got {growth_factor}."
            raise ValueError(msg)
        if not 0 < backoff_factor < 1:
            msg = f"`backoff_factor` must be between 0 and 1, got {backoff_factor}."
            raise ValueError(msg)
        if growth_interval < 1:
            msg = f"`growth_interval` must be at least 1, got {growth_interval}."
            raise ValueError(msg)
        if not 0 < minimum <= initial <= maximum < math.inf:
            msg = f"`initial` must lie from `minimum` to `maximum`, positive, got {initial}, {minimum}, {maximum}."
            raise ValueError(msg)
        self.scale = float(initial)
        self.finite_steps = 0
        self._factors = (float(growth_factor), float(backoff_factor))
        self._interval = growth_interval
        self._bounds = (float(minimum), float(maximum))

    def __repr__(self) -> str:
        """Return the scale and the count."""
        return f"DynamicLossScale(scale={self.scale}, finite_steps={self.finite_steps})"

    def update(self, finite: bool) -> float:
        """Take note of a step.

        Parameters
        ----------
        finite : bool
            Whether all its gradients were finite.

        Returns
        -------
        float
            The scale of the next step.

        Raises
        ------
        Nothing.
        """
        growth, backoff = self._factors
        least, most = self._bounds
        if not finite:
            self.scale = max(self.scale * backoff, least)
            self.finite_steps = 0
            return self.scale
        self.finite_steps += 1
        if self.finite_steps == self._interval:
            self.scale = min(self.scale * growth, most)
            self.finite_steps = 0
        return self.scale


class TensorScales:
    """The power of two that each tensor is multiplied by before it is rounded to a format.

    Parameters
    ----------
    delayed : bool
        Whether it is found on the largest magnitude of the steps before, not on the tensor itself.
    history : int
        How many steps before count.

    Raises
    ------
    Nothing.

    Notes
    -----
    The largest power of two that keeps the largest magnitude within the format, and at most 2**16. A tensor without a
    past is its own. Magnitudes that are not finite leave no trace.

    References
    ----------
    Micikevicius et al., FP8 Formats for Deep Learning, 2022, arXiv:2209.05433, section 3; NVIDIA Transformer Engine,
    ``DelayedScaling`` with ``amax_compute_algo="max"`` and margin 0, whose scales are not powers of two.
    """

    def __init__(self, *, delayed: bool, history: int = 16) -> None:
        self._delayed, self._length = delayed, history
        self._past: dict[str, deque[float]] = {}

    def exponent(self, name: str, tensor: NDArray[np.float32], fmt: FloatFormat) -> int:
        """Return log2 of the scale.

        Parameters
        ----------
        name : str
            Of the tensor: the same at every step.
        tensor : ndarray
            What it is now.
        fmt : FloatFormat
            What it will be rounded to.

        Returns
        -------
        int
            Its magnitude counts from the next step on, if scales are delayed.

        Raises
        ------
        Nothing.
        """
        if not self._delayed:
            return scale_exponent(tensor, fmt)
        largest = float(np.max(np.abs(tensor), initial=0.0))
        past = self._past.setdefault(name, deque(maxlen=self._length))
        found = max(past) if past else largest
        if math.isfinite(largest):
            past.append(largest)
        return scale_exponent(np.array([found]), fmt)
