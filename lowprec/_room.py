"""Room that large products use again: new memory costs a tenth of a product of 2048 rows, a fifth of one of 1024."""

from __future__ import annotations

from collections import deque

import numpy as np

from lowprec._checks import Array


class Room:
    """Bytes lent out and taken back, one piece of them kept between calls."""

    def __init__(self, most: int) -> None:
        self._spare: deque[Array] = deque(maxlen=1)
        self._most = most

    def borrow(self, size: int) -> Array:
        """Return that many bytes or more, the spare ones if they are enough."""
        try:
            found = self._spare.pop()
        except IndexError:
            return np.empty(size, np.uint8)
        return found if found.size >= size else np.empty(size, np.uint8)

    def give_back(self, room: Array) -> None:
        """Keep bytes that nobody uses any more, unless they are too many."""
        if room.size <= self._most:
            self._spare.append(room)


PACKED = Room(1 << 26)  # for packed operands
NUMBERS = Room(1 << 25)  # for operands made plain numbers
