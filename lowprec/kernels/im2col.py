"""The patches of images that a convolution sums over, as columns of a matrix."""

from __future__ import annotations

from typing import NamedTuple

from lowprec._jit import inline, njit


class Window(NamedTuple):
    """Where a convolution reads; lengths are of rows, then of columns."""

    height: int  # of an image
    width: int
    out_height: int  # of the result
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_rows: int
    stride_columns: int
    top: int  # padding
    left: int
    dilation_rows: int
    dilation_columns: int


@inline
def _clear(target):
    """Write the code of +0 everywhere."""
    for k in range(target.size):
        target[k] = 0


@inline
def _copy(source, target, window):
    """Copy what one kernel element reads along a line of the result."""
    if window.stride_columns == 1:
        for k in range(target.size):
            target[k] = source[k]
    else:
        for k in range(target.size):
            target[k] = source[k * window.stride_columns]


@njit()
def fill_columns(images, columns, window, first_row, last_row, first, last):
    """Write rows of the matrix whose row is (channel, kernel row, kernel column), for positions ``first`` to ``last``.

    A position is (image, row, column) of the result, counted in C order. ``images``, of shape (images, channels,
    height, width), and ``columns``, with a column for each of the positions, hold codes as unsigned integers; 0, the
    code of +0, is the padding.
    """
    w = window
    area = w.kernel_height * w.kernel_width
    for row in range(first_row, last_row):
        channel = row // area
        i = row % area // w.kernel_width * w.dilation_rows - w.top
        j = row % w.kernel_width * w.dilation_columns - w.left
        # The columns of the result that read inside the image.
        inside = min(max(0, -(j // w.stride_columns)), w.out_width)
        outside = min(max(inside, -((j - w.width) // w.stride_columns)), w.out_width)
        start = first % w.out_width
        line = first // w.out_width % w.out_height
        image = first // w.out_width // w.out_height
        done = 0
        while done < last - first:
            stop = min(w.out_width, start + last - first - done)
            y = line * w.stride_rows + i
            low, high = max(start, min(stop, inside)), max(start, min(stop, outside))
            if y < 0 or y >= w.height:
                low = high = stop
            _clear(columns[row, done : done + low - start])
            if low < high:
                begin, end = low * w.stride_columns + j, (high - 1) * w.stride_columns + j + 1
                _copy(images[image, channel, y, begin:end], columns[row, done + low - start : done + high - start], w)
            _clear(columns[row, done + high - start : done + stop - start])
            done += stop - start
            start = 0
            line += 1
            if line == w.out_height:
                line = 0
                image += 1
