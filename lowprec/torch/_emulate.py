"""emulate: an unchanged model in low precision, forward and backward."""

from __future__ import annotations

import contextlib
import difflib
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from lowprec.torch._report import Report
from lowprec.torch._schemes import Rules
from lowprec.torch._session import Dispatch, Session

_UNSUPPORTED = ("error", "native")


class Emulation:
    """What `emulate` returns: a context in which models compute in low precision.

    Parameters
    ----------
    rules : Rules
        What each layer computes with.
    unsupported : str
        As in `emulate`.
    compare : bool
        As `report` of `emulate`.

    Raises
    ------
    Nothing; `emulate` makes it.
    """

    def __init__(self, rules: Rules, unsupported: str, compare: bool) -> None:
        self._rules = rules
        self._unsupported = unsupported
        self._stack: contextlib.ExitStack | None = None
        self._session: Session | None = None
        self.report = Report(compare)

    def __enter__(self) -> Self:
        """Start: nothing of the model is changed, and everything is undone at the end."""
        if self._stack is not None:
            msg = "`emulate` must be entered once at a time, got a context that is on; make another one."
            raise RuntimeError(msg)
        session = Session(self._rules, self._unsupported, self.report)
        with contextlib.ExitStack() as stack:
            for outer in _get_current_dispatch_mode_stack():
                if isinstance(outer, Dispatch):
                    outer.session.suspended += 1
                    stack.callback(_resume, outer.session)
            session.layers.start()
            stack.callback(session.layers.stop)
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            if "torch._dynamo" in sys.modules:  # compiled code would go past the emulation
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(session.functions)
            stack.enter_context(session.dispatch)
            self._stack, self._session = stack.pop_all(), session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whatever happened."""
        stack, session = self._stack, self._session
        self._stack = self._session = None
        if stack is None or session is None:
            return
        stack.close()
        session.products.weights.clear()
        for name in session.layers.compiled:
            self.report.note(f"Compiled by torch.compile, run eagerly: {name}.")
        for name in session.layers.scripted:
            self.report.note(f"Scripted, the layers inside have no names: {name}.")
        unused = self._rules.unused() if kind is None and len(self.report) + len(self.report.native) else []
        if unused:
            layers = list(dict.fromkeys(row["layer"] for row in (*self.report.table, *self.report.native)))
            close = difflib.get_close_matches(unused[0], layers, n=3, cutoff=0.3) or layers[:5]
            msg = (
                f"`skip` and `rules` must name layers that multiply, got {unused[0]!r}, which fits none; there are "
                f"{', '.join(map(repr, close))}."
            )
            warnings.warn(msg, UserWarning, stacklevel=2)


def _resume(session: Session) -> None:
    """Let an outer emulation go on."""
    session.suspended -= 1


def emulate(
    dtype: Any = "fp32",
    accumulator: Any = None,
    *,
    weights: Any = None,
    activations: Any = None,
    sparsity: str | None = None,
    scales: str = "none",
    scale_rule: str | None = None,
    rounding: str = "nearest_even",
    seed: int = 0,
    gradients: Any = None,
    backward: Any = None,
    skip: str | Sequence[str] = (),
    rules: Mapping[str, Any] | None = None,
    unsupported: str = "error",
    report: bool = False,
) -> Emulation:
    """Run a model that is not changed in low precision: all of its products, forward and backward.

    Parameters
    ----------
    dtype, accumulator, weights, activations, sparsity, scales, scale_rule, rounding, seed
        How products are computed, as in `lowprec.nn.Arithmetic`, but with ``scales="none"``: the operands as
        `lowprec.matmul` takes them. `dtype` may be an `Arithmetic`. A pair of formats is that of activations and of
        weights. Every product draws other random numbers of the seed.
    gradients : format or dict, optional
        Format of the gradient that comes into a backward product, such as ``"e5m2"``; by default that of activations.
        ``{"input": ..., "weight": ...}``: apart for the product that gives the gradient of the input, and of the
        weight.
    backward : Arithmetic, dict or "native", optional
        How backward products are computed: a dict of ``dtype, accumulator, scales, scale_rule, rounding, seed`` to
        change, or "native" for torch's own. By default as forward. Weights and activations are those that the forward
        pass multiplied, back from their storage (straight-through).
    skip : str or list of str
        Layers that torch runs itself: names as in ``model.named_modules()``, with ``*`` and ``?``. A pattern that fits
        a module holds for all inside it.
    rules : dict, optional
        Patterns of layers with the arguments that they have in place of those above, a format, an `Arithmetic`, or
        None for torch itself. The first pattern that fits holds.
    unsupported : {"error", "native"}
        Whether a product that cannot be emulated (`operators` lists those that can) raises, or is run by torch and
        named in the report.
    report : bool
        Whether each result is compared with the product of the same tensors in float64. The report lists what ran in
        either case.

    Returns
    -------
    Emulation
        A context manager; its `report` prints as a table, and has `table`, `native`, `notes` and `to_csv`.

    Warns
    -----
    UserWarning
        At the end, if a pattern fitted no layer that multiplied.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind; in the model, if operands have different dtypes.
    ValueError
        If a name is unknown or formats and accumulator do not go together; in the model, if tensors are on different
        devices.
    UnsupportedOperatorError
        In the model, if it multiplies in a way that cannot be emulated; it says what can.

    Notes
    -----
    Operators are caught below autograd (a dispatch mode), so it does not matter how the model calls them. A product is
    rounded once to the dtype of its tensors; a bias is added as `lowprec.linear` adds it; everything between products
    is torch's own. An operand is a weight if it is a view or a cast of an `nn.Parameter`, or the weight of a linear
    layer or convolution. In `Arithmetic` that needs calibration, the first inputs of a layer are its calibration.

    Backward products belong to the layer whose forward pass made them; ``loss.backward()`` has to be inside the
    context. Contexts nest, and the inner one holds. Only the thread that entered is emulated.

    Examples
    --------
    >>> import torch, lowprec as lp
    >>> model = torch.nn.Linear(64, 10)
    >>> x = torch.randn(8, 64)
    >>> with lp.torch.emulate("bf16", "nvidia-hopper") as e:
    ...     y = model(x)
    >>> w, b = model.weight.detach().numpy(), model.bias.detach().numpy()
    >>> bool((y.detach().numpy() == lp.linear(x.numpy(), w, b, "bf16", accumulator="nvidia-hopper")).all())
    True
    >>> e.report
    <Report: 1 products in 1 layers emulated, 0 products by torch; print it>
    """
    if not isinstance(unsupported, str):
        msg = f"`unsupported` must be a string, got {unsupported!r} of type {type(unsupported).__name__}."
        raise TypeError(msg)
    if unsupported not in _UNSUPPORTED:
        close = difflib.get_close_matches(unsupported, _UNSUPPORTED, n=1, cutoff=0.4)
        hint = f"; the closest: {close[0]!r}" if close else ""
        msg = f"`unsupported` must be one of {', '.join(_UNSUPPORTED)}, got {unsupported!r}{hint}."
        raise ValueError(msg)
    if not isinstance(report, bool):
        msg = f"`report` must be True or False, got {report!r} of type {type(report).__name__}."
        raise TypeError(msg)
    defaults: dict[str, Any] = {
        "weights": None,
        "activations": None,
        "sparsity": None,
        "scales": "none",
        "scale_rule": None,
    }
    defaults |= {"rounding": "nearest_even", "seed": 0, "accumulator": None}
    given = {
        "dtype": dtype, "accumulator": accumulator, "weights": weights, "activations": activations,
        "sparsity": sparsity, "scales": scales, "scale_rule": scale_rule, "rounding": rounding, "seed": seed,
    }  # fmt: skip
    options = {
        name: value for name, value in given.items() if name not in defaults or not _is_default(value, defaults[name])
    }
    return Emulation(Rules(options | {"gradients": gradients, "backward": backward}, skip, rules), unsupported, report)


def _is_default(value: Any, default: Any) -> bool:
    """Say whether an argument was left as it is."""
    return value is default or (isinstance(value, (str, int)) and isinstance(default, (str, int)) and value == default)
