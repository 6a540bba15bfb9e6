"""The checks of conv2d can fail: each wrong version of its definition turns one of them red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conv_slow import (
    GEOMETRIES,
    SLOW,
    Sides,
    Slow,
    check_bias_last,
    check_geometry,
    check_kind,
    check_order,
    check_padding_is_zero,
    check_stochastic,
)
from fma_oracle import ORACLE, Array


class Flipped(Slow):
    """A convolution in the mathematicians' sense."""

    def matrices(self, patches: Array, w: Array, groups: int) -> tuple[Array, Array]:
        return super().matrices(patches, np.ascontiguousarray(w[..., ::-1, ::-1]), groups)


class ChannelsLast(Slow):
    """Kernel rows and columns outside, channels inside."""

    def matrices(self, patches: Array, w: Array, groups: int) -> tuple[Array, Array]:
        left, right = super().matrices(patches, w, groups)
        area = patches.shape[2] * patches.shape[3]
        order = np.arange(left.shape[-1]).reshape(-1, area).T.ravel()
        return left[..., order], right[..., order, :]


class ColumnsBeforeRows(Slow):
    """Kernel columns outside, rows inside."""

    def matrices(self, patches: Array, w: Array, groups: int) -> tuple[Array, Array]:
        return super().matrices(
            np.ascontiguousarray(patches.swapaxes(2, 3)), np.ascontiguousarray(w.swapaxes(2, 3)), groups
        )


class PaddingAtTheEnd(Slow):
    """All padding below and to the right."""

    def patches(self, x: Array, kernel: tuple[int, int], stride: Any, sides: Sides, dilation: Any) -> Array:
        return super().patches(x, kernel, stride, ((0, sum(sides[0])), (0, sum(sides[1]))), dilation)


class NegativePadding(Slow):
    """-0 for padding."""

    def patches(self, x: Array, kernel: tuple[int, int], stride: Any, sides: Sides, dilation: Any) -> Array:
        where = super().patches(np.ones_like(x), kernel, stride, sides, dilation)
        found = super().patches(x, kernel, stride, sides, dilation)
        return np.where(where == 0, found.dtype.type(-0.0), found)


class StrideAndDilationSwapped(Slow):
    """Steps between elements for steps between positions."""

    def patches(self, x: Array, kernel: tuple[int, int], stride: Any, sides: Sides, dilation: Any) -> Array:
        return super().patches(x, kernel, dilation, sides, stride)


class BiasFirst(Slow):
    """The sum starts from the bias."""

    def start(self, c: Any, bias: Any, shape: tuple[int, ...]) -> Any:
        if c is not None or bias is None:
            return super().start(c, bias, shape)
        return np.broadcast_to(np.reshape(bias, (-1, 1, 1)), shape)

    def end(self, r: Array, bias: Any) -> Array:
        return r


class OneStream(Slow):
    """Weights draw the words of the images."""

    def operands(self, x: Any, w: Any, dtype: Any, accumulator: Any, policies: dict[str, Any]) -> Any:
        first, second = dtype if isinstance(dtype, tuple) else (dtype, dtype)
        total = super().operands(x, w, dtype, accumulator, policies)[2]
        return ORACLE.operand(x, first, 0, policies)[0], ORACLE.operand(w, second, 0, policies)[0], total


class IndexInTheImage(Slow):
    """Every image draws the same words."""

    def operands(self, x: Any, w: Any, dtype: Any, accumulator: Any, policies: dict[str, Any]) -> Any:
        _, b, total = super().operands(x, w, dtype, accumulator, policies)
        images = [super(IndexInTheImage, self).operands(v, w, dtype, accumulator, policies)[0] for v in x]
        return np.stack(images) if images else x, b, total


def first_failure(conv2d: Callable[..., Array]) -> str | None:
    """Return the first check that turns red."""
    checks: dict[str, Callable[[], None]] = {
        **{f"geometry {n}": lambda n=n: check_geometry(conv2d, n) for n in range(len(GEOMETRIES))},  # type: ignore[misc]
        "traps": lambda: check_kind(conv2d, "traps", "fp32"),
        **{
            f.__name__: lambda f=f: f(conv2d)  # type: ignore[misc]
            for f in (check_order, check_bias_last, check_stochastic, check_padding_is_zero)
        },
    }
    for name, check in checks.items():
        try:
            check()
        except (AssertionError, ValueError):
            return name
    return None


@pytest.mark.parametrize("bug", Slow.__subclasses__(), ids=lambda bug: bug.__name__)
def test_planted_bug_is_seen(bug: type[Slow]) -> None:
    assert first_failure(bug()) is not None


def test_no_false_alarm() -> None:
    assert first_failure(SLOW) is None
