"""Straight-through fake quantisers, for quantisation-aware training."""

from __future__ import annotations

import difflib
import math
from typing import Any

import numpy as np
import torch

from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.blocks import BlockFormat, block_format, is_block_name
from lowprec.calibration import MSE, AbsMax, Entropy, MinMax, MovingAverage, Percentile
from lowprec.codebooks import element_of
from lowprec.codec import encode
from lowprec.formats import FloatFormat, IntFormat
from lowprec.quantizers.api import quantize
from lowprec.torch._arrays import FLOATS, to_array, to_tensor

_OBSERVERS = ("absmax", "minmax", "moving_average", "percentile", "mse", "entropy")
_SCALES = ("dynamic", "lsq", *_OBSERVERS)
_KINDS = (AbsMax, Entropy, MinMax, MovingAverage, MSE, Percentile)


def _check(x: Any) -> None:
    """Refuse what is no tensor of floats on the CPU."""
    if not isinstance(x, torch.Tensor):
        msg = f"`x` must be a tensor, got {type(x).__name__}; for arrays there is lowprec.quantize."
        raise TypeError(msg)
    if x.dtype not in FLOATS or x.layout != torch.strided:
        msg = f"`x` must be a dense tensor of floats of 16 to 64 bits, got {x.dtype}, {x.layout}."
        raise TypeError(msg)
    if x.device.type != "cpu":
        msg = f"`x` must be on the CPU, got {x.device}; move it with .cpu()."
        raise ValueError(msg)


def _ends(q: QuantizedArray) -> tuple[Array, Array]:
    """Return the least and the largest number that each element of a quantised array could have become."""
    fmt = q.format
    if not isinstance(fmt, (FloatFormat, IntFormat)):
        largest = np.full(q.shape, np.argmax(np.asarray(fmt.values)), np.uint8)
        least = np.full(q.shape, np.argmin(np.asarray(fmt.values)), np.uint8)
    else:
        signed = q.zero_point is None and fmt.min < 0
        largest = np.full(q.shape, encode(fmt.max, fmt))
        least = np.full(q.shape, encode(-fmt.max if signed else fmt.min, fmt))
    how = {"format": fmt, "axis": q.axis, "block_size": q.block_size, "tensor_scale": q.tensor_scale}
    low, high = (
        QuantizedArray(codes, q.scale, q.zero_point, **how).dequantize()  # type: ignore[arg-type]
        for codes in (least, largest)
    )
    return low, high


class _Straight(torch.autograd.Function):
    """Quantise and dequantise; the gradient goes through where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, fmt: Any, how: dict[str, Any]) -> torch.Tensor:
        """Return the nearest numbers of the format."""
        array = to_array(x)
        q = quantize(array, fmt, **how)
        if x.requires_grad:
            if q.offset is not None:  # a block's own minimum: nothing is outside
                inside = np.ones(array.shape, bool)
            else:
                low, high = _ends(q)
                inside = (array >= low) & (array <= high)
            ctx.save_for_backward(torch.from_numpy(np.asarray(inside)))
        return to_tensor(q.dequantize().reshape(array.shape), x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradient of what was inside the range."""
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


def fake_quantize(x: torch.Tensor, fmt: Any, **how: Any) -> torch.Tensor:
    """Round a tensor to a format and back, with a gradient that goes straight through.

    Parameters
    ----------
    x : torch.Tensor
        Floats on the CPU.
    fmt : str, FloatFormat, IntFormat, CodebookFormat or BlockFormat
        The format.
    **how
        Arguments of `lowprec.quantize`: axis, block_size, symmetric, calibration, scale, zero_point, rounding, rng ...

    Returns
    -------
    torch.Tensor
        The numbers of ``lowprec.quantize(x, fmt, **how).dequantize()``, in the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no dense tensor of floats, or as `lowprec.quantize`.
    ValueError
        If `x` is not on the CPU, or as `lowprec.quantize`.

    Notes
    -----
    The gradient is 1 where x lies between the smallest and the largest number that its codes and scale can stand for,
    and 0 outside, where it was clipped (PACT's rule, and LSQ's for the input). With ``scale=1`` it is `round_to`.

    References
    ----------
    Bengio, Leonard and Courville, Estimating or Propagating Gradients Through Stochastic Neurons, arXiv:1308.3432;
    Choi et al., PACT, arXiv:1805.06085.

    Examples
    --------
    >>> import torch, lowprec as lp
    >>> x = torch.tensor([0.3, -1.2, 9.0], requires_grad=True)
    >>> y = lp.torch.fake_quantize(x, "e2m1fn", scale=1.0)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.5, -1.0, 6.0], [1.0, 1.0, 0.0])
    """
    _check(x)
    if x.numel() == 0:
        return x.clone()
    result: torch.Tensor = _Straight.apply(x, fmt, how)
    return result


