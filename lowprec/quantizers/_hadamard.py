"""Hadamard matrices: entries 1 and -1, rows orthogonal."""

from __future__ import annotations

import functools

import numpy as np

from lowprec._checks import Array


@functools.lru_cache(maxsize=16)
def matrix(n: int) -> Array | None:
    """Return a Hadamard matrix of order n as int8, or None if none is known here.

    Sylvester's for powers of two; else a power of two times the least order n / 2**k that Paley's first construction
    (q + 1 for a prime q = 3 mod 4) or his second (2 * (q + 1) for a prime q = 1 mod 4) gives: 12, 20, 24, 28, 36, ...
    """
    if n < 1:
        return None
    core, halvings = n, 0
    while core % 2 == 0:
        core, halvings = core // 2, halvings + 1
    if core == 1:
        return _double(np.ones((1, 1), np.int8), halvings)
    for left in range(halvings - 2, -1, -1):  # the order of the core must be a multiple of 4
        found = _paley(n >> left)
        if found is not None:
            return _double(found, left)
    return None


def _double(h: Array, times: int) -> Array:
    """Return Sylvester's doubling, [[H, H], [H, -H]], some times over."""
    for _ in range(times):
        h = np.block([[h, h], [h, -h]])
    h.flags.writeable = False
    return h


def _prime(q: int) -> bool:
    """Say whether a number is prime."""
    return q > 1 and all(q % d for d in range(2, int(q**0.5) + 1))


def _paley(n: int) -> Array | None:
    """Return Paley's matrix of order n, from the quadratic residues of a prime, or None."""
    q = n - 1
    if n % 4 == 0 and _prime(q):
        s = np.zeros((n, n), np.int8)  # skew: S.T = -S, and S @ S.T = q I
        s[0, 1:], s[1:, 0], s[1:, 1:] = 1, -1, _jacobsthal(q)
        return s + np.eye(n, dtype=np.int8)
    q = n // 2 - 1
    if n % 4 == 0 and q % 4 == 1 and _prime(q):
        s = np.zeros((q + 1, q + 1), np.int8)  # symmetric
        s[0, 1:], s[1:, 0], s[1:, 1:] = 1, 1, _jacobsthal(q)
        one = np.eye(q + 1, dtype=np.int8)
        return np.block([[s + one, s - one], [s - one, -s - one]])
    return None


def _jacobsthal(q: int) -> Array:
    """Return whether i - j is a square modulo q: 1, -1 if not, 0 on the diagonal."""
    kind = -np.ones(q, np.int8)
    kind[np.arange(1, q, dtype=np.int64) ** 2 % q] = 1
    kind[0] = 0
    i = np.arange(q)
    return np.asarray(kind[(i[:, None] - i) % q])
