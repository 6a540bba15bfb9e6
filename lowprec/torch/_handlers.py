"""One function for each operator that runs in the emulation: tensors in, tensors out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from lowprec._checks import Array
from lowprec.nn._convolution import (
    PreparedKernel,
    convolution,
    patches,
    prepare_kernel,
    rounded_images,
    transposed_convolution,
    weight_gradient,
)
from lowprec.torch._arrays import to_array, to_floats, to_tensor
from lowprec.torch._layers import Place
from lowprec.torch._products import Products
from lowprec.torch._schemes import Scheme

Results = tuple[torch.Tensor | None, ...]


class Call:
    """An operator's call: where it is, and with what it multiplies.

    Parameters
    ----------
    products : Products
        What multiplies.
    scheme : Scheme
        With what.
    place : Place
        The layer and the direction.
    args, kwargs
        Of the operator.

    Raises
    ------
    Nothing.
    """

    def __init__(
        self, products: Products, scheme: Scheme, place: Place, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self.products, self.scheme, self.place, self.args, self.kwargs = products, scheme, place, args, kwargs

    def argument(self, at: int, name: str, default: Any) -> Any:
        """Return an argument, given by place or by name."""
        return self.args[at] if len(self.args) > at else self.kwargs.get(name, default)

    def product(self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> Array:
        """Return ``a @ b``, with a bias in the forward pass."""
        if not self.place.backward:
            return self.products.forward(a, b, self.scheme, self.place, bias)
        result = self.products.backward(a, b, self.scheme, self.place)
        return result if bias is None else result + to_floats(bias).astype(result.dtype)

    def added(self, c: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Array:
        """Return ``beta * c + alpha * a @ b``: in float32, after the sum; a plain bias as `lowprec.linear` adds it."""
        beta, alpha = self.kwargs.get("beta", 1), self.kwargs.get("alpha", 1)
        if beta == alpha == 1 and a.ndim == b.ndim == 2 and c.shape == b.shape[1:]:
            return self.product(a, b, c)
        total = self.product(a, b)
        if alpha != 1:
            total = total * total.dtype.type(alpha)
        if beta == 0:
            return total
        more = to_floats(c).astype(total.dtype)
        with np.errstate(all="ignore"):
            return np.asarray(total + (more if beta == 1 else more * total.dtype.type(beta)))


def _mm(call: Call) -> Array:
    return call.product(call.args[0], call.args[1])


def _addmm(call: Call) -> Array:
    return call.added(*call.args[:3])


def _addbmm(call: Call) -> Array:
    c, a, b = call.args[:3]
    joined = a.transpose(0, 1).reshape(a.shape[1], -1), b.reshape(-1, b.shape[2])
    return call.added(c, *joined)


def _vector(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a matrix or vector and a vector as matrices."""
    return (a if a.ndim == 2 else a.unsqueeze(0)), b.unsqueeze(1)


def _mv(call: Call) -> Array:
    result = call.product(*_vector(call.args[0], call.args[1]))
    return result.reshape(call.args[0].shape[:-1])


def _addmv(call: Call) -> Array:
    c, a, b = call.args[:3]
    matrix, column = _vector(a, b)
    beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
    total = call.product(matrix, column).reshape(-1)
    total = total if alpha == 1 else total * total.dtype.type(alpha)
    if beta == 0:
        return total
    more = to_floats(c).astype(total.dtype)
    return np.asarray(total + (more if beta == 1 else more * total.dtype.type(beta)))


def _addmm_activation(call: Call) -> Array:
    total = torch.from_numpy(np.asarray(call.added(*call.args[:3])))
    done = torch.nn.functional.gelu(total) if call.kwargs.get("use_gelu", False) else torch.relu(total)
    return np.asarray(done.numpy())


PRODUCTS: dict[str, Callable[[Call], Array]] = {
    "mm": _mm,
    "bmm": _mm,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "addbmm": _addbmm,
    "mv": _mv,
    "dot": _mv,
    "vdot": _mv,
    "addmv": _addmv,
    "_addmm_activation": _addmm_activation,
}
"""Operators with one result, whose last two tensors are multiplied."""


_RANKS = {
    **dict.fromkeys(("bmm", "baddbmm", "addbmm"), (3, 3)),
    **dict.fromkeys(("mv", "addmv"), (2, 1)),
    **dict.fromkeys(("dot", "vdot"), (1, 1)),
}


