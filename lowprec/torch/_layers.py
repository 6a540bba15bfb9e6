"""Which layer is running, in the forward pass and in the backward pass."""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import Any, NamedTuple

import torch
from torch.nn.modules import module as hooks

OUTSIDE = "(outside)"
MODEL = "(model)"
_KEPT = 1 << 20  # places in the order of autograd's nodes


class _Running(NamedTuple):
    """A module that is running."""

    module: Any
    name: str
    task: int  # the backward pass in which it was called, -1 for none


class Place(NamedTuple):
    """Where a product belongs."""

    layer: str
    backward: bool


class Layers:
    """Follow the modules of a model as they are called, by torch's global hooks.

    Autograd numbers its nodes in the order in which they are made; whatever is made while a layer runs is the layer's,
    so the number of a node tells its layer when its gradient is computed.
    """

    def __init__(self) -> None:
        self._running: list[_Running] = []
        self._names: dict[int, str] = {}
        self._starts: list[int] = []
        self._layers: list[str] = []
        self._handles: list[Any] = []
        self._thread = 0
        self.compiled: dict[str, None] = {}
        self.scripted: dict[str, None] = {}
        self.forced: Place | None = None

    def start(self) -> None:
        """Register the hooks; modules that run in other threads are not followed."""
        self._thread = threading.get_ident()
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        ]

    def stop(self) -> None:
        """Remove the hooks, and forget what was running."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._running.clear()
        self._names.clear()

    def _mark(self, layer: str) -> None:
        """Note that nodes of autograd from here on belong to a layer."""
        number = torch._C._autograd._get_sequence_nr()
        if self._starts and self._starts[-1] == number:
            self._layers[-1] = layer
            return
        if self._starts and self._starts[-1] > number:  # another thread's numbers
            self._starts.clear()
            self._layers.clear()
        self._starts.append(number)
        self._layers.append(layer)
        if len(self._starts) > _KEPT:
            del self._starts[: _KEPT // 2], self._layers[: _KEPT // 2]

    def _enter(self, module: Any, inputs: Any) -> None:
        """Take note that a module starts."""
        if threading.get_ident() != self._thread:
            return
        task = torch._C._current_graph_task_id()
        if not self._running and task == -1:
            self._names = {}
            for name, each in module.named_modules(remove_duplicate=True):
                clean = name.replace("_orig_mod.", "").removesuffix("_orig_mod").removesuffix(".")
                self._names[id(each)] = clean or MODEL
        above = self._running[-1].name if self._running else OUTSIDE
        name = self._names.get(id(module), above)
        if type(module).__name__ == "OptimizedModule":
            self.compiled[name] = None
        if isinstance(module, torch.jit.ScriptModule):
            self.scripted[name] = None
        self._running.append(_Running(module, name, task))
        self._mark(name)

    def _leave(self, module: Any, inputs: Any, output: Any) -> None:
        """Take note that a module ends, whether it returned or raised."""
        if threading.get_ident() != self._thread:
            return
        while self._running:
            if self._running.pop().module is module:
                break
        self._mark(self._running[-1].name if self._running else OUTSIDE)

    def place(self) -> Place:
        """Return which layer is running, and in which direction."""
        if self.forced is not None:
            return self.forced
        task = torch._C._current_graph_task_id()
        top = self._running[-1] if self._running else None
        if task == -1 or (top is not None and top.task == task):
            return Place(top.name if top is not None else OUTSIDE, backward=False)
        node = torch._C._current_autograd_node()
        number = node._sequence_nr() if node is not None else -1
        at = bisect_right(self._starts, number) - 1
        return Place(self._layers[at] if at >= 0 else OUTSIDE, backward=True)
