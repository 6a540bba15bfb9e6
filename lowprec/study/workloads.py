"""Workloads: a frozen network, its inputs and its labels, and one forward pass that every format shares."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowprec._checks import fmt_of
from lowprec.formats import FloatFormat
from lowprec.matmul import linear
from lowprec.study._extras import require

_LARGEST_TARGET = 2.0**16
_SCALED_BELOW_BITS = 16


@dataclass(frozen=True, eq=False)
class Workload:
    """A multilayer perceptron with ReLU between its layers, and the data that it is judged on.

    Parameters
    ----------
    name : str
        What the workload is called in tables.
    inputs : ndarray of float32, shape (N, features)
        One row per sample.
    labels : ndarray of int, shape (N,)
        The right class of each sample.
    weights : tuple of ndarray of float32, shape (out_features, in_features)
        One per layer.
    biases : tuple of ndarray of float32, shape (out_features,)
        One per layer.
    source : str, optional
        Where weights and data come from.

    Raises
    ------
    TypeError
        If an array is not of the dtype above.
    ValueError
        If shapes do not fit together, there is no layer or no sample, or a label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study import Workload
    >>> eye = np.eye(2, dtype=np.float32)
    >>> toy = Workload("toy", eye, np.array([0, 1]), (eye,), (np.zeros(2, np.float32),))
    >>> toy.forward("bf16").logits.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    name: str
    inputs: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    source: str = "custom"

    def __post_init__(self) -> None:
        """Check kinds and shapes, so that a sweep cannot fail half-way."""
        arrays = {"inputs": self.inputs}
        arrays |= {f"weights[{i}]": weight for i, weight in enumerate(self.weights)}
        arrays |= {f"biases[{i}]": bias for i, bias in enumerate(self.biases)}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                msg = f"`{name}` must be an ndarray of float32, got {getattr(array, 'dtype', type(array).__name__)}."
                raise TypeError(msg)
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype.kind not in "iu":
            msg = f"`labels` must be an ndarray of integers, got {getattr(self.labels, 'dtype', type(self.labels))}."
            raise TypeError(msg)
        if not self.weights or len(self.weights) != len(self.biases):
            msg = f"`weights` and `biases` must have one entry per layer, got {len(self.weights)}, {len(self.biases)}."
            raise ValueError(msg)
        if self.inputs.ndim != 2 or not self.inputs.size:
            msg = f"`inputs` must have shape (N, features) with N > 0, got {self.inputs.shape}."
            raise ValueError(msg)
        features = self.inputs.shape[1]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2 or weight.shape[1] != features:
                msg = f"`weights[{i}]` must have shape (out_features, {features}), got {weight.shape}."
                raise ValueError(msg)
            features = weight.shape[0]
            if bias.shape != (features,):
                msg = f"`biases[{i}]` must have shape ({features},), got {bias.shape}."
                raise ValueError(msg)
        if self.labels.shape != (len(self.inputs),):
            msg = f"`labels` must have shape ({len(self.inputs)},), got {self.labels.shape}."
            raise ValueError(msg)
        if self.labels.min() < 0 or self.labels.max() >= features:
            msg = f"`labels` must be from 0 to {features - 1}, got {self.labels.min()} to {self.labels.max()}."
            raise ValueError(msg)

    def forward(self, dtype: Any, accumulator: Any = None, *, scaled: bool = True) -> Forward:
        """Run the network with weights and activations in one format.

        Parameters
        ----------
        dtype : str or FloatFormat
            Format that the weights and each layer's input are rounded to, to nearest even.
        accumulator : optional
            Accumulator of every product, as in `lowprec.matmul`. Bias and ReLU are in its format.
        scaled : bool
            Whether formats narrower than 16 bits get a power-of-two scale per tensor.

        Returns
        -------
        Forward
            The logits and the scales.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.linear`.

        Notes
        -----
        A scale is 2**k with the largest k that keeps ``max(abs(tensor)) * 2**k`` at or below the format's largest
        value, or 2**16 where the format reaches further. It is applied to the float32 tensor before rounding, and
        undone on the layer's result. Both are exact, short of the ends of float32's range. The scale of an activation
        is found on the whole batch.
        """
        fmt = float_format(dtype)
        scale = scaled and fmt.bits < _SCALED_BELOW_BITS
        x: NDArray[Any] = self.inputs
        weight_exponents, activation_exponents = [], []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            kx = scale_exponent(x, fmt) if scale else 0
            kw = scale_exponent(weight, fmt) if scale else 0
            scaled_x, scaled_weight, scaled_bias = np.ldexp(x, kx), np.ldexp(weight, kw), np.ldexp(bias, kx + kw)
            x = linear(scaled_x, scaled_weight, scaled_bias, fmt, accumulator=accumulator)
            x = np.ldexp(x, -(kx + kw))
            if i < len(self.weights) - 1:
                x = np.maximum(x, 0)
            weight_exponents.append(kw)
            activation_exponents.append(kx)
        return Forward(x, scale, tuple(weight_exponents), tuple(activation_exponents))

    def reference(self) -> NDArray[np.float64]:
        """Run the network in float64, without lowprec.

        Returns
        -------
        ndarray of float64, shape (N, classes)
            The logits. Products are summed in ascending k by NumPy's elementwise operations, so that the bits do not
            depend on a BLAS, and rounded apart from the sums, so that they are not those of an FMA chain either.

        Raises
        ------
        Nothing.
        """
        x = self.inputs.astype(np.float64)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            wide = weight.astype(np.float64)
            total = np.zeros((len(x), len(wide)))
            for k in range(wide.shape[1]):
                total += x[:, k, None] * wide[None, :, k]
            x = total + bias.astype(np.float64)
            x = np.maximum(x, 0) if i < len(self.weights) - 1 else x
        return x