class _LearnedStep(torch.autograd.Function):
    """Quantise with a step that has a gradient too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, fmt: Any, axis: int | None, how: Any) -> torch.Tensor:
        """Return the nearest numbers of the format times the step."""
        array, step = to_array(x), to_array(scale)
        q = quantize(array, fmt, axis=axis, scale=step, **how)
        low, high = _ends(q)
        shape = [1] * array.ndim
        if axis is not None:
            shape[axis] = -1
        wide = step.reshape(shape)
        values = np.asarray(q.dequantize())
        inside = (array >= low) & (array <= high)
        with np.errstate(all="ignore"):
            slope = np.where(inside, values / wide - array.astype(values.dtype) / wide, values / wide)
        largest = float(np.max(high / wide)) if high.size else 1.0
        share = 1 / math.sqrt(max(1, array.size // max(1, step.size)) * largest)
        ctx.axis = axis
        ctx.save_for_backward(torch.from_numpy(inside), torch.from_numpy((slope * share).astype(np.float32)))
        return to_tensor(values, x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradients of the numbers inside, and of the step."""
        inside, slope = ctx.saved_tensors
        grad = grads[0]
        parts = grad.float() * slope
        axes = [axis for axis in range(grad.ndim) if ctx.axis is None or axis != ctx.axis % grad.ndim]
        return grad * inside, parts.sum(axes) if axes else parts, None, None, None


