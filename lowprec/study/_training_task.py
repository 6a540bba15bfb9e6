"""What is learnt: scikit-learn's handwritten digits, as an autoencoder or a classifier."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lowprec.study._extras import require
from lowprec.study._training_network import Array, Network
from lowprec.study._training_recipe import check_integer, closest

_TRAIN = 1198
_NETWORKS = {
    "autoencoder": Network((64, 64, 32, 16, 32, 64, 64), "sigmoid", "squared"),
    "classifier": Network((64, 64, 64, 10), "relu", "cross_entropy"),
}
_RATES = {
    ("autoencoder", "adam"): 4e-3,
    ("autoencoder", "sgd"): 2.0,
    ("classifier", "adam"): 2e-3,
    ("classifier", "sgd"): 0.1,
}


class Task(NamedTuple):
    """A network and its data.

    Parameters
    ----------
    name : str
        "autoencoder" or "classifier".
    network : Network
        What is trained.
    x, targets, test_x, test_targets : ndarray
        Images in [0, 1] with what the network shall give for them: themselves, or their classes.
    """

    name: str
    network: Network
    x: Array
    targets: Array
    test_x: Array
    test_targets: Array

    def digest(self) -> str:
        """Return a hash of the data and the network."""
        found = hashlib.sha256(repr(self.network).encode())
        for array in (self.x, self.targets, self.test_x, self.test_targets):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def task(name: str) -> Task:
    """Return a task on scikit-learn's handwritten digits: 1198 images to train on, 599 to test with.

    Parameters
    ----------
    name : {"autoencoder", "classifier"}
        "autoencoder": 64-64-32-16-32-64-64 with logistic sigmoids and a linear output, which learns to give its input;
        the loss is the mean squared error. "classifier": 64-64-64-10 with ReLU, cross-entropy.

    Returns
    -------
    Task
        Its arrays are read-only.

    Raises
    ------
    TypeError
        If the name is no string.
    ValueError
        If it is unknown.
    ImportError
        If scikit-learn is missing, which ships the digits.
    """
    if not isinstance(name, str):
        msg = f"`task` must be a word, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    if name not in _NETWORKS:
        msg = f"`task` must be one of {', '.join(map(repr, _NETWORKS))}, got {name!r}{closest(name, _NETWORKS)}."
        raise ValueError(msg)
    return _task(name)


@lru_cache(maxsize=2)
def _task(name: str) -> Task:
    """Return a known task."""
    images, labels = require("sklearn.datasets", "The workload 'training'").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = (images[order] / 16).astype(np.float32)
    targets = x if name == "autoencoder" else labels[order].astype(np.intp)
    x.flags.writeable = targets.flags.writeable = False
    return Task(name, _NETWORKS[name], x[:_TRAIN], targets[:_TRAIN], x[_TRAIN:], targets[_TRAIN:])


def learning_rate_of(name: str, optimizer: str, given: float | None) -> float:
    """Return the learning rate.

    Parameters
    ----------
    name, optimizer : str
        Of the task, and as in `Recipe`.
    given : float or None
        What was asked for.

    Returns
    -------
    float
        By default what suits them.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not positive.
    """
    if given is None:
        return _RATES.get((name, optimizer), 1e-3)
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, float, np.integer, np.floating)):
        msg = f"`learning_rate` must be a number, got {given!r} of type {type(given).__name__}."
        raise TypeError(msg)
    if not 0 < given < math.inf:
        msg = f"`learning_rate` must be positive, got {given}."
        raise ValueError(msg)
    return float(given)


def seeds_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of a workload's parts.

    Parameters
    ----------
    seeds : int or sequence of int
        An int n stands for 0 to n - 1.

    Returns
    -------
    tuple of int
        At least one.

    Raises
    ------
    TypeError
        If one is no integer.
    ValueError
        If there are none, or one is out of range.
    """
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Iterable):
        return tuple(range(check_integer("seeds", seeds, 1, 10**4)))
    chosen = tuple(check_integer("seeds", seed, 0, 2**31 - 1) for seed in seeds)
    if not chosen:
        msg = "`seeds` must name at least one seed."
        raise ValueError(msg)
    return chosen


def mean_of(values: Sequence[float]) -> float:
    """Return the mean, NaN where one value is not finite.

    Parameters
    ----------
    values : sequence of float
        At least one.

    Returns
    -------
    float
        ``math.fsum(values) / len(values)``.

    Raises
    ------
    Nothing.
    """
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
