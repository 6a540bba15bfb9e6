"""Operators of onnx.reference with products by an arithmetic, and those that it gets wrong or takes long over."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._extras import require
from lowprec.nn import Arithmetic
from lowprec.nn._convolution import prepare_kernel
from lowprec.study import _onnx_convolution as convolution

_FLOATS = ("float16", "float32", "float64", "bfloat16")


class Tally(threading.local):
    """Multiply-adds of each node in this thread, and what goes into a product if somebody listens.

    Parameters
    ----------
    macs : dict of str to int
        By the node's label.
    listener : callable, optional
        Called with a node's label and the activations of its product, shape (rows, K).

    Raises
    ------
    Nothing.
    """

    def __init__(self) -> None:
        self.macs: dict[str, int] = {}
        self.listener: Callable[[str, Callable[[], Array]], None] | None = None

    def count(self, label: str, macs: int) -> None:
        """Add multiply-adds to those of a node."""
        self.macs[label] = self.macs.get(label, 0) + macs


def label_of(node: Any) -> str:
    """Return what a node is called: its operator and its first output, which no other node has.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Returns
    -------
    str
        Such as ``"Conv relu_3"``.

    Raises
    ------
    Nothing.
    """
    first = next((each for each in node.output if each), "")
    return f"{node.op_type} {first}"


def matrix_product(arithmetic: Arithmetic, a: Array, b: Array, held: Any, side: str | None) -> Array:
    """Multiply as ``np.matmul``, with at most one operand that is a weight.

    Parameters
    ----------
    arithmetic : Arithmetic
        How.
    a, b : ndarray of float32
        Of np.matmul's shapes.
    held : callable
        ``held(w)`` prepares a weight of shape (N, K), or returns what was prepared before; called once per weight.
    side : {"a", "b"} or None
        Which operand is a weight.

    Returns
    -------
    ndarray of float32
        The product.

    Raises
    ------
    ValueError
        As `lowprec.matmul`.
    """
    if side is None:
        whole = np.asarray(arithmetic.matmul(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b))
        whole = whole[..., 0] if b.ndim == 1 else whole
        return whole if a.ndim > 1 else whole[..., 0] if b.ndim == 1 else whole[..., 0, :]
    if side == "a":
        turned_a = a if a.ndim == 1 else a.swapaxes(-1, -2)
        turned_b = b if b.ndim == 1 else b.swapaxes(-1, -2)
        product = matrix_product(arithmetic, turned_b, turned_a, held, "b")
        return product if a.ndim == 1 or b.ndim == 1 else np.ascontiguousarray(product.swapaxes(-1, -2))
    if b.ndim == 1:
        return np.asarray(arithmetic.linear(a, held(b[None, :])))[..., 0]
    if b.ndim == 2:
        return np.asarray(arithmetic.linear(a, held(b.T)))
    # A weight with axes in front is one matrix for each of their places.
    left = a[None, :] if a.ndim == 1 else a
    batch = np.broadcast_shapes(left.shape[:-2], b.shape[:-2])
    result = np.empty((*batch, left.shape[-2], b.shape[-1]), np.float32)
    wide = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    places = np.broadcast_to(np.arange(math.prod(b.shape[:-2])).reshape(b.shape[:-2]), batch)
    matrices = b.reshape(-1, *b.shape[-2:])
    for index in np.ndindex(*batch):
        place = int(places[index])
        result[index] = arithmetic.linear(wide[index], held(matrices[place].T, place))
    return result[..., 0, :] if a.ndim == 1 else result


def operators(
    arithmetic: Arithmetic,
    constants: frozenset[str],
    tally: Tally,
    calibration: Callable[[str], Array] | None,
    opset: int,
) -> list[type]:
    """Return operators for ``onnx.reference.ReferenceEvaluator(new_ops=...)``.

    Parameters
    ----------
    arithmetic : Arithmetic
        What computes the products of MatMul, Gemm, Conv and ConvTranspose.
    constants : frozenset of str
        Values that are weights.
    tally : Tally
        What counts.
    calibration : callable, optional
        Gives the activations of a node, by its label, for arithmetics that choose weights by them.
    opset : int
        Of the model.

    Returns
    -------
    list of classes
        MatMul, Gemm, Conv, ConvTranspose, BatchNormalization, AveragePool and MaxPool.

    Raises
    ------
    ImportError
        If onnx is missing.
    """
    schema = require("onnx.defs", "A model in an ONNX file", "onnx").get_schema
    run = require("onnx.reference.op_run", "A model in an ONNX file", "onnx").OpRun
    find = require("onnx.reference.ops", "A model in an ONNX file", "onnx").load_op

    class Product(run):  # type: ignore[misc, valid-type]
        """What MatMul, Gemm and Conv share: weights that are prepared once."""

        op_domain = ""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.label = label_of(self.onnx_node)
            self.weights: dict[int, Any] = {}

        def is_constant(self, place: int) -> bool:
            """Say whether an input is a weight."""
            names = self.onnx_node.input
            return place < len(names) and names[place] in constants

        def held(self, w: Array, place: int = 0) -> Any:
            """Return a weight made ready."""
            if place not in self.weights:
                ask = None if calibration is None else lambda: calibration(self.label)
                self.weights[place] = arithmetic.prepare(np.ascontiguousarray(w), ask, self.label)
            return self.weights[place]

        def kernel(self, w: Array, groups: int, *, transposed: bool) -> Any:
            """Return the weights of a convolution made ready; with activations, each group by its own."""
            if not self.is_constant(1):
                return prepare_kernel(arithmetic, _single(w), transposed=transposed)
            if 0 not in self.weights:
                if calibration is None or groups == 1:
                    ask = None if calibration is None else lambda: calibration(self.label)
                    self.weights[0] = prepare_kernel(arithmetic, _single(w), ask, transposed=transposed)
                else:
                    rows = calibration(self.label)
                    several = [
                        prepare_kernel(arithmetic, each, own)
                        for each, own in zip(np.split(_single(w), groups), rows, strict=True)
                    ]
                    self.weights[0] = replace(several[0], values=np.concatenate([each.values for each in several]))
            return self.weights[0]

        def run(self, *given: Any, **how: Any) -> Any:
            """Run the node; errors say which it is."""
            try:
                return super().run(*given, **how)
            except ValueError as error:
                msg = f"{error} This is at node {self.label!r}."
                raise ValueError(msg) from None

        def listen(self, give: Callable[[], Array]) -> None:
            """Tell whoever listens what is multiplied by the weight."""
            if tally.listener is not None:
                tally.listener(self.label, give)

    class MatMul(Product):
        """MatMul of floats."""

        op_schema = schema("MatMul", opset, "")

        def _run(self, a: Array, b: Array) -> tuple[Array]:
            if a.dtype.name not in _FLOATS:
                return (np.matmul(a, b),)  # integers: exact
            side = "b" if self.is_constant(1) else ("a" if self.is_constant(0) else None)
            if side == "b" and b.ndim <= 2:
                self.listen(lambda: a.reshape(-1, a.shape[-1]))
            elif side == "a" and a.ndim <= 2:
                self.listen(lambda: (b if b.ndim == 1 else b.swapaxes(-1, -2)).reshape(-1, a.shape[-1]))
            result = matrix_product(arithmetic, _single(a), _single(b), self.held, side)
            tally.count(self.label, result.size * a.shape[-1])
            return (result.astype(a.dtype, copy=False),)

    class Gemm(Product):
        """``alpha * A' B' + beta * C``."""

        op_schema = schema("Gemm", opset, "")

        def _run(
            self,
            a: Array,
            b: Array,
            c: Array | None = None,
            alpha: Any = None,
            beta: Any = None,
            transA: Any = None,
            transB: Any = None,
            **_: Any,
        ) -> tuple[Array]:
            if a.dtype.name not in _FLOATS:
                whole = np.matmul(a.T if transA else a, b.T if transB else b)  # integers: exact
                whole = whole if alpha in (None, 1) else whole * alpha
                whole = whole if c is None or beta == 0 else whole + (c if beta in (None, 1) else c * beta)
                return (whole.astype(a.dtype, copy=False),)
            left, right = (_single(a.T if transA else a), _single(b.T if transB else b))
            side = "b" if self.is_constant(1) else ("a" if self.is_constant(0) else None)
            added = None if c is None or beta == 0 else _single(c) * np.float32(1 if beta is None else beta)
            factor = np.float32(1 if alpha is None else alpha)
            if side is not None:
                self.listen(lambda: left if side == "b" else right.T)
            if (
                side == "b"
                and factor == 1
                and added is not None
                and added.shape in ((right.shape[1],), (1, right.shape[1]))
            ):
                result = np.asarray(arithmetic.linear(left, self.held(right.T), added.reshape(-1)))
            else:
                result = matrix_product(arithmetic, left, right, self.held, side)
                result = result if factor == 1 else result * factor
                result = result if added is None else result + added
            tally.count(self.label, left.shape[0] * left.shape[1] * right.shape[1])
            return (result.astype(a.dtype, copy=False),)

    class Conv(Product):
        """Convolutions of one axis and more."""

        op_schema = schema("Conv", opset, "")

        def _run(self, x: Array, w: Array, bias: Array | None = None, **how: Any) -> tuple[Array]:
            where = convolution.window(x.shape, w.shape, **how)
            held = self.kernel(w, where.groups, transposed=False)
            self.listen(lambda: convolution.patches(_single(x), w.shape[2:], where))
            added = None if bias is None else _single(bias)
            result = convolution.convolve(arithmetic, _single(x), held, added, where)
            tally.count(self.label, result.size * math.prod(w.shape[1:]))
            return (result.astype(x.dtype, copy=False),)

    class ConvTranspose(Product):
        """Transposed convolutions."""

        op_schema = schema("ConvTranspose", opset, "")

        def _run(self, x: Array, w: Array, bias: Array | None = None, **how: Any) -> tuple[Array]:
            where = convolution.transposed_window(x.shape, w.shape, **how)
            held = self.kernel(w, where.groups, transposed=True)
            added = None if bias is None else _single(bias)
            result = convolution.convolve_transposed(arithmetic, _single(x), held, added, where)
            tally.count(self.label, x.size * math.prod(w.shape[1:]))
            return (result.astype(x.dtype, copy=False),)

    class BatchNormalization(find("", "BatchNormalization", opset)):  # type: ignore[misc]
        """Inference mode below opset 14, where onnx.reference takes a momentum for training mode."""

        op_domain = ""
        op_schema = schema("BatchNormalization", opset, "")

        def _run(
            self,
            x: Array,
            scale: Array,
            bias: Array,
            mean: Array,
            variance: Array,
            epsilon: Any = None,
            training_mode: Any = None,
            **how: Any,
        ) -> tuple[Array, ...]:
            if training_mode:
                found = super()._run(
                    x, scale, bias, mean, variance, epsilon=epsilon, training_mode=training_mode, **how
                )
                return tuple(found)
            s, b, m, v = (
                each.reshape(each.shape + (1,) * (x.ndim - 1 - each.ndim)) for each in (scale, bias, mean, variance)
            )
            return ((s * (x - m) / np.sqrt(v + epsilon) + b).astype(x.dtype),)

    return [MatMul, Gemm, Conv, ConvTranspose, BatchNormalization, *_pooling(find, schema, opset)]


def _single(x: Array) -> Array:
    """Return an operand in float32, or in float64 where it is."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def _pooling(find: Any, schema: Any, opset: int) -> list[type]:
    """Return AveragePool and MaxPool with one reduction in place of a loop over the elements of the result."""

    def windows(x: Array, how: dict[str, Any], pad: float) -> Array | None:
        """Return all windows, the elements of each along the last axis; None for what is left to onnx.reference."""
        kernel, axes = how["kernel_shape"], x.ndim - 2
        pads, strides = how.get("pads") or [0] * 2 * axes, how.get("strides") or [1] * axes
        dilations = how.get("dilations") or [1] * axes
        plain = how.get("auto_pad") in (None, "NOTSET") and not how.get("ceil_mode") and x.dtype.kind == "f"
        if not plain or min(pads, default=0) < 0:
            return None
        padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)], constant_values=pad)
        extents = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
        if any(extent > length for extent, length in zip(extents, padded.shape[2:], strict=True)):
            return None
        every = np.lib.stride_tricks.sliding_window_view(padded, extents, tuple(range(2, x.ndim)))
        steps = [slice(None, None, step) for step in (*strides, *dilations)]
        picked = every[(slice(None), slice(None), *steps)]
        return picked.reshape(*picked.shape[: x.ndim], -1)

    class AveragePool(find("", "AveragePool", opset)):  # type: ignore[misc]
        """Means over windows without padding."""

        op_domain = ""
        op_schema = schema("AveragePool", opset, "")

        def _run(self, x: Array, **how: Any) -> tuple[Array, ...]:
            seen = None if any(how.get("pads") or ()) else windows(x, how, 0)
            return tuple(super()._run(x, **how)) if seen is None else (seen.mean(axis=-1, dtype=x.dtype),)

    class MaxPool(find("", "MaxPool", opset)):  # type: ignore[misc]
        """The largest of windows, where their places are not asked for."""

        op_domain = ""
        op_schema = schema("MaxPool", opset, "")

        def _run(self, x: Array, **how: Any) -> tuple[Array, ...]:
            seen = windows(x, how, -np.inf) if len(self.onnx_node.output) == 1 else None
            return tuple(super()._run(x, **how)) if seen is None else (seen.max(axis=-1),)

    return [AveragePool, MaxPool]
