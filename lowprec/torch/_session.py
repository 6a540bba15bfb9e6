"""What happens to each operator while an emulation is on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lowprec.torch import _attention as fused
from lowprec.torch import _handlers as handlers
from lowprec.torch import _operators as operators
from lowprec.torch._arrays import FLOATS, why_not
from lowprec.torch._layers import Layers, Place
from lowprec.torch._products import Products
from lowprec.torch._report import Report
from lowprec.torch._schemes import Rules, Scheme

Kind = Literal["product", "composite", "refused", "copy", "write", "other", "unknown"]

_COPIES = frozenset(("_to_copy", "clone", "_conj_physical", "contiguous", "lift_fresh_copy"))
_OWN = frozenset(("aten", "prim", "prims", "profiler", "rngprims", "debugprims", "_test"))
_CONVOLUTIONS = ("convolution", "convolution_backward")
_FLASH = "_scaled_dot_product_flash_attention_for_cpu"


class UnsupportedOperatorError(NotImplementedError):
    """A model called an operator that multiplies where the emulation cannot reach.

    Raises
    ------
    Nothing.
    """


@lru_cache(maxsize=8192)
def kind_of(func: Any) -> Kind:
    """Return what has to be done about an operator."""
    if not isinstance(func, torch._ops.OpOverload):  # one that runs functions: flex_attention, cond, scan
        return "refused"
    space, name = func.namespace, base_name(func)
    if space in operators.REFUSED_NAMESPACES:
        return "refused"
    if space not in _OWN:
        return "unknown"
    if name in operators.REFUSED:
        return "refused"
    if name in handlers.PRODUCTS or name in _CONVOLUTIONS or name.startswith(_FLASH):
        return "product"
    if name == "_convolution":
        return "product"
    if _is_composite(func):
        return "composite"
    if name in _COPIES:
        return "copy"
    return "write" if func._schema.is_mutable else "other"


def _is_composite(func: Any) -> bool:
    """Say whether an operator is made of others."""
    try:
        return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
    except RuntimeError:  # questions about sizes and layouts, which only subclasses of tensors hear
        return False


@lru_cache(maxsize=8192)
def base_name(func: Any) -> str:
    """Return an operator's name without its namespace, overload and the underscore of in-place variants."""
    name: str = func._schema.name.split("::")[1]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors in arguments, also of lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


