"""Histograms that see data in batches, and what is read off them."""

from __future__ import annotations

import numpy as np

from lowprec._checks import Array

_STEP = 1 << 20  # numbers sorted into bins at a time


class Histogram:
    """Counts of numbers by sign and magnitude, for one or more channels.

    Magnitudes lie in ``bins`` equal bins on [0, top]: bin i has ``top * i / bins < |x| <= top * (i + 1) / bins``, the
    first one 0 too. A channel's ``top`` is the largest magnitude of its first batch that is not all zero;
    a later batch with a larger one doubles ``top`` until it holds it, and each doubling adds neighbouring bins in
    pairs, so counts stay exact and at least half of the bins lie below the largest magnitude seen.
    """

    def __init__(self, channels: int, bins: int) -> None:
        self.bins = bins
        self.counts = np.zeros((channels, 2, bins), np.int64)  # negative numbers, others
        self.top = np.zeros(channels)
        self.low, self.high = np.zeros((2, channels))
        self.seen = False

    def add(self, x: Array) -> None:
        """Count finite numbers, shape (channels, any); at least one."""
        for channel, row in enumerate(x):
            self._grow(channel, float(np.abs(row).max()))
            low, high = float(row.min()), float(row.max())
            self.low[channel] = min(self.low[channel], low) if self.seen else low
            self.high[channel] = max(self.high[channel], high) if self.seen else high
            top = self.top[channel]
            for begin in range(0, row.size, _STEP):
                part = row[begin : begin + _STEP].astype(np.float64)
                place = np.zeros(part.size, np.int64)
                if top > 0:
                    place = np.maximum(np.ceil(np.abs(part) / top * self.bins).astype(np.int64) - 1, 0)
                found = np.bincount(place + self.bins * (part >= 0), minlength=2 * self.bins)
                self.counts[channel] += found.reshape(2, self.bins)
        self.seen = True

    def _grow(self, channel: int, largest: float) -> None:
        """Make room for a magnitude."""
        if self.top[channel] == 0:
            self.top[channel] = largest
        while self.top[channel] < largest:
            self.top[channel] *= 2
            pairs = self.counts[channel].reshape(2, self.bins // 2, 2).sum(axis=-1)
            self.counts[channel] = np.concatenate([pairs, np.zeros_like(pairs)], axis=1)

    def magnitudes(self) -> Array:
        """Return the counts of magnitudes, shape (channels, bins)."""
        return np.asarray(self.counts.sum(axis=1))

    def centres(self) -> tuple[Array, Array]:
        """Return the middles of all bins in ascending order and the counts there, both (channels, 2 * bins)."""
        middles = (np.arange(self.bins) + 0.5) / self.bins * self.top[:, None]
        counts = np.concatenate([self.counts[:, 0, ::-1], self.counts[:, 1]], axis=1)
        return np.concatenate([-middles[:, ::-1], middles], axis=1), counts


def below(counts: Array, share: float) -> int:
    """Return how many bins from the first hold at least a share of all that was counted."""
    running = np.cumsum(counts)
    return int(np.searchsorted(running, share * running[-1], side="left")) + 1


def entropy_bins(counts: Array, levels: int) -> int:
    """Return how many bins to keep so that `levels` levels lose the least information about magnitudes.

    For i from `levels` to the number of bins: P is the first i bins with the rest added to the last of them, Q is the
    first i bins merged into `levels` equal runs, each run's count spread evenly over its bins that are not empty. The
    i of the least Kullback-Leibler divergence of Q from P is taken, the largest of equals; where P has something in a
    bin in which Q has nothing the divergence is infinite. If it is so for all, all bins are kept.
    """
    total = counts.sum()
    best, least = len(counts), np.inf
    for kept in range(len(counts), levels - 1, -1):
        own = counts[:kept].astype(np.float64)
        p = own.copy()
        p[-1] += total - own.sum()
        run = np.arange(kept) * levels // kept
        filled = own > 0
        if p[-1] > 0 and not filled[-1]:
            continue
        sums = np.bincount(run, own, levels)
        widths = np.bincount(run, filled, levels)
        q = sums[run[filled]] / widths[run[filled]]
        p = p[filled]
        divergence = float(np.sum(p / p.sum() * np.log((p / p.sum()) / (q / q.sum()))))
        if divergence < least:
            best, least = kept, divergence
    return best
