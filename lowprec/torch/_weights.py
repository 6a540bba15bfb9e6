"""Which tensors are weights, and weights made ready once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from lowprec._checks import Array
from lowprec.torch._arrays import to_floats
from lowprec.torch._schemes import Role, Scheme

_PURGE = 2048
Geometry = tuple[int, tuple[int, ...], tuple[int, ...]]


class Ready(NamedTuple):
    """A weight made ready."""

    version: int
    scheme: Scheme
    prepared: Any


class _Storage:
    """What is known of a block of memory, for as long as it lives."""

    __slots__ = ("ready", "reference", "role")

    def __init__(self, reference: StorageWeakRef, role: Role) -> None:
        self.reference = reference
        self.role: Role = role
        self.ready: dict[tuple[str, Geometry], Ready] = {}


def geometry(tensor: torch.Tensor) -> Geometry:
    """Return where a tensor lies in its storage."""
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


class Weights:
    """Remember which storages are weights and which are operands of the forward pass, without keeping them alive."""

    def __init__(self) -> None:
        self._known: dict[int, _Storage] = {}
        self._purge_at = _PURGE

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def _entry(self, tensor: torch.Tensor) -> _Storage | None:
        """Return what is known of a tensor's memory."""
        if tensor.layout != torch.strided:
            return None
        return self._known.get(tensor.untyped_storage()._cdata)

    def register(self, tensor: torch.Tensor, role: Role) -> None:
        """Note the role of a tensor, and of all views of it; once a weight, always a weight."""
        if tensor.layout != torch.strided:
            return
        if type(tensor) is not torch.Tensor and isinstance(tensor, torch.nn.Parameter):
            role = "weight"
        storage = tensor.untyped_storage()
        known = self._known.get(storage._cdata)
        if known is not None:
            if role == "weight":
                known.role = role
            return
        self._known[storage._cdata] = _Storage(StorageWeakRef(storage), role)
        if len(self._known) > self._purge_at:
            self._known = {key: value for key, value in self._known.items() if not value.reference.expired()}
            self._purge_at = max(_PURGE, 2 * len(self._known))

    def role(self, tensor: torch.Tensor) -> Role | None:
        """Return the role of a tensor, None if it was never seen."""
        known = self._entry(tensor)
        return None if known is None else known.role

    def is_weight(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is a weight, or a view of one."""
        return self.role(tensor) == "weight"

    def changed(self, tensor: torch.Tensor) -> None:
        """Note that a tensor is written to."""
        known = self._entry(tensor)
        if known is not None and known.ready:
            known.ready.clear()

    def prepared(self, tensor: torch.Tensor, scheme: Scheme, kind: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` makes of a weight, made once for as long as the weight does not change."""
        known = self._entry(tensor)
        version = -1 if tensor.is_inference() else tensor._version
        key = (kind, geometry(tensor))
        if known is not None:
            found = known.ready.get(key)
            if found is not None and found.version == version and found.scheme is scheme:
                return found.prepared
        made = make()
        if known is not None:
            known.ready[key] = Ready(version, scheme, made)
        return made

    def remember(self, tensor: torch.Tensor, scheme: Scheme) -> None:
        """Note how an activation lay when it was multiplied: its last axis is summed."""
        known = self._entry(tensor)
        if known is not None:
            version = -1 if tensor.is_inference() else tensor._version
            known.ready[("activation", geometry(tensor))] = Ready(version, scheme, None)

    def is_turned(self, tensor: torch.Tensor) -> bool:
        """Return whether an activation is the transposition of what was multiplied in the forward pass."""
        known = self._entry(tensor)
        offset, shape, stride = geometry(tensor)
        turned = (offset, shape[:-2] + shape[:-3:-1], stride[:-2] + stride[:-3:-1])
        if known is None or ("activation", (offset, shape, stride)) in known.ready:
            return False
        return ("activation", turned) in known.ready

    def stored(self, tensor: torch.Tensor, scheme: Scheme, layer: str) -> Array:
        """Return the numbers of a weight (..., rows, columns) as the forward pass multiplied them, in its own shape.

        In the forward pass a weight was made ready as (N, K), a view of it; the tensor may be another one of the same
        elements, its transposition for example.
        """
        known = self._entry(tensor)
        offset, shape, stride = geometry(tensor)
        if known is not None:
            for (kind, (at, size, step)), ready in known.ready.items():
                if kind != "linear" or at != offset or ready.scheme is not scheme or len(shape) != 2:
                    continue
                values: Array = ready.prepared.values
                if (size, step) == (shape, stride):
                    return values
                if (size[::-1], step[::-1]) == (shape, stride):
                    return values.T
        array = to_floats(tensor)
        if array.ndim == 2:  # multiplied by nothing in the forward pass: made ready as it is
            result: Array = scheme.forward.prepare(array, name=layer).values
            return result
        return array
