"""A user's function as something to ask: one dot product per question, its answer as a number and as bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec.formats import FloatFormat

Products = Mapping[int, tuple[float, float]]  # the factors at each position; 0 * 0 elsewhere


class Answer(NamedTuple):
    """What the function returned."""

    value: float
    bits: int  # of the result in its own type
    width: int  # of that type, in bits

    def same(self, other: Answer) -> bool:
        """Say whether two answers are one: the same bits, or in types of unlike width the same number and sign."""
        if self.width == other.width:
            return self.bits == other.bits
        return same_number(self.value, other.value)

    def __str__(self) -> str:
        """Return the number and its bits."""
        return f"{self.value!r} (0x{self.bits:0{self.width // 4}X})"


def same_number(x: float, y: float) -> bool:
    """Say whether two numbers are equal, signs of zero included; any two NaN are."""
    return (x == y and math.copysign(1, x) == math.copysign(1, y)) or (x != x and y != y)  # noqa: PLR0124


class Powers:
    """Products that are powers of two, in the formats of the operands.

    Parameters
    ----------
    a, b : FloatFormat
        The formats.
    """

    def __init__(self, a: FloatFormat, b: FloatFormat) -> None:
        self.formats = (a, b)
        self.high = [math.frexp(min(fmt.max, 2.0**1000))[1] - 1 for fmt in self.formats]
        self.low = [fmt.emin for fmt in self.formats]
        self.least = [math.frexp(fmt.smallest_subnormal)[1] - 1 for fmt in self.formats]
        self.top, self.bottom, self.floor = sum(self.high), sum(self.low), sum(self.least)

    def split(self, e: int, *, subnormal: bool = False) -> tuple[int, int]:
        """Return two exponents that add up to ``e``, as equal as the formats let them be."""
        low = self.least if subnormal else self.low
        first = min(max(e // 2, low[0], e - self.high[1]), self.high[0], e - low[1])
        return first, e - first

    def holds(self, e: int, *, subnormal: bool = False) -> bool:
        """Say whether a product can be 2**e."""
        return (self.floor if subnormal else self.bottom) <= e <= self.top

    def __call__(self, e: int, sign: float = 1.0) -> tuple[float, float]:
        """Return factors whose product is ``sign * 2**e``; subnormal ones only where normal ones cannot give it."""
        x, y = self.split(e, subnormal=e < self.bottom)
        return math.copysign(2.0**x, sign), 2.0**y


class Asker:
    """Calls the function, checks what it returns, counts, and remembers.

    Parameters
    ----------
    function : callable
        ``function(a, b, c)`` with vectors of `k` elements.
    formats : tuple of FloatFormat
        Of a and b.
    k : int
        Length of the vectors.
    """

    def __init__(self, function: Callable[..., Any], formats: tuple[FloatFormat, FloatFormat], k: int) -> None:
        self.function, self.k = function, k
        self.powers = Powers(*formats)
        self.dtype = np.float64 if max(fmt.precision for fmt in formats) > 24 else np.float32
        self.calls = 0
        self.has_c = True
        self.memory: dict[tuple[bytes, bytes, bytes], Answer] = {}

    def __call__(self, products: Products, c: float = 0.0) -> float:
        """Return the sum of some products, the others being +0 * +0, and c."""
        a, b = np.zeros((2, self.k), self.dtype)
        for at, (x, y) in products.items():
            a[at], b[at] = x, y
        return self.vectors(a, b, c).value

    def sum(self, terms: Mapping[int, int | None], c: float = 0.0, sign: Mapping[int, float] | None = None) -> float:
        """Return the sum of products that are powers of two, given by their exponents, and c."""
        signs = sign or {}
        return self({i: self.powers(e, signs.get(i, 1.0)) for i, e in terms.items() if e is not None}, c)

    def vectors(self, a: Array, b: Array, c: float, *, again: bool = False) -> Answer:
        """Return the function's answer; ``again`` asks even where the answer is known."""
        key = (a.tobytes(), b.tobytes(), np.float64(c).tobytes())
        if again or key not in self.memory:
            self.calls += 1
            given = a.copy(), b.copy(), float(c)
            try:
                with np.errstate(all="ignore"):  # overflow is among the questions
                    result = self.function(*given)
            except Exception as error:
                msg = (
                    f"`function` must take two vectors of {self.k} elements and a number, got {type(error).__name__}: "
                    f"{error} (call {self.calls}: {_shown(a, b, c)})."
                )
                raise RuntimeError(msg) from error
            answer = read(result)
            if again:
                return answer
            self.memory[key] = answer
        return self.memory[key]


def _shown(a: Array, b: Array, c: float) -> str:
    """Return a question in a few words."""
    used = [f"a[{i}]={float(a[i])!r}, b[{i}]={float(b[i])!r}" for i in np.flatnonzero((a != 0) | (b != 0))[:3]]
    return ", ".join([*used, f"c={c!r}"])


def read(result: Any) -> Answer:
    """Return what a function returned as a number and as bits."""
    plain = result
    if not isinstance(result, (np.ndarray, np.generic)) and hasattr(result, "item"):
        try:
            plain = result.item()  # a tensor of another library
        except (TypeError, ValueError, RuntimeError):
            plain = result
    try:
        array = np.asarray(plain)
    except Exception as error:
        msg = f"`function` must return one real number, got {type(result).__name__}."
        raise TypeError(msg) from error
    if array.size != 1:
        msg = f"`function` must return one number, got an array of shape {array.shape}; return its one element."
        raise ValueError(msg)
    real = array.dtype.kind in "fiu" or (array.dtype.kind == "V" and array.dtype.type.__module__ != "numpy")
    if not real or array.dtype.itemsize > 8:
        msg = f"`function` must return one real number, got {result!r} of {type(result).__name__}."
        raise TypeError(msg)
    bits = int.from_bytes(array.reshape(-1).astype(array.dtype.newbyteorder("<")).tobytes(), "little")
    return Answer(float(array.reshape(-1)[0]), bits, 8 * array.dtype.itemsize)
