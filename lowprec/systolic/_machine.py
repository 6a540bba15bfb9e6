"""The registers of a systolic array, and what all of them do in one cycle.

Every register of a number has one beside it that says which number it is: its place in the operand or in the result
(C order), `EMPTY` for none, or `PADDING` for one that fills a tile up. Nothing here looks at these to decide where
a number goes; they are what hardware has as a valid bit, what a trace shows, and how what leaves finds its place.

An element works in a cycle where it has both operands and a sum, and none of them is padding. Padding passes through
as everything else does and takes as long: the array does not know that an edge of a matrix is near.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec.systolic._arithmetic import Step

EMPTY, PADDING = -1, -2


class Numbers(NamedTuple):
    """Numbers, and which ones they are."""

    values: Array
    places: Array

    @staticmethod
    def none(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Numbers:
        """Return room for numbers, empty."""
        return Numbers(np.zeros(shape, dtype), np.full(shape, EMPTY, np.int32))

    def to_the_right(self, entering: Numbers) -> None:
        """Move every number one element to the right."""
        for own, new in zip(self, entering, strict=True):
            own[:, 1:] = own[:, :-1]
            own[:, 0] = new

    def down(self, entering: Numbers) -> None:
        """Move every number one element down."""
        for own, new in zip(self, entering, strict=True):
            own[1:] = own[:-1]
            own[0] = new

    def there(self) -> int:
        """Return how many numbers there are, padding included."""
        return int(np.count_nonzero(self.places != EMPTY))


class Registers:
    """What both kinds of array have: rows x columns of an operand on its way, another operand, and sums.

    Parameters
    ----------
    rows, cols : int
        Elements along each side.
    step : Step
        What an element computes.
    a_is_moving : bool
        Whether the operand on its way to the right is `a`.
    k : int
        K of the product.
    """

    def __init__(self, rows: int, cols: int, step: Step, a_is_moving: bool, k: int) -> None:
        shape = (rows, cols)
        self.step, self.k = step, k
        self.moving = Numbers.none(shape, step.dtype)
        self.other = Numbers.none(shape, step.dtype)
        self.sums = Numbers.none(shape, step.dtype)
        self.a, self.b = (self.moving, self.other) if a_is_moving else (self.other, self.moving)
        self.active = np.zeros(shape, np.bool_)

    def work(self) -> None:
        """Let every element that can do one step."""
        self.active = (self.moving.places >= 0) & (self.other.places >= 0) & (self.sums.places >= 0)
        k = self.a.places % self.k if self.step.draws else self.a.places
        self.step(self.a.values, self.b.values, self.sums.values, self.active, self.sums.places, k)

    def rest(self) -> None:
        """Note that no element works in a cycle."""
        self.active = np.zeros_like(self.active)


class Stationary(Registers):
    """An array in which one operand stays, the other moves right, and sums move down.

    With double buffering every element has a second register, in which the next number waits, and a third one, by
    which such numbers come down the column, each with the row that it is for.
    """

    def __init__(self, rows: int, cols: int, step: Step, a_is_moving: bool, k: int) -> None:
        super().__init__(rows, cols, step, a_is_moving, k)
        self.waiting = Numbers.none((rows, cols), step.dtype)
        self.coming = Numbers.none((rows, cols), step.dtype)
        self.addressee = np.full((rows, cols), EMPTY, np.int32)
        self.swap = np.zeros((rows, cols), np.bool_)
        self.row = np.arange(rows, dtype=np.int32)[:, np.newaxis]

    def load(self, row: Numbers) -> None:
        """Let all numbers that stay sink by one row, in a cycle in which nothing else enters and no element works."""
        rows, cols = self.active.shape
        self.moving.to_the_right(Numbers.none((rows,), self.moving.values.dtype))
        self.sums.down(Numbers.none((cols,), self.sums.values.dtype))
        self.other.down(row)
        self.rest()

    def bottom(self) -> Numbers:
        """Return the sums that leave the array after this cycle."""
        return Numbers(self.sums.values[-1], self.sums.places[-1])

    def cycle(
        self,
        left: Numbers,
        top: Numbers,
        swap: Array | None = None,
        coming: Numbers | None = None,
        rows: Array | None = None,
    ) -> None:
        """Move everything by one element, and let every element do one step.

        Parameters
        ----------
        left, top : Numbers
            What enters the rows from the left and, as sums, the columns from the top.
        swap : array of bool, optional
            For each row, whether what enters is the first of a tile: its element then takes the number that waits.
        coming : Numbers, optional
            What enters the columns from the top to wait.
        rows : array of int32, optional
            For which row that is.
        """
        self.moving.to_the_right(left)
        self.sums.down(top)
        if swap is not None and coming is not None and rows is not None:
            self.swap[:, 1:] = self.swap[:, :-1]
            self.swap[:, 0] = swap
            for own, new in zip(self.other, self.waiting, strict=True):
                np.copyto(own, new, where=self.swap)
        self.work()
        if coming is not None and rows is not None:
            self.coming.down(coming)
            self.addressee[1:] = self.addressee[:-1]
            self.addressee[0] = rows
            for own, new in zip(self.waiting, self.coming, strict=True):
                np.copyto(own, new, where=self.addressee == self.row)


class Output(Registers):
    """An array in which sums stay, one operand moves right and the other one down."""

    def clear(self, places: Array) -> None:
        """Begin sums at +0."""
        self.sums.values[...] = 0
        self.sums.places[...] = places

    def cycle(self, left: Numbers, top: Numbers) -> None:
        """Move both operands by one element, and let every element do one step."""
        self.moving.to_the_right(left)
        self.other.down(top)
        self.work()

    def right(self) -> Numbers:
        """Return what leaves the array to the right after this cycle."""
        return Numbers(self.moving.values[:, -1], self.moving.places[:, -1])

    def drain(self) -> Numbers:
        """Let all sums sink by one row, in a cycle in which nothing enters and no element works; return what leaves."""
        rows, cols = self.active.shape
        self.moving.to_the_right(Numbers.none((rows,), self.moving.values.dtype))
        self.other.down(Numbers.none((cols,), self.other.values.dtype))
        leaving = Numbers(self.sums.values[-1].copy(), self.sums.places[-1].copy())
        self.sums.down(Numbers.none((cols,), self.sums.values.dtype))
        self.rest()
        return leaving
