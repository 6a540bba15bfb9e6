"""Sums that one composes: sequential, pairwise, exact, integer; each the words of its model, one number at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from lowprec.accumulators import Exact, Integer, Pairwise, Sequential
from lowprec.formats import FloatFormat
from lowprec.reference.numbers import philox4x32
from lowprec.reference.reals import ZERO, Real, add, multiply, real, rounded

SUM, PRODUCT, CHUNK = 3, 4, 5  # streams of random words


def random_step(seed: int, index: int, stream: int, step: int) -> int:
    """Return the random word of one step of one element's sum: four steps share a Philox counter."""
    counter = (index % 2**32, index // 2**32, stream, step // 4)
    return philox4x32(counter, (seed % 2**32, seed // 2**32))[step % 4]


class Stepper:
    """The roundings of a `Sequential` sum: of a product, and of a sum."""

    def __init__(self, model: Sequential, seed: int, index: int) -> None:
        """Keep the policies."""
        self.model, self.seed, self.index = model, seed, index

    def _round(self, x: Real, fmt: FloatFormat, stream: int, step: int) -> Real:
        """Round by the model's policies, which hold for products too."""
        how = self.model
        word = random_step(self.seed, self.index, stream, step) if how.rounding == "stochastic" else None
        code = rounded(x, fmt, how.rounding, how.overflow, how.subnormals, word, how.random_bits)
        return real(code, fmt)

    def product(self, x: Real, step: int) -> Real:
        """Return what enters the sum: the product, or the product rounded."""
        return x if self.model.product is None else self._round(x, self.model.product, PRODUCT, step)

    def add(self, x: Real, r: Real, step: int, stream: int = SUM) -> Real:
        """Return ``round(x + r)``."""
        exact = add(x, r, toward_negative=self.model.rounding == "toward_negative")
        return self._round(exact, self.model.format, stream, step)


def sequential(
    model: Sequential, products: Sequence[Real], start: Real, *, seed: int, index: int, first_k: int
) -> Real:
    """Return the sum of a `Sequential`."""
    steps, r = Stepper(model, seed, index), start
    for k, p in enumerate(products, first_k):
        r = steps.add(steps.product(p, k), r, k)
    return r


def pairwise(model: Pairwise, addends: Sequence[Real], start: Real) -> Real:
    """Return the sum of a `Pairwise`; without addends there is no tree."""
    if not addends:
        return start

    def plus(x: Real, y: Real) -> Real:
        exact = add(x, y, toward_negative=model.rounding == "toward_negative")
        return real(rounded(exact, model.format, model.rounding), model.format)

    starts = range(0, len(addends), model.block)
    level = [reduce(lambda t, x: plus(x, t), addends[i : i + model.block], ZERO) for i in starts]
    while len(level) > 1:
        odd = level[len(level) - len(level) % 2 :]
        level = [plus(x, y) for x, y in zip(level[0::2], level[1::2], strict=False)] + odd
    return plus(start, level[0])


def chunk_sum(model: Sequential | Pairwise, sums: Sequence[Real], start: Real, *, seed: int, index: int) -> Real:
    """Return the outer sum of a `Chunked`: of numbers, where the other sums are of products."""
    if isinstance(model, Pairwise):
        return pairwise(model, sums, start)
    steps, r = Stepper(model, seed, index), start
    for number, t in enumerate(sums):
        r = steps.add(t, r, number, CHUNK)
    return r


def exact(model: Exact, products: Sequence[Real], start: Real, fmt: FloatFormat) -> int:
    """Return the code of an `Exact` sum."""
    addends = [start, *products]
    total = reduce(add, addends)
    if not total.special and total.magnitude == 0:
        zeros = {x.negative if x.magnitude == 0 else None for x in addends}
        negative = zeros != {False} if model.rounding == "toward_negative" else zeros == {True}
        total = Real(negative, total.magnitude)
    return rounded(total, fmt, model.rounding)


def integer(model: Integer, products: Sequence[int], start: int) -> int:
    """Return the sum of an `Integer`, not its code."""
    fmt, r = model.result_format, start
    low, high = int(fmt.min), int(fmt.max)
    if model.overflow == "raise":
        r += sum(products)
        if not low <= r <= high:
            msg = f"the sum is {r}, outside {low} to {high} of {fmt}."
            raise OverflowError(msg)
        return r
    for i in range(0, len(products), model.length):
        r += sum(products[i : i + model.length])
        r = min(max(r, low), high) if model.overflow == "saturate" else (r - low) % 2**model.bits + low
    return r


def dot_products(a: Sequence[Real], b: Sequence[Real]) -> list[Real]:
    """Return the exact products of two rows."""
    return [multiply(x, y) for x, y in zip(a, b, strict=True)]
