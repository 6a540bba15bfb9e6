"""Weights kept in few bits between the steps of an optimizer."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from lowprec import _checks
from lowprec._checks import fmt_of, modes
from lowprec.codec import round_to
from lowprec.rounding import Rounding
from lowprec.torch._arrays import to_array


class MasterWeights:
    """What `master_weights` returns: a handle, and a context that removes itself.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose parameters are rounded.
    format, rounding, seed, state
        As in `master_weights`.

    Raises
    ------
    Nothing; `master_weights` makes it.
    """

    def __init__(self, optimizer: Any, format: Any, rounding: Rounding, seed: int, state: Any) -> None:  # noqa: A002
        self.format, self.rounding, self.seed, self.state = format, rounding, seed, state
        self.steps = 0
        self._round(optimizer, Rounding.NEAREST_EVEN)
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def remove(self) -> None:
        """Stop rounding."""
        self._handle.remove()

    def __enter__(self) -> Self:
        """Return the handle."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop rounding."""
        self.remove()

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Round what the optimizer wrote."""
        self.steps += 1
        self._round(optimizer, self.rounding)

    def _round(self, optimizer: Any, rounding: Rounding) -> None:
        """Round all parameters, and the state of the optimizer that has their shape."""
        place = 0
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    self._one(parameter, self.format, rounding, (place, 0))
                    if self.state is not None:
                        held = optimizer.state.get(parameter, {})
                        for at, name in enumerate(sorted(held)):
                            value = held[name]
                            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim:
                                self._one(value, self.state, rounding, (place, at + 1))
                    place += 1

    def _one(self, tensor: torch.Tensor, fmt: Any, rounding: Rounding, place: tuple[int, int]) -> None:
        """Round a tensor where it lies."""
        array = np.ascontiguousarray(to_array(tensor))
        rng = np.random.default_rng([self.seed, self.steps, *place]) if rounding is Rounding.STOCHASTIC else None
        tensor.copy_(torch.from_numpy(np.asarray(round_to(array, fmt, rounding=str(rounding), rng=rng))))


def master_weights(
    optimizer: torch.optim.Optimizer,
    format: Any = "bf16",  # noqa: A002 - the word of the library
    *,
    rounding: str = "nearest_even",
    seed: int = 0,
    state: Any = None,
) -> MasterWeights:
    """Keep the weights that an optimizer updates in a format, as if they were stored in it.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of parameters in float32 or float64 on the CPU.
    format : str or FloatFormat
        The format of the weights.
    rounding : str
        How they are rounded after each step, as in `lowprec.encode`; to nearest even at the start.
    seed : int
        Of stochastic rounding.
    state : str or FloatFormat, optional
        Format of what the optimizer keeps for each weight (momentum and so on); None leaves it as it is.

    Returns
    -------
    MasterWeights
        Its ``remove()``, or the end of a ``with`` block, stops the rounding. `steps` counts.

    Raises
    ------
    TypeError
        If `optimizer` is none, or a parameter is not float32 or float64.
    ValueError
        If a name is unknown, or a parameter is not on the CPU.

    Notes
    -----
    The step itself is computed by torch in the parameters' dtype; what it wrote is rounded once. With master weights in
    float32, which is what mixed-precision training does, leave this out: `emulate` rounds the copy that it multiplies.

    Examples
    --------
    >>> import torch, lowprec as lp
    >>> w = torch.nn.Parameter(torch.ones(1000))
    >>> optimizer = torch.optim.SGD([w], lr=1e-3)  # far less than half of bfloat16's step below 1
    >>> w.grad = torch.ones(1000)
    >>> with lp.torch.master_weights(optimizer, "bf16"):
    ...     optimizer.step()
    >>> w.mean().item()
    1.0
    >>> with lp.torch.master_weights(optimizer, "bf16", rounding="stochastic", seed=1):
    ...     optimizer.step()
    >>> 0.9985 < w.mean().item() < 0.9995
    True
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"`optimizer` must be a torch.optim.Optimizer, got {type(optimizer).__name__}."
        raise TypeError(msg)
    fmt = fmt_of(format, "format")
    other = None if state is None else fmt_of(state, "state")
    mode = modes(rounding, None, "keep", 32).rounding
    number = _checks.seed(seed, Rounding.STOCHASTIC)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.dtype not in (torch.float32, torch.float64):
                msg = (
                    f"`optimizer` must have parameters in float32 or float64, which are rounded, got {parameter.dtype}."
                )
                raise TypeError(msg)
            if parameter.device.type != "cpu":
                msg = f"`optimizer` must have parameters on the CPU, got one on {parameter.device}."
                raise ValueError(msg)
    return MasterWeights(optimizer, fmt, mode, number, other)
