"""Operands of the workload `matmul`: random numbers of a few distributions, and their exact products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
OUTLIERS_EVERY = 128
"""Of so many channels of `activations` one has outliers, rounded up."""
OUTLIER_RANGE = (20.0, 60.0)
"""How many times larger these channels are."""


class Operands(NamedTuple):
    """What is multiplied, and what comes out.

    Parameters
    ----------
    x, w : ndarray of float32, shapes (M, K) and (N, K)
        Activations and weights.
    exact : ndarray of float64, shape (M, N)
        ``x @ w.T``, each element the exact sum, rounded once.
    sizes : ndarray of float64, shape (M, N)
        ``|x| @ |w|.T`` in the same way: what rounding errors of sums are measured by.
    """

    x: Numbers
    w: Numbers
    exact: NDArray[np.float64]
    sizes: NDArray[np.float64]


def _normal(rng: np.random.Generator, rows: int, k: int) -> tuple[Any, Any]:
    """Return standard normals: sums of any sign, which grow as sqrt(K)."""
    return rng.standard_normal((rows, k)), rng.standard_normal((rows, k))


def _student_t(rng: np.random.Generator, rows: int, k: int) -> tuple[Any, Any]:
    """Return activations with heavy tails, Student's t with 3 degrees of freedom, and normal weights."""
    return rng.standard_t(3, (rows, k)), rng.standard_normal((rows, k))


def _lognormal(rng: np.random.Generator, rows: int, k: int) -> tuple[Any, Any]:
    """Return positive numbers, exp of standard normals: sums that grow as K, by e for each product."""
    return rng.lognormal(0.0, 1.0, (rows, k)), rng.lognormal(0.0, 1.0, (rows, k))


def _activations(rng: np.random.Generator, rows: int, k: int) -> tuple[Any, Any]:
    """Return normals with a few channels that are tens of times larger in every row, and weights of size 1/sqrt(K)."""
    x = rng.standard_normal((rows, k))
    channels = rng.choice(k, -(-k // OUTLIERS_EVERY), replace=False)
    x[:, channels] *= rng.uniform(*OUTLIER_RANGE, len(channels))
    return x, rng.standard_normal((rows, k)) / math.sqrt(k)


DISTRIBUTIONS: Mapping[str, Callable[[np.random.Generator, int, int], tuple[Any, Any]]] = MappingProxyType(
    {"normal": _normal, "student_t": _student_t, "lognormal": _lognormal, "activations": _activations}
)
"""By name, what draws x and w: ``draw(rng, rows, k)``."""


def operands(distribution: str, k: int, rows: int, seed: int) -> Operands:
    """Return operands and their exact products, the same for the same arguments.

    Parameters
    ----------
    distribution : str
        Of `DISTRIBUTIONS`.
    k : int
        Products per sum.
    rows : int
        Of x and of w: M and N.
    seed : int
        Of the numbers; a seed gives other numbers for every distribution and K.

    Returns
    -------
    Operands
        Sums by `math.fsum` over products that are exact in float64, so without any error but that of one
        rounding to float64, on any machine.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> from lowprec.study._matmul_data import operands
    >>> found = operands("lognormal", 16, 2, 0)
    >>> found.x.shape, bool((found.exact == found.sizes).all())
    ((2, 16), True)
    """
    x, w = _drawn(distribution, k, rows, seed)
    return Operands(x, w, *_truth(distribution, k, rows, seed))


def _drawn(distribution: str, k: int, rows: int, seed: int) -> tuple[Numbers, Numbers]:
    """Return the operands."""
    rng = np.random.default_rng([seed, list(DISTRIBUTIONS).index(distribution), k])
    x, w = DISTRIBUTIONS[distribution](rng, rows, k)
    return np.asarray(x, np.float32), np.asarray(w, np.float32)


@lru_cache(maxsize=1024)  # drawing again costs a tenth of the exact sums, and operands take more room
def _truth(distribution: str, k: int, rows: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact product, and that of magnitudes, read-only."""
    x, w = _drawn(distribution, k, rows, seed)
    found = exact_product(x, w), exact_product(np.abs(x), np.abs(w))
    for array in found:
        array.flags.writeable = False
    return found


def exact_product(x: Numbers, w: Numbers) -> NDArray[np.float64]:
    """Return ``x @ w.T`` with each element rounded once, to float64.

    Parameters
    ----------
    x, w : ndarray of float32, shapes (M, K) and (N, K)
        Finite.

    Returns
    -------
    ndarray of float64, shape (M, N)
        A product of two float32 numbers has 48 bits, so it is exact in float64; `math.fsum` rounds sums of them once.

    Raises
    ------
    Nothing.
    """
    wide = w.astype(np.float64)
    return np.array([[math.fsum((row * other).tolist()) for other in wide] for row in x.astype(np.float64)])
