"""quantize: what it takes, and what it promises."""

from __future__ import annotations

import inspect
from typing import Any, overload

from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec.arrays import QuantizedArray
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import element_of
from lowprec.formats import IntFormat
from lowprec.quantizers.recipe import make_recipe
from lowprec.quantizers.steps import quantized
from lowprec.sparse_arrays import Sparse24, in_places_of


@overload
def quantize(
    x: Sparse24,
    fmt: Any,
    *,
    axis: int | tuple[int, ...] | None = ...,
    block_size: int | tuple[int, ...] | None = ...,
    symmetric: bool = ...,
    calibration: Any = ...,
    scale_dtype: Any = ...,
    scale_rule: str | None = ...,
    divisor: float | None = ...,
    scale: ArrayLike | None = ...,
    zero_point: ArrayLike | None = ...,
    tensor_scale: Any = ...,
    rounding: str = ...,
    rng: Any = ...,
    nonfinite: str = ...,
) -> Sparse24: ...
@overload
def quantize(
    x: ArrayLike,
    fmt: Any,
    *,
    axis: int | tuple[int, ...] | None = ...,
    block_size: int | tuple[int, ...] | None = ...,
    symmetric: bool = ...,
    calibration: Any = ...,
    scale_dtype: Any = ...,
    scale_rule: str | None = ...,
    divisor: float | None = ...,
    scale: ArrayLike | None = ...,
    zero_point: ArrayLike | None = ...,
    tensor_scale: Any = ...,
    rounding: str = ...,
    rng: Any = ...,
    nonfinite: str = ...,
) -> QuantizedArray: ...
def quantize(
    x: ArrayLike | Sparse24,
    fmt: Any,
    *,
    axis: int | tuple[int, ...] | None = None,
    block_size: int | tuple[int, ...] | None = None,
    symmetric: bool = True,
    calibration: Any = "absmax",
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
    scale: ArrayLike | None = None,
    zero_point: ArrayLike | None = None,
    tensor_scale: Any = "auto",
    rounding: str = "nearest_even",
    rng: Any = None,
    nonfinite: str = "raise",
) -> QuantizedArray | Sparse24:
    """Quantise numbers: find scales, and encode every number divided by its scale.

    Parameters
    ----------
    x : array_like or Sparse24
        Real numbers of any dtype that `encode` takes.
    fmt : str, FloatFormat, IntFormat, CodebookFormat, BlockFormat or dtype
        The format of the elements (``"int8"``, ``"e4m3fn"``), or a block format (``"mxfp4"``, ``"nvfp4"``, ``"nf4"``,
        ``"q4_0"``; `block_formats` lists them), which brings block size, scale format and rule.
    axis : int or tuple of int, optional
        The axes along which scales differ; None for one scale, or, with a block format, for the last axis.
    block_size : int or tuple of int, optional
        Elements along `axis` that share a scale, as in `QuantizedArray`; the last block is shorter if it does not
        divide. ``axis=(0, 1), block_size=(128, 128)`` makes square tiles.
    symmetric : bool
        Whether 0 is the middle of the range. If not (integers only), there are zero points.
    calibration : str, observer, float or array_like
        How the range of a block is found: ``"absmax"``, ``"mse"``, ``"percentile"``, ``"entropy"``, an observer that
        has seen data (`AbsMax`, `Percentile`, ...), or the largest magnitude itself.
    scale_dtype : str, FloatFormat or dtype, optional
        Format of the scales, fp32 if not given by the block format: fp32, fp16, bf16, e8m0fnu, e4m3fn, or
        ``"power_of_two"`` for powers of two in fp32.
    scale_rule : {"nearest", "up", "floor", "ceil", "even", "rceil"}, optional
        How a scale is rounded; see Notes. By default nearest, and floor for powers of two.
    divisor : float, optional
        What the largest magnitude is divided by: the format's largest value by default, so 127 for int8; 127.5 and 128
        are in use too. Up to the largest value, signed integers keep to the symmetric range (no -128).
    scale, zero_point : array_like, optional
        Scales and zero points to use, of the shapes that `QuantizedArray` wants; nothing is calibrated then. With zero
        points all codes are in use, -128 as well.
    tensor_scale : float, "auto" or None
        Second scale of nvfp4: largest magnitude / (448 * 6) by default, none if None.
    rounding, rng
        How elements are rounded, as in `encode`.
    nonfinite : {"raise", "propagate"}
        What NaN and infinities do: raise, or make the scale of their block NaN.

    Returns
    -------
    QuantizedArray or Sparse24
        Of the shape of `x`. A `Sparse24` is quantised as its dense array is, and keeps its places: the bits are those
        of quantising first and compressing then.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, arguments contradict each other, a scale is not positive and finite, a zero point is out
        of range, or `x` holds NaN or infinities (the first is named).

    Notes
    -----
    All steps are float32 operations for numbers that float32 holds, and float64 operations for float64 and integers
    above 16 bits, each rounded to nearest even. With a the largest magnitude of a block::

        scale = a / divisor                             nearest, up (toward infinity); then rounded to `scale_dtype`
        scale = 2 ** (floor(log2(a)) - emax)            floor; emax: exponent of the largest element
        scale = 2 ** (ceil(log2(a)) - emax)             ceil
        scale = 2 ** (floor(log2(r)) - emax)            even; r: a rounded half up to the significand of the elements
        scale = 2 ** ceil(log2(a / divisor))            rceil
        code  = encode(x / scale)                       saturating

    and without symmetry, with lo = min(x, 0), hi = max(x, 0) and the ends qmin and qmax of the integers::

        scale = (hi - lo) / (qmax - qmin)
        zero_point = clip(rint(qmin - lo / scale), qmin, qmax)
        code = clip(rint(x / scale) + zero_point, qmin, qmax)

    A block of zeros has scale 1, or the smallest scale where scales are powers of two or have a block format's 8 bits.
    A scale that rounds to 0 becomes the smallest positive one, and one beyond the range the largest.

    References
    ----------
    OCP Microscaling Formats (MX) Specification 1.0, section 6.3 (rule floor, the default of the MX formats).

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> q = lp.quantize(np.array([[1.0, -2.0, 3.0], [0.1, 0.0, 0.0]]), "int8", axis=0)
    >>> q.codes.view(np.int8), q.scale
    (array([[ 42, -85, 127],
           [127,   0,   0]], dtype=int8), array([0.02362205, 0.0007874 ], dtype=float32))
    >>> lp.quantize(np.linspace(-1, 1, 64), "mxfp4").nbytes
    34
    """
    if isinstance(x, Sparse24):
        arguments = {name: value for name, value in locals().items() if name not in ("x", "fmt")}
        return in_places_of(x, quantize(x.to_dense(), fmt, **arguments))
    if is_block_name(fmt) and block_format(fmt).ggml:
        return _ggml(x, fmt, locals())
    if zero_point is not None:
        _check_point(zero_point, fmt, scale)
        symmetric = False
    source = _checks.source(x, "x")
    values = source.values
    recipe = make_recipe(
        fmt, values.ndim, axis, block_size, symmetric, scale_dtype, scale_rule, divisor, tensor_scale, rounding,
        nonfinite,
    )  # fmt: skip
    seed = rng
    _checks.seed(rng, recipe.rounding)
    return quantized(values, recipe, calibration, scale, zero_point, tensor_scale, seed)