class Session:
    """The state of one emulation, between entering and leaving it.

    Parameters
    ----------
    rules : Rules
        What each layer computes with.
    unsupported : {"error", "native"}
        What is done about products that cannot be emulated.
    report : Report
        Where it is written down.

    Raises
    ------
    Nothing.
    """

    def __init__(self, rules: Rules, unsupported: str, report: Report) -> None:
        self.rules, self.unsupported, self.report = rules, unsupported, report
        self.layers, self.products = Layers(), Products()
        self.suspended = 0
        self.dispatch = Dispatch(self)
        self.functions = Functions(self)

    # ------------------------------------------------------------------------------------------------------ operators
    def handle(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one operator."""
        kind = kind_of(func)
        weights = self.products.weights
        if self.suspended:
            result = func(*args, **kwargs)
            if kind in ("write", "unknown"):  # an inner emulation writes to weights that this one made ready
                for tensor in _tensors((*args, *kwargs.values())):
                    weights.changed(tensor)
            return result
        for arg in args:
            if type(arg) is not torch.Tensor and isinstance(arg, torch.nn.Parameter):
                weights.register(arg, "weight")
        if kind == "other":
            return func(*args, **kwargs)
        if kind in ("product", "composite") and any(t.is_nested for t in _tensors(args)):
            self._refuse(func, args, kwargs, "nested tensors have no one shape; pad them with .to_padded_tensor(0.0)")
            return func(*args, **kwargs)
        if kind == "product":
            with torch._C.DisableTorchFunction():
                return self._product(func, args, dict(kwargs))
        if kind == "composite":
            with self.dispatch:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        if kind == "refused":
            self._refuse(func, args, kwargs)
        elif kind == "unknown":
            self.report.note(f"Unknown operator, run by its own library: {func._schema.name}.")
        result = func(*args, **kwargs)
        if kind == "copy":
            if isinstance(result, torch.Tensor) and weights.is_weight(args[0]):
                weights.register(result, "weight")
        elif kind in ("write", "unknown"):
            for tensor in _tensors((*args, *kwargs.values())):
                weights.changed(tensor)
        return result

    def _refuse(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any],
        why: str = "it multiplies inside, where the emulation cannot reach",
    ) -> None:  # fmt: skip
        """Raise for an operator that multiplies inside, or write down that torch runs it."""
        place = self.layers.place()
        name = func._schema.name if isinstance(func, torch._ops.OpOverload) else func.name()
        if self.rules.scheme(place.layer) is None:
            self.report.ran_natively(place, name, "the layer is skipped")
            return
        tensors = list(_tensors((*args, *kwargs.values())))
        if tensors and not any(t.is_floating_point() or t.is_complex() or t.is_quantized for t in tensors):
            self.report.ran_natively(place, name, "integers are exact")
            return
        if self.unsupported == "native":
            self.report.ran_natively(place, name, why)
            return
        msg = (
            f"`emulate` must have operators that it knows, got {name} in layer {place.layer!r}: {why}. Emulated are "
            f"{operators.names()}. Skip the layer with skip=[{place.layer!r}], or pass unsupported='native'."
        )
        raise UnsupportedOperatorError(msg)

    def _why_native(self, tensors: list[torch.Tensor], scheme: Scheme | None, place: Place, name: str) -> str | None:
        """Return why torch runs a product itself, or raise if it should not."""
        if scheme is None:
            return "the layer is skipped"
        if place.backward and scheme.backward is None:
            return "backward='native'"
        why = why_not(tensors)
        if why is None:
            dtypes = {tensor.dtype for tensor in tensors}
            if len(dtypes) > 1:
                found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
                msg = (
                    f"`emulate` must get operands of one dtype, got {found} in {name} of layer {place.layer!r}; cast "
                    "the model or its input with .to(dtype), or use torch.autocast."
                )
                raise TypeError(msg)
            return None
        if all(t.device.type == "meta" for t in tensors):
            return "tensors on the meta device hold no numbers"
        if len({t.device for t in tensors}) > 1:
            devices = ", ".join(sorted({str(t.device) for t in tensors}))
            msg = (
                f"`emulate` must get tensors on one device, got {devices} in {name} of layer {place.layer!r}; move "
                "the model and its data with .cpu()."
            )
            raise ValueError(msg)
        if all(type(t) in (torch.Tensor, torch.nn.Parameter) for t in tensors) and not any(
            t.is_floating_point() or t.is_complex() or t.is_quantized or t.layout != torch.strided for t in tensors
        ):
            return "integers are exact"
        if self.unsupported == "native":
            return why
        msg = f"`emulate` cannot run {name} in layer {place.layer!r}: {why}; or pass unsupported='native'."
        raise UnsupportedOperatorError(msg)

    def _product(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operator that multiplies."""
        name = base_name(func)
        place = self.layers.place()
        scheme = self.rules.scheme(place.layer)
        given = [each for each in args if isinstance(each, torch.Tensor)]
        why = self._why_native(given, scheme, place, name)
        if why is not None or scheme is None:
            self.report.ran_natively(place, name, str(why))
            return func(*args, **kwargs)
        if name.startswith(_FLASH):
            return self._flash(name, args, kwargs, place)
        out = kwargs.pop("out", None)
        if name in handlers.PRODUCTS:
            if not handlers.fits(name, args):
                return func(*args, **kwargs)  # torch says what is wrong
            if name.startswith(("add", "badd", "_add")) and len(args) > 3:  # old order of beta and alpha
                kwargs = dict(zip(("beta", "alpha"), args[3:], strict=False)) | kwargs
            call = handlers.Call(self.products, scheme, place, args, kwargs)
            pair = handlers.operands(name, args)
            (result,) = handlers.tensors_of([handlers.PRODUCTS[name](call)], given[-1].dtype)
            made: Any = result
            self._add(place, name, pair, scheme, handlers.macs(*pair), [result], func, args, kwargs)
            if func._schema.is_mutable and out is None:
                out = args[0]
            if out is None:
                return made
            if out.shape != made.shape:
                out.resize_(made.shape)
            self.products.weights.changed(out)
            return out.copy_(made)
        return self._convolution(func, name, args, kwargs, scheme, place)

    def _convolution(
        self, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], scheme: Scheme, place: Place
    ) -> Any:
        """Run a convolution or its gradients."""
        backward = name == "convolution_backward"
        images, w = (args[1], args[2]) if backward else (args[0], args[1])
        if any(each.numel() == 0 for each in args[: 2 + backward]):
            return func(*args, **kwargs)  # nothing is multiplied
        place = place._replace(backward=place.backward or backward)
        self.products.weights.register(w, "weight")
        call = handlers.Call(self.products, scheme, place, args, kwargs)
        transposed = bool(args[7] if backward else args[6])
        found = handlers.convolve_backward(call) if backward else (handlers.convolve(call),)
        results = handlers.tensors_of(found, images.dtype)
        first = args[0] if backward else results[0]
        count = handlers.convolution_macs(w, first, transposed, images) * (sum(args[10][:2]) if backward else 1)
        self._add(place, name, (images, w), scheme, count, results, func, args, kwargs)
        return results if backward else results[0]

    def _add(
        self, place: Place, name: str, tensors: Sequence[torch.Tensor], scheme: Scheme, macs: int,
        results: Sequence[Any], func: Any, args: Sequence[Any], kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        """Write a product down."""

        def reference() -> Any:
            wide = [a.double() if isinstance(a, torch.Tensor) and a.dtype in FLOATS else a for a in args]
            return func(*wide, **kwargs)

        self.report.add(place, name, tensors, scheme.labels[place.backward], macs, results, reference)

    # --------------------------------------------------------------------------------------------------- fused layers
    def _flash(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], place: Place) -> Any:
        """Run attention that is called from C++, or its gradients."""
        mask, scale = kwargs.get("attn_mask"), kwargs.get("scale")
        if name == _FLASH:
            q, k, v = (each.float() if each.itemsize < 4 else each for each in args[:3])
            causal = args[4] if len(args) > 4 else kwargs.get("is_causal", False)
            with self._forced(place), self.dispatch:
                scores = fused.scores_of(q, k, mask, causal, scale)
                result = torch.matmul(torch._safe_softmax(scores, -1), v)
            return result.to(args[0].dtype), torch.logsumexp(scores, -1)
        grad, q, k, v = (each.float() if each.itemsize < 4 else each for each in args[:4])
        causal = args[7] if len(args) > 7 else kwargs.get("is_causal", False)
        with self._forced(place._replace(backward=False)), self.dispatch:
            weights = torch._safe_softmax(fused.scores_of(q, k, mask, causal, scale), -1)
        self.products.weights.register(weights, "activation")
        with self._forced(place._replace(backward=True)), self.dispatch:
            found = fused.flash_backward(grad, q, k, v, scale, weights)
        return tuple(each.to(args[1].dtype) for each in found)

    @contextlib.contextmanager
    def _forced(self, place: Place) -> Iterator[None]:
        """Say that products belong to a place, whatever is running."""
        before, self.layers.forced = self.layers.forced, place
        try:
            yield
        finally:
            self.layers.forced = before

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one function of torch's Python interface: those that torch would fuse are taken apart first."""
        name = getattr(func, "__name__", "")
        if self.suspended or name not in _SEEN:
            return func(*args, **kwargs)
        if name == "backward":  # layers that are checkpointed are computed again inside, where this mode would be off
            if func is torch.Tensor.backward:
                with self.functions:
                    return _of_tensor(*args, **kwargs)
            if func is torch.autograd.backward:
                return self._run_backward(*args, **kwargs)
            return func(*args, **kwargs)
        place = self.layers.place()
        if self.rules.scheme(place.layer) is None:
            return func(*args, **kwargs)
        if name in _MULTIPLYING and not any(t.is_nested for t in _tensors(args)):
            # Below autograd would be too late for a layer that is computed again only to find what it saved.
            if name == "linear" and len(args) > 1 and isinstance(args[1], torch.Tensor):
                self.products.weights.register(_unwrapped(args[1]), "weight")
            if not place.backward:
                for tensor in args:
                    if isinstance(tensor, torch.Tensor):
                        self.products.weights.register(_unwrapped(tensor), "activation")
            return func(*args, **kwargs)
        if name == "lstm":
            before = torch._C._get_mkldnn_enabled()
            torch._C._set_mkldnn_enabled(False)
            try:
                return func(*args, **kwargs)
            finally:
                torch._C._set_mkldnn_enabled(before)
        tensors = list(_tensors((*args, *kwargs.values())))
        if name == "scaled_dot_product_attention" and _same_floats(tensors[:3]):
            return fused.attention(*args, **kwargs)
        if name == "bilinear" and _same_floats(tensors):
            return fused.bilinear(*args, **kwargs)
        return func(*args, **kwargs)

    def _run_backward(
        self, tensors: Any, grad_tensors: Any = None, retain_graph: Any = None, create_graph: bool = False,
        inputs: Any = None,
    ) -> None:  # fmt: skip
        """Do what `torch.autograd.backward` does once it has checked its arguments, with this mode on."""
        roots = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
        given = torch.autograd._tensor_or_tensors_to_tuple(grad_tensors, len(roots))
        grads = torch.autograd._make_grads(roots, given, is_grads_batched=False)
        keep = create_graph if retain_graph is None else retain_graph
        with self.functions:
            torch.autograd.graph._engine_run_backward(
                roots, grads, keep, create_graph, tuple(inputs or ()), allow_unreachable=True, accumulate_grad=True
            )


_MULTIPLYING = frozenset(("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm"))
_SEEN = _MULTIPLYING | {"backward", "lstm", "scaled_dot_product_attention", "bilinear"}


def _of_tensor(
    tensor: torch.Tensor,
    gradient: torch.Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Do what `torch.Tensor.backward` does."""
    torch.autograd.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)


def _same_floats(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether tensors are plain floats of one dtype on the CPU, which can be taken apart."""
    return (
        all(
            t.device.type == "cpu" and t.layout == torch.strided and t.dtype in FLOATS and not t.is_nested
            for t in tensors
        )
        and len({t.dtype for t in tensors}) == 1
    )


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor inside the wrappers of torch.func."""
    inside: Any = torch._C._functorch
    while inside.is_functorch_wrapped_tensor(tensor):
        tensor = inside.get_unwrapped(tensor)
    return tensor


class Dispatch(TorchDispatchMode):
    """Every operator below autograd goes through here."""

    supports_higher_order_operators = True  # they get an error of this package

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that torch need not load its compiler to leave this mode alone: compiled code runs eagerly."""
        return False

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        return self.session.handle(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """Every function of torch that Python calls goes through here."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function."""
        return self.session.call(func, args, kwargs or {})