class FakeQuantize(torch.nn.Module):
    """A module that rounds what goes through it to a format, for quantisation-aware training.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat, CodebookFormat or BlockFormat
        The format.
    axis : int, optional
        The axis along which scales differ.
    block_size : int, optional
        Elements along `axis` that share a scale, with ``scale="dynamic"`` alone.
    symmetric : bool
        Whether 0 is the middle of the range; if not (integers only), there are zero points.
    scale : str, observer or float
        How the scale is found. "dynamic": from the largest magnitude of every input. The name of an observer
        ("absmax", "minmax", "moving_average", "percentile", "mse", "entropy") or an observer of `lowprec.calibration`:
        from all inputs in training mode, and kept in evaluation mode or after ``enable_observer(False)``. "lsq": a
        parameter that is learned. A number: that.
    channels : int, optional
        With "lsq" and an axis: its length.
    rounding : str
        As in `lowprec.encode`.
    seed : int
        Of stochastic rounding; every call draws other numbers.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown or arguments contradict each other.

    Notes
    -----
    The output has the bits of ``lowprec.quantize(...).dequantize()``, and the gradient of `fake_quantize`. A learned
    step s has LSQ's gradient: with the code value c of x, ``c - x / s`` inside the range and c outside, times
    ``1 / sqrt(n * c_max)`` for n elements per step. It starts at ``2 * mean(abs(x)) / sqrt(c_max)`` of the first input.

    References
    ----------
    Esser et al., Learned Step Size Quantization, arXiv:1902.08153.

    Examples
    --------
    >>> import torch, lowprec as lp
    >>> quantizer = lp.torch.FakeQuantize("int8", scale="absmax")
    >>> y = quantizer(torch.tensor([1.0, -2.0, 3.0]))
    >>> y, quantizer.eval()(torch.tensor([4.0]))  # the range is what was seen in training
    (tensor([ 0.9921, -2.0079,  3.0000]), tensor([3.]))
    """

    scale: torch.Tensor
    zero_point: torch.Tensor
    started: torch.Tensor

    def __init__(
        self,
        fmt: Any,
        *,
        axis: int | None = None,
        block_size: int | None = None,
        symmetric: bool = True,
        scale: Any = "dynamic",
        channels: int | None = None,
        rounding: str = "nearest_even",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.fmt: Any = block_format(fmt) if is_block_name(fmt) else element_of(fmt, "fmt")
        self.axis, self.block_size, self.symmetric = axis, block_size, symmetric
        self.rounding, self.seed = rounding, seed
        self._calls = 0
        self._observer: Any = None
        self._observes, self._quantizes = True, True
        if (isinstance(self.fmt, BlockFormat) or block_size is not None) and scale != "dynamic":
            msg = f"`scale` must be 'dynamic' for blocks, which have their own scales, got {scale!r}."
            raise ValueError(msg)
        self.mode = self._mode(scale)
        if self.mode == "lsq":
            self._learn(channels)
            return
        if channels is not None:
            msg = f"`channels` must be None without scale='lsq', got {channels}."
            raise ValueError(msg)
        fixed = float(scale) if self.mode == "fixed" else 0.0
        self.register_buffer("scale", torch.tensor(fixed) if self.mode == "fixed" else torch.zeros(0))
        self.register_buffer("zero_point", torch.zeros(0, dtype=torch.int64))

    def _mode(self, scale: Any) -> str:
        """Return how the scale is found."""
        if isinstance(scale, _KINDS):
            self._observer = scale
            return "observed"
        if isinstance(scale, (int, float)) and not isinstance(scale, bool):
            if not (scale > 0 and math.isfinite(scale)):
                msg = f"`scale` must be positive and finite, got {scale}."
                raise ValueError(msg)
            return "fixed"
        if not isinstance(scale, str):
            msg = f"`scale` must be a word, an observer or a number, got {scale!r} of type {type(scale).__name__}."
            raise TypeError(msg)
        if scale not in _SCALES:
            close = difflib.get_close_matches(scale, _SCALES, n=2, cutoff=0.4)
            hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
            msg = f"`scale` must be one of {', '.join(_SCALES)}, an observer or a number, got {scale!r}{hint}."
            raise ValueError(msg)
        if scale in ("dynamic", "lsq"):
            return scale
        kinds: dict[str, Any] = {
            "absmax": lambda: AbsMax(axis=self.axis) if self.symmetric else MinMax(axis=self.axis),
            "minmax": lambda: MinMax(axis=self.axis),
            "moving_average": lambda: MovingAverage(axis=self.axis),
            "percentile": lambda: Percentile(symmetric=self.symmetric, axis=self.axis),
            "mse": lambda: MSE(self.fmt, symmetric=self.symmetric, axis=self.axis),
            "entropy": lambda: Entropy(symmetric=self.symmetric, axis=self.axis),
        }
        self._observer = kinds[scale]()
        return "observed"

    def _learn(self, channels: int | None) -> None:
        """Make the parameter."""
        if not self.symmetric:
            msg = "`symmetric` must be True with scale='lsq', which learns no zero point, got False."
            raise ValueError(msg)
        if (self.axis is None) != (channels is None):
            msg = f"`channels` must be given with `axis` and scale='lsq', and only then, got {channels}."
            raise ValueError(msg)
        self.scale = torch.nn.Parameter(torch.ones(() if channels is None else (channels,)))
        self.register_buffer("started", torch.tensor(False))

    def enable_observer(self, enabled: bool = True) -> FakeQuantize:
        """Say whether inputs in training mode widen the range; returns the module."""
        self._observes = enabled
        return self

    def enable_fake_quant(self, enabled: bool = True) -> FakeQuantize:
        """Say whether inputs are rounded at all; returns the module."""
        self._quantizes = enabled
        return self

    def extra_repr(self) -> str:
        """Return the arguments."""
        own = f"{self.fmt.name!r}, scale={self.mode!r}"
        return own if self.axis is None else f"{own}, axis={self.axis}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take scales of any shape."""
        for name in ("scale", "zero_point"):
            key = prefix + name
            if self.mode == "observed" and key in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[key])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the numbers rounded.

        Parameters
        ----------
        x : torch.Tensor
            Floats on the CPU.

        Returns
        -------
        torch.Tensor
            Of the same shape and dtype.

        Raises
        ------
        TypeError, ValueError
            As `fake_quantize`; a RuntimeError if nothing was observed yet.
        """
        _check(x)
        if x.numel() == 0:
            return x
        how: dict[str, Any] = {"rounding": self.rounding}
        if self.rounding == "stochastic":
            self._calls += 1
            how["rng"] = np.random.default_rng([self.seed, self._calls])
        if self.mode == "observed" and self.training and self._observes:
            self._observe(x)
        if not self._quantizes:
            return x
        if self.mode == "lsq":
            return self._learned(x, how)
        if self.mode == "dynamic":
            return fake_quantize(
                x, self.fmt, axis=self.axis, block_size=self.block_size, symmetric=self.symmetric, **how
            )
        if self.scale.numel() == 0:
            msg = "`FakeQuantize` must see data in training mode before it can round in evaluation mode, got none."
            raise RuntimeError(msg)
        point = to_array(self.zero_point) if self.zero_point.numel() else None
        axis = self.axis if self.scale.ndim else None
        return fake_quantize(x, self.fmt, axis=axis, scale=to_array(self.scale), zero_point=point, **how)

    def _observe(self, x: torch.Tensor) -> None:
        """Widen the range by an input, and find the scale again."""
        array = to_array(x)
        self._observer.update(array)
        q = quantize(array, self.fmt, axis=self.axis, symmetric=self.symmetric, calibration=self._observer)
        self.scale = torch.from_numpy(np.array(q.scale, np.float32))
        if q.zero_point is not None:
            self.zero_point = torch.from_numpy(np.array(q.zero_point, np.int64))

    def _learned(self, x: torch.Tensor, how: dict[str, Any]) -> torch.Tensor:
        """Return the numbers rounded with the learned step."""
        if not bool(self.started):
            axes = [axis for axis in range(x.ndim) if self.axis is None or axis != self.axis % x.ndim]
            with torch.no_grad():
                mean = x.detach().abs().float().mean(axes) if axes else x.detach().abs().float()
                start = 2 * mean / math.sqrt(float(self.fmt.max))
                self.scale.copy_(torch.where(start > 0, start, torch.ones_like(start)))
                self.started.fill_(True)
        step = self.scale.abs().clamp_min(torch.finfo(torch.float32).tiny)
        result: torch.Tensor = _LearnedStep.apply(x, step, self.fmt, self.axis, how)
        return result
