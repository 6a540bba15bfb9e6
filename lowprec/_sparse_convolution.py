"""Convolution weights that are sparse along their input channels, as rows of places in (channel, row, column)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec._patterns import pattern_of
from lowprec._sparse_rows import SparseRows, columns_of
from lowprec.sparse_arrays import Sparse24


class Kernels(NamedTuple):
    """The places of convolution weights that are sparse along their input channels."""

    listed: Array  # (outputs, kept) of int32: places in (channel, kernel row, kernel column), ascending
    kept: int  # places of a group of channels that are kept
    group: int  # and all of its places

    def rows(self, weights: Array, group: int) -> SparseRows:
        """Return the rows (outputs of a group, places) of dense weights, of one group of channels."""
        each = weights.shape[0]
        listed = self.listed[group * each : (group + 1) * each]
        values = np.take_along_axis(weights, np.minimum(listed, weights.shape[1] - 1).astype(np.intp), axis=1)
        return SparseRows(values, weights.shape[1], self.kept, self.group, listed=listed)


def kernels_of(w: Sparse24) -> Kernels | None:
    """Return the places of convolution weights (O, C, KH, KW); None unless they are sparse along C."""
    if w.ndim != 4 or w.axis != 1 or not w.size:
        return None
    outputs, channels, height, width = w.shape
    pattern, area = pattern_of(w.pattern), height * width
    # The kept channels at each place of the kernel, (outputs, kernel rows, kernel columns, kept channels).
    columns = columns_of(w.nibbles, pattern, w.values.shape[1])
    places = columns.reshape(outputs, area, -1) * area + np.arange(area)[:, np.newaxis]
    places[places >= channels * area] = channels * area
    listed = np.sort(places.reshape(outputs, -1), axis=1).astype(np.int32)
    return Kernels(listed, pattern.kept * area, pattern.group * area)
