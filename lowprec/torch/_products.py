"""Products of tensors in the emulation: roles of operands, then one call of an Arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lowprec._checks import Array
from lowprec.matmul import linear, matmul
from lowprec.nn import Arithmetic
from lowprec.nn._convolution import Plain, pair_product
from lowprec.torch._arrays import to_array, to_floats
from lowprec.torch._layers import Place
from lowprec.torch._schemes import Role, Scheme
from lowprec.torch._weights import Weights

_GOLDEN = 0x9E3779B97F4A7C15  # spreads the seeds of products that follow each other


class Products:
    """What multiplies, and what it has to remember between products."""

    def __init__(self) -> None:
        self.weights = Weights()
        self._drawn = 0

    # --------------------------------------------------------------------------------------------------- randomness
    def _seed(self, seed: int) -> int:
        """Return another seed for every product."""
        self._drawn += 1
        return (seed + self._drawn * _GOLDEN) % 2**63

    def drawing(self, how: Arithmetic, scheme: Scheme) -> Arithmetic:
        """Return an arithmetic that draws other random numbers than any before, if it draws any."""
        return how.with_(seed=self._seed(how.seed)) if scheme.stochastic else how

    def _plain(self, a: Array, b: Array, simple: Plain, formats: tuple[Any, Any], scheme: Scheme, bias: Any) -> Array:
        """Return a product that only rounds and sums."""
        seed = self._seed(simple.seed) if scheme.stochastic else simple.seed
        how = {"accumulator": simple.accumulator, "rounding": simple.rounding, "rng": seed}
        if bias is None:
            return np.asarray(matmul(a, b, formats, **how))
        return np.asarray(linear(a, b.T, bias, formats, **how))

    # ------------------------------------------------------------------------------------------------------- forward
    def forward(
        self, a: torch.Tensor, b: torch.Tensor, scheme: Scheme, place: Place, bias: torch.Tensor | None = None
    ) -> Array:
        """Return ``a @ b + bias`` as the forward pass has it.

        The bias is one for each column, of two matrices alone.
        """
        roles = [self._forward_role(each, scheme) for each in (a, b)]
        added = None if bias is None else to_array(bias)
        simple = scheme.plain
        if simple is not None:
            own = {"activation": simple.dtype[0], "weight": simple.dtype[1]}
            formats = (own[roles[0]], own[roles[1]])
            return self._plain(to_array(a), to_array(b), simple, formats, scheme, added)
        if roles == ["activation", "activation"]:
            self._remember(a, b, scheme)
            result = self.drawing(scheme.forward, scheme).matmul(to_floats(a), to_floats(b))
        elif roles == ["activation", "weight"]:
            self._remember(a, None, scheme)
            return self._batched(a, b, scheme, place, added)
        elif roles == ["weight", "activation"]:
            self._remember(None, b, scheme)
            result = self._batched(b.mT, a.mT, scheme, place, None).swapaxes(-1, -2)
        else:
            one, other = (self._stored(each, scheme, place) for each in (a, b))
            result = pair_product(self.drawing(scheme.of("weight", "weight", False), scheme), one, other)
        return result if added is None else result + added.astype(result.dtype)

    def _forward_role(self, tensor: torch.Tensor, scheme: Scheme) -> str:
        """Return whether an operand is a weight; if not, take note that it is an activation."""
        role = self.weights.role(tensor)
        if role is None:
            self.weights.register(tensor, "activation")
        return "weight" if role == "weight" else "activation"

    def _remember(self, a: torch.Tensor | None, b: torch.Tensor | None, scheme: Scheme) -> None:
        """Note how activations lie, if that matters to what is done to them."""
        if scheme.forward.activations is not None:
            for tensor in (a, None if b is None else b.mT):
                if tensor is not None:
                    self.weights.remember(tensor, scheme)

    def _batched(self, x: torch.Tensor, w: torch.Tensor, scheme: Scheme, place: Place, bias: Any) -> Array:
        """Return ``x @ w`` of activations and a weight, or of batches of them."""
        if x.ndim == w.ndim == 2:
            return self._linear(x, w.mT, scheme, place, bias)
        found = [self._linear(one, each.mT, scheme, place, None) for one, each in zip(x, w, strict=True)]
        if not found:
            return np.zeros((0, x.shape[-2], w.shape[-1]), np.float32)
        return np.stack(found)

    def _linear(self, x: torch.Tensor, w: torch.Tensor, scheme: Scheme, place: Place, bias: Any) -> Array:
        """Return ``x @ w.T + bias`` with a weight (N, K) that is made ready once."""
        rows = to_floats(x)
        how = self.drawing(scheme.forward, scheme)
        if scheme.stochastic and not scheme.stores:
            return how.linear(rows, how.prepare(to_floats(w), name=place.layer), bias)

        def make() -> Any:
            return scheme.forward.prepare(to_floats(w), lambda: rows, name=place.layer)

        return how.linear(rows, self.weights.prepared(w, scheme, "linear", make), bias)

    def _stored(self, w: torch.Tensor, scheme: Scheme, place: Place) -> Array:
        """Return the numbers of a weight as they come back from storage."""
        if not scheme.stores:
            return to_floats(w)
        if w.ndim == 2:
            return self.weights.stored(w, scheme, place.layer)
        return np.stack([self.weights.stored(each, scheme, place.layer) for each in w])

    # ------------------------------------------------------------------------------------------------------ backward
    def backward(self, a: torch.Tensor, b: torch.Tensor, scheme: Scheme, place: Place) -> Array:
        """Return ``a @ b`` as the backward pass has it."""
        roles = self._backward_roles(a, b)
        other = roles[1] if roles[0] == "gradient" else roles[0]
        result = "weight" if other == "activation" and a.ndim == 2 else "input"
        how, simple = scheme.ways(roles[0], roles[1], True, result)
        does = scheme.stores or scheme.forward.activations is not None
        arrays = [
            self._saved(each, role, scheme, place) if does else to_array(each)
            for each, role in zip((a, b), roles, strict=True)
        ]
        if simple is not None:
            return self._plain(arrays[0], arrays[1], simple, simple.dtype, scheme, None)
        arrays = [x if x.dtype in (np.float32, np.float64) else x.astype(np.float32) for x in arrays]
        return pair_product(self.drawing(how, scheme), arrays[0], arrays[1])

    def _backward_roles(self, a: torch.Tensor, b: torch.Tensor) -> tuple[Role, Role]:
        """Return what is a weight, what an operand of the forward pass, and what a gradient: at least one is."""
        one, other = (self.weights.role(each) or "gradient" for each in (a, b))
        if "gradient" not in (one, other):  # a gradient that shares its memory with an operand
            one = "gradient" if one == "activation" else one
            other = "gradient" if other == "activation" else other
        return one, other

    def _saved(self, tensor: torch.Tensor, role: Role, scheme: Scheme, place: Place) -> Array:
        """Return an operand as the forward pass multiplied it: weights from storage, activations rounded."""
        if role == "weight":
            return self._stored(tensor, scheme, place)
        array = to_floats(tensor)
        rule = scheme.forward.activations
        if role == "gradient" or rule is None:
            return array
        if self.weights.is_turned(tensor):
            return rule.rounded(np.ascontiguousarray(array.swapaxes(-1, -2))).swapaxes(-1, -2)
        return rule.rounded(array)
