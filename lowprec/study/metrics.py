"""How far logits are from a reference, and what that does to a classifier."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sqnr_db(logits: NDArray[Any], reference: NDArray[np.float64]) -> float:
    """Return the signal-to-quantisation-noise ratio of logits.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        What was computed.
    reference : ndarray of float64, shape (N, classes)
        What should have been.

    Returns
    -------
    float
        ``10 * log10(sum(reference**2) / sum((logits - reference)**2))`` in dB. **More is better**: the logit error
        relative to the reference is minus this number of dB, and one more significand bit is worth about
        ``20 * log10(2)`` = 6.02 dB. +inf where nothing differs, -inf where a logit is infinite, NaN where one is NaN.

    Raises
    ------
    ValueError
        If shapes differ or the reference is all zero.

    Examples
    --------
    >>> import numpy as np
    >>> round(sqnr_db(np.array([[1.1, 0.0]]), np.array([[1.0, 0.0]])), 6)
    20.0
    """
    _same_shape(logits, reference)
    signal = float(np.sum(np.square(reference)))
    if signal == 0:
        msg = "`reference` must not be all zero: there is no signal to compare with."
        raise ValueError(msg)
    wide = logits.astype(np.float64)
    if np.isnan(wide).any():
        return math.nan
    if np.isinf(wide).any():
        return -math.inf
    noise = float(np.sum(np.square(wide - reference)))
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def cross_entropy(logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
    """Return the mean cross-entropy of softmax(logits), in nats.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        Any float dtype; the sums are in float64.
    labels : ndarray of int, shape (N,)
        The right classes.

    Returns
    -------
    float
        ``mean(log(sum(exp(logits), axis=1)) - logits[n, labels[n]])``; NaN where a logit is not finite.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np
    >>> round(cross_entropy(np.zeros((1, 2)), np.array([0])), 6)  # log(2)
    0.693147
    """
    wide = logits.astype(np.float64)
    if not np.isfinite(wide).all():
        return math.nan
    shifted = wide - wide.max(axis=1, keepdims=True)
    right = np.take_along_axis(shifted, np.asarray(labels, dtype=np.intp)[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - right))


def accuracy(logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
    """Return the share of samples whose largest logit is the right class.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        Any float dtype.
    labels : ndarray of int, shape (N,)
        The right classes.

    Returns
    -------
    float
        From 0 to 1. Of equal logits the first counts; a row with a NaN is wrong.

    Raises
    ------
    Nothing.
    """
    return float(np.mean((logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)))


def top1_agreement(logits: NDArray[Any], reference: NDArray[np.float64]) -> float:
    """Return the share of samples that get the class that the reference gives them, right or wrong.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        What was computed.
    reference : ndarray of float64, shape (N, classes)
        What should have been.

    Returns
    -------
    float
        From 0 to 1. Of equal logits the first counts; a row with a NaN agrees with nothing.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    _same_shape(logits, reference)
    return accuracy(logits, reference.argmax(axis=1))


def _same_shape(logits: NDArray[Any], reference: NDArray[np.float64]) -> None:
    """Raise if the two shapes differ."""
    if logits.shape != reference.shape:
        msg = f"`logits` must have the shape of `reference`, {reference.shape}, got {logits.shape}."
        raise ValueError(msg)
