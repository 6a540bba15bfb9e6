"""What a processing element computes: one step of an accumulator, for all elements of an array at once."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np

from lowprec._checks import Array
from lowprec._evaluation import _rule, _within_single
from lowprec._models import CANONICAL_NAN, Facts, wide_integers
from lowprec._plan import Plan
from lowprec.accumulators import Accumulator, Chunked, Integer, Sequential
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as resolve
from lowprec.kernels import systolic as kernels
from lowprec.rounding import Rounding

_SUM, _OUTER = 3, 5  # streams of random words, as in every product


def model_of(plan: Plan, rows: int, dataflow: str) -> Accumulator:
    """Return the model of an array's sums, or say what a processing element cannot do."""
    model = Sequential(plan.dtype.name) if plan.model is None else plan.model  # type: ignore[arg-type]
    inner = cast(Accumulator, model.inner) if isinstance(model, Chunked) else model
    if isinstance(inner, Integer) and (
        inner.overflow == "raise" or (inner.overflow == "saturate" and inner.length != 1)
    ):
        rule = 'that wraps or saturates after every product (length=1, overflow="wrap" or "saturate")'
        msg = f"`accumulator` must be an integer sum {rule}, got {model!r}; an array adds one product in a step."
        raise ValueError(msg)
    if not isinstance(inner, (Sequential, Integer)):
        msg = (
            "`accumulator` must be a sum of one product after the other, as the processing elements of an array form "
            f"it (a float format, lp.Sequential, lp.Integer, or lp.Chunked of these), got {model!r}."
        )
        raise ValueError(msg)
    if isinstance(model, Chunked):
        if dataflow == "os":
            msg = (
                f"`accumulator` must not be chunked with dataflow='os', where a sum stays in its place, got {model!r}; "
                "choose dataflow='ws'."
            )
            raise ValueError(msg)
        if model.every != rows or not isinstance(model.outer, Sequential):
            msg = (
                f"`accumulator` must be chunks of `rows` = {rows} products, one tile each, added up one after the "
                f"other, got {model!r}; write lp.Chunked(inner, every={rows})."
            )
            raise ValueError(msg)
    return model


def with_model(plan: Plan) -> Plan:
    """Return a plan that has a model where wide operands are summed in binary32."""
    if not plan.mixed:
        return plan
    facts = Facts(False, 8, CANONICAL_NAN, False, False, None)
    return dataclasses.replace(plan, model=Sequential(), facts=facts, mixed=False)


class Step:
    """One step of a sum in every element that is active.

    Parameters
    ----------
    model : Sequential or Integer
        The sum.
    operands : pair of Format
        The formats of what is multiplied.
    item : int
        Bytes of the numbers that are multiplied, 4 or 8.
    seed : int
        The key of random words.
    stream : int
        Which random words.
    """

    def __init__(
        self, model: Accumulator, operands: tuple[Format, Format], item: int, seed: int = 0, stream: int = _SUM
    ) -> None:
        self.model, self.operands, self.seed = model, operands, seed
        self.outer = stream == _OUTER
        self.draws = getattr(model, "random_bits", None) is not None  # whether words are drawn
        self.way = "definition"
        self.dtype: np.dtype[Any]  # of sums, and of operands
        if isinstance(model, Integer):
            self.dtype = np.dtype(np.int64)
            if not wide_integers(model, operands):
                self.way = "integer"
            return
        self.dtype = np.dtype(f"f{item}")
        one = cast(Sequential, model)
        product = None if self.outer else one.product  # an outer sum adds numbers, not products
        plain = one == Sequential(f"float{8 * item}")  # type: ignore[arg-type]
        if plain:
            self.way = "fused"
        elif all(_within_single(each) for each in (one.format, product or one.format)):
            self.way, self.dtype = "rounded", np.dtype(np.float64)
            how = (one.rounding, one.overflow, str(one.subnormals))
            self.rules = np.stack([_rule(each, *how) for each in (one.format, product or one.format)])
            signed_seed = seed - (seed >> 63 << 64)
            minus = int(one.rounding is Rounding.TOWARD_NEGATIVE)
            numbers = (int(product is not None), one.random_bits or 0, signed_seed, stream, minus, int(item == 8))
            self.numbers = np.array(numbers, np.int64)

    def __call__(self, a: Array, b: Array, r: Array, active: Array, element: Array, step: Array) -> None:
        """Continue the sums `r`, in place; `element` and `step` say which words are drawn."""
        flat = [x.reshape(-1) for x in (a, b, r, active)]
        if self.way == "fused":
            kernels.fused(*flat)
        elif self.way == "rounded":
            kernels.rounded(*flat, element.reshape(-1), step.reshape(-1), self.rules, self.numbers)
        elif self.way == "integer":
            one = cast(Integer, self.model)
            kernels.integer(*flat, one.bits, one.is_signed, one.overflow == "saturate")
        else:
            self._define(flat, element.reshape(-1), step.reshape(-1))

    def _define(self, flat: list[Array], element: Array, step: Array) -> None:
        """Do one element after the other by the definition of the model."""
        from lowprec import reference

        fmt = cast(Format, self.model.result_format)
        a, b, r, active = flat
        for i in np.flatnonzero(active).tolist():
            codes = [reference.encode(x[i].item(), f) for x, f in zip((a, b, r), (*self.operands, fmt), strict=True)]
            code = reference.accumulate(
                self.model,
                [codes[0]],
                [codes[1]],
                codes[2],
                formats=self.operands,
                seed=self.seed,
                index=int(element[i]),
                first_k=int(step[i]),
            )
            r[i] = reference.decode(code, fmt)


class Adder:
    """What adds up the sums of tiles outside the array, in chunks: one step of the outer sum.

    Parameters
    ----------
    model : Chunked
        The sum.
    item : int
        Bytes of numbers.
    seed : int
        The key of random words.
    """

    def __init__(self, model: Chunked, item: int, seed: int) -> None:
        outer, inner = cast(Sequential, model.outer), cast(Sequential, model.inner)
        one = cast(FloatFormat, resolve("float32"))
        self.step = Step(outer, (inner.format, one), item, seed, _OUTER)
        if self.step.way == "definition" and outer.rounding is Rounding.STOCHASTIC:
            msg = f"`accumulator` must have an outer sum within float32's range to be stochastic, got {model!r}."
            raise ValueError(msg)

    def __call__(self, t: Array, totals: Array, element: Array, number: Array) -> None:
        """Add sums of tiles to totals, in place."""
        # A sum times one is itself, sign of zero included, and an exact product.
        t = t.astype(self.step.dtype)
        self.step(t, np.ones_like(t), totals, np.ones(t.shape, np.bool_), element, number)


def steps(plan: Plan, model: Accumulator, item: int, seed: int) -> tuple[Step, Adder | None]:
    """Return what the elements do, and what adds up the tiles."""
    operands = (plan.a.fmt, plan.b.fmt)
    if isinstance(model, Chunked):
        return Step(cast(Accumulator, model.inner), operands, item, seed), Adder(model, item, seed)
    return Step(model, operands, item, seed), None