def _check_point(zero_point: Any, fmt: Any, scale: Any) -> None:
    """Refuse zero points without scales, and zero points of elements that are no integers."""
    if scale is None:
        msg = "`zero_point` must come with `scale`, got no scale; pass both, or neither."
        raise ValueError(msg)
    element = block_format(fmt) if is_block_name(fmt) else element_of(fmt, "fmt")
    if not isinstance(element, IntFormat):
        msg = f"`zero_point` must be None for `{element}`, which is no integer format, got {zero_point!r}."
        raise ValueError(msg)


def _ggml(x: Any, fmt: Any, arguments: dict[str, Any]) -> QuantizedArray:
    """Quantise as GGML does; nothing can be chosen but the axis, which is the last."""
    defaults = {name: p.default for name, p in inspect.signature(quantize).parameters.items()}
    for name, default in defaults.items():
        if (
            name in ("x", "fmt", "nonfinite")
            or arguments[name] is default
            or (isinstance(default, str) and isinstance(arguments[name], str) and arguments[name] == default)
            or (name == "axis" and arguments[name] == -1)
        ):
            continue
        msg = f"`{name}` must be left out for `{block_format(fmt)}`, whose rules are GGML's, got {arguments[name]!r}."
        raise ValueError(msg)
    from lowprec.quantizers.ggml import quantize_ggml

    return quantize_ggml(x, block_format(fmt).name, nonfinite=arguments["nonfinite"])