def operands(name: str, args: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two tensors that one of `PRODUCTS` multiplies."""
    first = 1 if name.startswith(("add", "badd", "_add")) else 0
    return args[first], args[first + 1]


def fits(name: str, args: Sequence[Any]) -> bool:
    """Say whether shapes go together; torch itself says what is wrong if not."""
    a, b = operands(name, args)
    if (a.ndim, b.ndim) != _RANKS.get(name, (2, 2)):
        return False
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0] or (a.ndim == 3 and a.shape[0] != b.shape[0]):
        return False
    if not name.startswith(("add", "badd", "_add")):
        return True
    shape = tuple(a.shape[:-1]) if b.ndim == 1 else (*a.shape[:-1], b.shape[-1])
    shape = shape[1:] if name == "addbmm" else shape
    c = args[0].shape
    return len(c) <= len(shape) and all(
        one in (1, other) for one, other in zip(c, shape[len(shape) - len(c) :], strict=True)
    )


def macs(a: torch.Tensor, b: torch.Tensor) -> int:
    """Return how many products two operands of `PRODUCTS` take."""
    return int(a.numel() * (b.shape[-1] if b.ndim > 1 else 1))


# -------------------------------------------------------------------------------------------------------- convolutions
def _kernel(call: Call, x: torch.Tensor, w: torch.Tensor, transposed: bool, layout: dict[str, Any]) -> PreparedKernel:
    """Return the weight of a convolution as it comes back from storage."""
    scheme, weights = call.scheme, call.products.weights
    if not scheme.stores:
        return PreparedKernel(to_floats(w), scheme.products)
    weights.register(w, "weight")

    def calibration() -> Array:
        return patches(to_floats(x), tuple(w.shape[2:]), transposed=transposed, **layout)

    def make() -> PreparedKernel:
        return prepare_kernel(scheme.forward, to_floats(w), calibration, transposed=transposed)

    found: PreparedKernel = weights.prepared(w, scheme, "kernel", make)
    return found


def _layout(args: Sequence[Any], first: int) -> tuple[dict[str, Any], bool, list[int], int]:
    """Return where a convolution reads, whether it is transposed, its output padding, and its groups."""
    stride, padding, dilation, transposed, longer, groups = args[first : first + 6]
    where = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation)}
    return where, bool(transposed), list(longer), int(groups)


def convolve(call: Call) -> Array:
    """Return what ``aten.convolution`` does."""
    x, w, bias = call.args[:3]
    where, transposed, longer, groups = _layout(call.args, 3)
    kernel = _kernel(call, x, w, transposed, where | ({"output_padding": longer} if transposed else {}))
    how = call.products.drawing(call.scheme.products, call.scheme)
    kernel = PreparedKernel(kernel.values, how)
    images = rounded_images(call.scheme.forward, to_floats(x))
    added = None if bias is None else to_floats(bias)
    if transposed:
        return transposed_convolution(how, images, kernel, added, output_padding=longer, groups=groups, **where)
    return convolution(how, images, kernel, added, groups=groups, **where)


def convolve_backward(call: Call) -> tuple[Array | None, Array | None, Array | None]:
    """Return what ``aten.convolution_backward`` does: gradients of the images, the weight and the bias."""
    grad, x, w = call.args[:3]
    where, transposed, longer, groups = _layout(call.args, 4)
    mask = call.args[10]
    scheme, products = call.scheme, call.products
    outer = to_floats(grad)
    to_x = to_w = to_bias = None
    if mask[0]:
        kernel = _kernel(call, x, w, transposed, where | ({"output_padding": longer} if transposed else {}))
        how = products.drawing(scheme.of("gradient", "weight", True, "input"), scheme)
        kernel = PreparedKernel(kernel.values, how)
        if transposed:
            to_x = convolution(how, outer, kernel, groups=groups, **where)
            to_x = to_x[(slice(None), slice(None), *(slice(size) for size in x.shape[2:]))]
        else:
            spans = zip(where["stride"], where["padding"], where["dilation"], w.shape[2:], strict=True)
            sizes = zip(x.shape[2:], grad.shape[2:], spans, strict=True)
            rest = [size - ((out - 1) * s - 2 * p + d * (k - 1) + 1) for size, out, (s, p, d, k) in sizes]
            to_x = transposed_convolution(how, outer, kernel, output_padding=rest, groups=groups, **where)
    if mask[1]:
        images = rounded_images(scheme.forward, to_floats(x))
        if transposed:
            how = products.drawing(scheme.of("activation", "gradient", True, "weight"), scheme)
            to_w = weight_gradient(how, images, outer, tuple(w.shape[2:]), groups=groups, **where)
        else:
            how = products.drawing(scheme.of("gradient", "activation", True, "weight"), scheme)
            to_w = weight_gradient(how, outer, images, tuple(w.shape[2:]), groups=groups, **where)
    if mask[2]:
        to_bias = to_array(grad.sum((0, *range(2, grad.ndim))))
    return to_x, to_w, to_bias


def convolution_macs(w: torch.Tensor, result: torch.Tensor, transposed: bool, images: torch.Tensor) -> int:
    """Return how many products a convolution takes, those with inserted zeros left out."""
    each = math.prod(w.shape[1:])
    return int((images if transposed else result).numel() * each)


def tensors_of(values: Sequence[Array | None], dtype: torch.dtype) -> Results:
    """Return arrays as tensors, None where there is none."""
    return tuple(None if value is None else to_tensor(np.ascontiguousarray(value), dtype) for value in values)
