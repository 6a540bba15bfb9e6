"""THE table of runtimes: which rule each of them uses for which layer, found by running it.

To add a runtime, add a row to `_ROWS`; the layers, the tests and the printed table follow.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Literal

Operator = Literal[
    "linear",
    "linear_per_channel",
    "conv",
    "conv_grouped",
    "depthwise",
    "linear_16x8",
    "linear_16x8_per_channel",
    "conv_16x8",
]


@dataclass(frozen=True)
class Rule:
    """How the int32 (or int64) sums of a layer become codes.

    Parameters
    ----------
    method : str
        A method of `lowprec.requantize`; or ``"onednn"``, whose every step is float32:
        ``rint((acc * m + bias) * (1 / out_scale) + out_zero_point)``, where m is
        ``(1 / (1 / x_scale)) * (1 / (1 / w_scale))``.
    scale : {"float64", "float32_product", "float32", "float32_reciprocal"}
        How ``x_scale * w_scale / out_scale`` is computed: all in float64; the product rounded to float32, then divided
        in float64; both steps in float32; or the product times ``1 / out_scale``, in float32.
    bias : str
        ``"integer"``: integers that are added to the sums. Float biases b, with ``m = float32(x_scale * w_scale)``:
        ``"divided"``: ``float32(acc) + b / m`` before the scale where every output has its own, and
        ``fma(b, 1 / m, float32(acc))`` where there is one; ``"rounded"``: the integers ``rint(b * (1 / m))``;
        ``"onednn"``: as in the method.
    tail : str
        The method of the channels beyond the last multiple of eight, where it is another.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.runtimes.runtime("litert-reference").rule("conv").method
    'fixed_point'
    """

    method: str
    scale: str
    bias: str = "integer"
    tail: str = ""


@dataclass(frozen=True)
class Runtime:
    """A deployed runtime: what it does to the sums of each layer.

    Parameters
    ----------
    name : str
        How `lowprec.qlinear` and `lowprec.qconv2d` call it.
    measured : str
        The version that was run, how it was started, and the CPU.
    operands : tuple of str
        The pairs of integer formats of activations and weights that it takes.
    rules : tuple of pairs (operator, Rule)
        What is not listed it does not have, or it is not known to the bit.
    quantize : str or None
        How it turns floats into codes: a rule of `lowprec.runtimes.quantize`.
    bounds : {"away", "even", "none"}
        How the ends of a fused activation are rounded to codes; "none" where there is only ReLU, or none.
    activations : tuple of str
        The fused activations.
    largest_scale : float
        It refuses models with ``x_scale * w_scale / out_scale`` of this size or more.
    asymmetric_weights : bool
        Whether weights may have a zero point.
    source : str
        Where the rules are written.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.runtimes.runtime("onnxruntime").rule("linear").scale
    'float32'
    """

    name: str
    measured: str
    operands: tuple[tuple[str, str], ...]
    rules: tuple[tuple[Operator, Rule], ...]
    quantize: str | None
    bounds: str
    activations: tuple[str, ...] = ()
    largest_scale: float = float("inf")
    asymmetric_weights: bool = False
    source: str = field(default="", compare=False, repr=False)

    def rule(self, operator: Operator) -> Rule | None:
        """Return how it treats a layer's sums.

        Parameters
        ----------
        operator : str
            ``"linear"``, ``"linear_per_channel"``, ``"conv"``, ``"conv_grouped"``, ``"depthwise"``,
            ``"linear_16x8"``, ``"linear_16x8_per_channel"`` or ``"conv_16x8"``.

        Returns
        -------
        Rule or None
            None if the runtime does not have the layer, or it is not known to the bit.

        Raises
        ------
        Nothing.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.runtimes.runtime("torch-x86").rule("conv") is None
        True
        """
        return dict(self.rules).get(operator)


_RELUS = ("relu", "relu6", "relu_n1_to_1")
_LITERT_TYPES = (("int8", "int8"), ("int16", "int8"))
_ONNX_TYPES = (("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8"), ("int8", "uint8"))
_LITERT = "ai-edge-litert 2.3.0 (as in TensorFlow 2.21), x86-64, OpResolverType"
_TFLITE = "tflite-runtime 2.14.0, x86-64, OpResolverType"
_TORCH = "torch 2.13.0, x86-64 with AVX2, torch.backends.quantized.engine ="
_KERNELS = "TensorFlow Lite, kernels/fully_connected.cc, conv.cc, depthwise_conv.cc, internal/common.h"
_ATEN = "ATen/native/quantized/cpu/qlinear.cpp, qconv.cpp"

_AWAY = Rule("float64_away", "float64")
_DOUBLE, _RUY = Rule("fixed_point", "float64"), Rule("fixed_point_ruy", "float64")
_SIXTEEN = Rule("fixed_point_16x8", "float64")
_FLOAT = Rule("float", "float32")
_FBGEMM = Rule("float", "float32", "divided")
_LITERT_16X8: tuple[tuple[Operator, Rule], ...] = (
    ("linear_16x8", _AWAY),
    ("linear_16x8_per_channel", _AWAY),
    ("conv_16x8", _SIXTEEN),
)
_TFLITE_16X8: tuple[tuple[Operator, Rule], ...] = (
    ("linear_16x8", Rule("fixed_point_16x8", "float32_product")),
    ("linear_16x8_per_channel", _SIXTEEN),
    ("conv_16x8", _SIXTEEN),
)


def _all(rule: Rule) -> tuple[tuple[Operator, Rule], ...]:
    """Return one rule for all 8-bit layers."""
    return (
        ("linear", rule),
        ("linear_per_channel", rule),
        ("conv", rule),
        ("conv_grouped", rule),
        ("depthwise", rule),
    )


_ROWS = (
    Runtime(
        "litert-reference",
        f"{_LITERT}.BUILTIN_REF",
        _LITERT_TYPES,
        (
            ("linear", _AWAY),
            ("linear_per_channel", _AWAY),
            ("conv", _DOUBLE),
            ("conv_grouped", _DOUBLE),
            ("depthwise", _DOUBLE),
            *_LITERT_16X8,
        ),
        "away_division",
        "away",
        _RELUS,
        source=_KERNELS,
    ),
    Runtime(
        "litert-ruy",
        f"{_LITERT}.BUILTIN_WITHOUT_DEFAULT_DELEGATES",
        _LITERT_TYPES,
        (
            ("linear", Rule("fixed_point_ruy", "float32_product")),
            ("linear_per_channel", _RUY),
            ("conv", _RUY),
            ("conv_grouped", _DOUBLE),
            ("depthwise", Rule("fixed_point_ruy", "float64", tail="fixed_point")),
            *_LITERT_16X8,
        ),
        "even_reciprocal",
        "away",
        _RELUS,
        source=f"{_KERNELS}; ruy, apply_multiplier.cc",
    ),
    Runtime(
        "litert-xnnpack",
        f"{_LITERT}.BUILTIN, the default",
        _LITERT_TYPES,
        (*_all(_FLOAT), *_LITERT_16X8),
        "even_reciprocal",
        "even",
        _RELUS,
        256.0,
        source="XNNPACK, microparams-init.c, qs8-gemm and qs8-qc8w-gemm with fp32 requantisation",
    ),
    Runtime(
        "tflite-2.14-reference",
        f"{_TFLITE}.BUILTIN_REF",
        _LITERT_TYPES,
        (
            ("linear", Rule("fixed_point", "float32_product")),
            ("conv", _DOUBLE),
            ("conv_grouped", _DOUBLE),
            ("depthwise", _DOUBLE),
            *_TFLITE_16X8,
        ),
        "away_division",
        "away",
        _RELUS,
        source=_KERNELS,
    ),
    Runtime(
        "tflite-2.14-ruy",
        f"{_TFLITE}.BUILTIN_WITHOUT_DEFAULT_DELEGATES and .BUILTIN, the default, which leaves int8 to ruy",
        _LITERT_TYPES,
        (
            ("linear", Rule("fixed_point_ruy", "float32_product")),
            ("conv", _RUY),
            ("conv_grouped", _DOUBLE),
            ("depthwise", _DOUBLE),
            *_TFLITE_16X8,
        ),
        None,
        "away",
        _RELUS,
        source=f"{_KERNELS}; ruy, apply_multiplier.cc",
    ),
    Runtime(
        "onnxruntime",
        "onnxruntime 1.31.1, x86-64, CPUExecutionProvider; QLinearMatMul, QGemm, QLinearConv",
        _ONNX_TYPES,
        _all(_FLOAT),
        "even_division",
        "none",
        asymmetric_weights=True,
        source="ONNX operators QLinearMatMul-21, QLinearConv-10; onnxruntime, core/mlas/lib/quantize.cpp",
    ),
    Runtime(
        "torch-fbgemm",
        f"{_TORCH} 'fbgemm'",
        (("uint8", "int8"),),
        _all(_FBGEMM),
        "even_reciprocal_with_zero_point",
        "none",
        ("relu",),
        source=f"{_ATEN}; FBGEMM, QuantUtilsAvx2.cc, requantizeOutputProcessingAvx2",
    ),
    Runtime(
        "torch-x86",
        f"{_TORCH} 'x86'; its convolutions are FBGEMM's or oneDNN's by the CPU, so name one of these for them",
        (("uint8", "int8"),),
        _all(_FBGEMM)[:2],
        "even_reciprocal_with_zero_point",
        "none",
        ("relu",),
        source=f"{_ATEN}; FBGEMM, QuantUtilsAvx2.cc, requantizeOutputProcessingAvx2",
    ),
    Runtime(
        "torch-qnnpack",
        f"{_TORCH} 'qnnpack'",
        (("uint8", "int8"),),
        _all(Rule("float", "float32_reciprocal", "rounded")),
        "even_reciprocal_with_zero_point",
        "none",
        ("relu",),
        source=f"{_ATEN}; QNNPACK, requantization/q31-sse2.c and its fp32 successors",
    ),
    Runtime(
        "torch-onednn",
        f"{_TORCH} 'onednn'; convolutions with groups other than depthwise differ by shape and are left out",
        (("uint8", "int8"),),
        tuple((op, Rule("onednn", "onednn", "onednn")) for op, _ in _all(_FLOAT) if op != "conv_grouped"),
        "even_reciprocal_with_zero_point",
        "none",
        ("relu",),
        source=f"{_ATEN}; oneDNN, matmul primitive with scales and zero points as attributes",
    ),
)
_BY_NAME = {row.name: row for row in _ROWS}


def table() -> tuple[Runtime, ...]:
    """Return every runtime whose integer layers are known to the bit.

    Returns
    -------
    tuple of Runtime
        In the order of the documentation.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> [row.name for row in lp.runtimes.table()][:3]
    ['litert-reference', 'litert-ruy', 'litert-xnnpack']
    """
    return _ROWS


def runtime(name: str) -> Runtime:
    """Return the row of a runtime.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    Runtime
        The row.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If there is no such runtime; close names are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.runtimes.runtime("litert-xnnpack").rule("conv").method
    'float'
    """
    if not isinstance(name, str):
        msg = f"`runtime` must be the name of a runtime, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    if name not in _BY_NAME:
        close = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.4)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`runtime` must be one of {', '.join(_BY_NAME)}, got {name!r}{hint}"
        raise ValueError(msg)
    return _BY_NAME[name]


def describe() -> str:
    """Return the table as text: for each runtime and layer the method, how its scale is computed, and the bias.

    Returns
    -------
    str
        One line for each runtime and layer.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(*lp.runtimes.describe().splitlines()[:2], sep=chr(10))
    runtime               layer                   method                      scale               bias
    litert-reference      linear                  float64_away                float64             integer
    """
    lines = [("runtime", "layer", "method", "scale", "bias")]
    for row in _ROWS:
        for operator, rule in row.rules:
            method = f"{rule.method}+{rule.tail}" if rule.tail else rule.method
            lines.append((row.name, operator, method, rule.scale, rule.bias))
    return "\n".join(f"{a:22}{b:24}{c:28}{d:20}{e}" for a, b, c, d, e in lines)