@dataclass(frozen=True, eq=False)
class Forward:
    """What one forward pass gives: logits, and the exponents of the scales that it used.

    Parameters
    ----------
    logits : ndarray, shape (N, classes)
        In the accumulator's dtype.
    scaled : bool
        Whether power-of-two scales were applied.
    weight_exponents, activation_exponents : tuple of int
        log2 of the scale of each layer's weight and input; 0 where there is none.
    """

    logits: NDArray[Any]
    scaled: bool
    weight_exponents: tuple[int, ...]
    activation_exponents: tuple[int, ...]


def scale_exponent(tensor: NDArray[Any], fmt: FloatFormat) -> int:
    """Return log2 of the power of two that maps a tensor's largest magnitude just inside a format.

    Parameters
    ----------
    tensor : ndarray of float
        Any shape.
    fmt : FloatFormat
        The format that the tensor will be rounded to.

    Returns
    -------
    int
        The largest k with ``max(abs(tensor)) * 2**k <= min(fmt.max, 2**16)``, found without rounding; 0 for a tensor
        that is empty, all zero, or not finite.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp, numpy as np
    >>> from lowprec.study.workloads import scale_exponent
    >>> scale_exponent(np.array([0.5, -3.0]), lp.format("e2m1fn"))  # 3 * 2 = 6, the format's largest value
    1
    """
    largest = float(np.max(np.abs(tensor), initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return 0
    (have, have_exponent), (room, room_exponent) = math.frexp(largest), math.frexp(min(fmt.max, _LARGEST_TARGET))
    return room_exponent - have_exponent - int(have > room)


def float_format(dtype: Any) -> FloatFormat:
    """Return the format of weights and activations, or say why it cannot hold them."""
    fmt = fmt_of(dtype, "dtypes")
    if not isinstance(fmt, FloatFormat):
        msg = f"`dtypes` must be float formats, got {fmt.name}; integers need a scale, which `lowprec.study` lacks yet."
        raise ValueError(msg)
    if not (fmt.is_signed and fmt.has_zero):
        msg = f"`dtypes` must hold negative values and zero, got {fmt.name}, a format of scales."
        raise ValueError(msg)
    return fmt


@lru_cache(maxsize=1)
def _digits() -> Workload:
    """Return the handwritten digits of scikit-learn with the weights of `scripts/train_digits.py`."""
    images, target = require("sklearn.datasets", "The workload 'digits'").load_digits(return_X_y=True)
    stored = resources.files("lowprec.study").joinpath("data", "digits_mlp.npz").read_bytes()
    with np.load(io.BytesIO(stored), allow_pickle=False) as content:
        layers = range(sum(name.startswith("weight") for name in content))
        test = content["test_indices"]
        workload = Workload(
            name="digits",
            inputs=(images[test] / 16).astype(np.float32),
            labels=target[test],
            weights=tuple(content[f"weight{i}"] for i in layers),
            biases=tuple(content[f"bias{i}"] for i in layers),
            source=f"scikit-learn load_digits, weights by {content['script']} ({content['made_with']})",
        )
    for array in (workload.inputs, workload.labels, *workload.weights, *workload.biases):
        array.flags.writeable = False
    return workload


_WORKLOADS: dict[str, Callable[[], Workload]] = {"digits": _digits}


def workload(name: str | Workload) -> Workload:
    """Return the workload of a name.

    Parameters
    ----------
    name : str or Workload
        A name, or a workload, which comes back unchanged. The one name is ``"digits"``: a multilayer perceptron,
        64-128-64-10 with ReLU, on 599 test images of handwritten digits.

    Returns
    -------
    Workload
        Its arrays are read-only.

    Raises
    ------
    TypeError
        If `name` is of another kind.
    ValueError
        If the name is unknown.
    ImportError
        If scikit-learn is missing, which ships the digits.
    """
    if isinstance(name, Workload):
        return name
    if not isinstance(name, str):
        msg = f"`workload` must be a name or a Workload, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    if name not in _WORKLOADS:
        msg = f"`workload` must be one of {', '.join(map(repr, _WORKLOADS))} or a Workload, got {name!r}."
        raise ValueError(msg)
    return _WORKLOADS[name]()
