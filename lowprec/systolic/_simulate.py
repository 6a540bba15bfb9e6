"""simulate: a product on a systolic array, register by register."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _sums
from lowprec._call import _Call, _read, is_sparse, wants_scales
from lowprec._checks import Array
from lowprec._dataflows import dataflow_of, flags_of
from lowprec._matrices import matrices
from lowprec.accumulators.base import integer
from lowprec.systolic._arithmetic import model_of, steps, with_model
from lowprec.systolic._control import Run, output, stationary
from lowprec.systolic._machine import Numbers, Output, Stationary
from lowprec.systolic._result import SystolicResult
from lowprec.systolic._trace import Recorder

_MOST = 1 << 22  # elements of an array
_PLACES = 2**31 - 1


def simulate(
    a: Any,
    b: Any,
    *,
    rows: int,
    cols: int,
    dtype: Any = None,
    dataflow: str = "ws",
    accumulator: Any = None,
    double_buffered: bool = False,
    drain: bool = False,
    rng: Any = None,
    trace: bool = False,
) -> SystolicResult:
    """Multiply two matrices on a systolic array, cycle by cycle and register by register.

    Parameters
    ----------
    a, b : array_like
        Matrices (M, K) and (K, N).
    rows, cols : int
        Processing elements along each side of the array.
    dtype : str, FloatFormat, IntFormat, dtype or pair of these, optional
        The format of both operands, or one for each, as in `matmul`. None: they are in a format already. Integer
        formats are for integers; nothing is quantised.
    dataflow : {"ws", "os", "is"}
        What stays in its place: ``"ws"`` the weights, which are `b`; ``"os"`` the results; ``"is"`` the inputs, `a`.
    accumulator : str, FloatFormat or Accumulator, optional
        The sum of a processing element, one product after the other: a float format's name, `Sequential`, `Integer`
        that wraps or saturates, None for float32 (integers: int32). ``Chunked(inner, every=rows)``: the sums of tiles
        are not fed in again at the top but added up outside the array.
    double_buffered : bool
        Whether the next tile is loaded while one is worked on; not with ``"os"``, which loads none.
    drain : bool
        With ``"os"``: whether results leave by the columns, a row in each cycle, instead of being read in place.
    rng : int or numpy.random.Generator, optional
        The seed of an accumulator with stochastic rounding.
    trace : bool
        Whether to record the registers of both operands and of the sum after every cycle. Double-buffered, numbers
        that wait for their tile are not among them.

    Returns
    -------
    SystolicResult
        ``.values``, ``.cycles`` and what else was counted, ``.accumulator``, ``.trace``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or an operand has scales, is sparse, or would have to be quantised.
    ValueError
        If shapes do not match or are empty, a size is not positive, a name is unknown, the accumulator is none that a
        processing element can be, or the array or its trace would be too large.

    Notes
    -----
    In a cycle every register moves and every element does one step. Weight-stationary: row r of the array holds row r
    of a tile of `b`; ``a[m, r]`` enters row r from the left m + r cycles after the tile began, and moves right; sums
    enter at the top, move down with it, and leave at the bottom. Loading a tile takes `rows` cycles. Tiles of K follow
    each other, and the sums of one enter the next one at the top: so k ascends, and the result has the bits of
    ``matmul`` with the same accumulator. Input-stationary is the same product transposed. Output-stationary:
    ``a[m, k]`` enters row m from the left after m + k cycles, ``b[k, n]`` column n from the top after n + k cycles, and
    sums stay.

    Edges of matrices that do not fill a tile are padded: padding takes its time, and no part in any sum.

    The cycles are counted as they pass, until the last number has left the array. They equal
    `lowprec.cost.systolic`, which computes them. Memory is taken to be as fast as the array.

    References
    ----------
    H. T. Kung and C. E. Leiserson, Systolic arrays (for VLSI), 1978. N. P. Jouppi et al., In-datacenter performance
    analysis of a tensor processing unit, ISCA 2017, section 2.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 4))
    >>> result = lp.systolic.simulate(a, b, rows=4, cols=4, dtype="bf16")
    >>> result.cycles, result.accumulator
    (14, Sequential())
    >>> bool((result.values == lp.matmul(a, b, "bf16", accumulator=result.accumulator)).all())
    True
    """
    size = integer(rows, "rows", 1, 2**31 - 1), integer(cols, "cols", 1, 2**31 - 1)
    if size[0] * size[1] > _MOST:
        msg = (
            f"`rows` x `cols` must be at most {_MOST} elements to be simulated, got {size[0]} x {size[1]}; "
            "lp.cost.systolic has arrays of any size."
        )
        raise ValueError(msg)
    flow = dataflow_of(dataflow)
    buffered, drained = flags_of(flow, double_buffered, drain)
    if not isinstance(trace, (bool, np.bool_)):
        msg = f"`trace` must be True or False, got {trace!r} of type {type(trace).__name__}."
        raise TypeError(msg)
    call = _call(a, b, (dtype, accumulator, None, "nearest_even", None, "keep", 32), rng)
    x, y, shape, _ = matrices(call.a, call.b)
    _check_shapes(call, x, y)
    plan = with_model(call.plan)
    model = model_of(plan, size[0], flow)
    call.prepare()
    sides = [_sums.values(side, kind, plan) for side, kind in ((call.a, plan.a), (call.b, plan.b))]
    step, adder = steps(plan, model, sides[0].itemsize, call.seed)
    left, right = (_numbers(side, step.dtype) for side in sides)
    places = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    kind = Output if flow == "os" else Stationary
    machine = kind(*size, step, flow != "is", x.shape[1])
    recorder = Recorder(size, (x.shape[0], x.shape[1], y.shape[1]), flow, buffered) if trace else None
    run = Run(machine, places.T if flow == "is" else places, adder, recorder)
    if isinstance(machine, Output):
        output(run, machine, left, right, drained)
    elif flow == "is":
        stationary(run, machine, _turned(right), _turned(left), buffered)
    else:
        stationary(run, machine, left, right, buffered)
    values = run.memory.reshape(shape).astype(plan.out_dtype, copy=False)
    _sums.finish(values, plan)
    count = run.count
    return SystolicResult(
        values=values,
        rows=size[0],
        cols=size[1],
        dataflow=flow,
        shape=(shape[0], x.shape[1], shape[1]),
        accumulator=model,
        tiles=count.tiles,
        fill=count.fill,
        stream=count.stream,
        drain=count.drain,
        macs=count.macs,
        trace=None if recorder is None else recorder.trace(),
    )


def _call(a: Any, b: Any, how: tuple[Any, ...], rng: Any) -> _Call:
    """Return a call of a product as `matmul` has it, of operands that need no scales."""
    if is_sparse(a) or is_sparse(b):
        msg = "`a` and `b` must be dense, got a Sparse24; pass its .to_dense()."
        raise TypeError(msg)
    if wants_scales(a, b, how[0]):
        msg = (
            "`a` and `b` must be numbers of a float format, or integers for an integer one, got operands with scales "
            "or floats that would have to be quantised. Pass the .codes of lp.quantize, and apply scales to the result."
        )
        raise TypeError(msg)
    left, right, _ = _read(a, b)
    return _Call(left, right, how, rng)


def _check_shapes(call: _Call, x: Array, y: Array) -> None:
    """See that both operands are matrices, with an element."""
    if call.a.ndim != 2 or call.b.ndim != 2 or 0 in (*x.shape, *y.shape):
        msg = (
            "`a` and `b` must be matrices (M, K) and (K, N) with M, K and N at least 1, got shapes "
            f"{call.a.shape} and {call.b.shape}."
        )
        raise ValueError(msg)
    (m, k), n = x.shape, y.shape[1]
    if max(m * k, k * n, m * n) > _PLACES:
        msg = f"`a`, `b` and their product must have fewer than 2**31 elements, got M, K, N = {m}, {k}, {n}."
        raise ValueError(msg)


def _numbers(values: Array, dtype: np.dtype[Any]) -> Numbers:
    """Return an operand as the array meets it: rounded to its format, each number with its place."""
    return Numbers(values.astype(dtype), np.arange(values.size, dtype=np.int32).reshape(values.shape))


def _turned(numbers: Numbers) -> Numbers:
    """Return a matrix transposed."""
    return Numbers(np.ascontiguousarray(numbers.values.T), np.ascontiguousarray(numbers.places.T))
