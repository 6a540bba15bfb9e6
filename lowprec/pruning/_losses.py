"""What a weight loses in each way to make it sparse, and what it then takes to store: the numbers of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import numpy as np

from lowprec._checks import Array, fmt_of
from lowprec._patterns import SparsityPattern
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.pruning.api import sparsify, sparsity_mask
from lowprec.pruning.permutation import ChannelPermutation, search_permutation

CRITERIA = ("magnitude", "wanda", "sparsegpt")
_NIBBLE = 4  # bits that say which elements of a group are kept


class Loss(TypedDict):
    """What is left of a weight that was made sparse in one way.

    `kept_magnitude` is the part of the sum of ``abs(w)`` whose places are kept, `density` that of the elements;
    `output_error` is ``sum((x @ (w - sparse).T)**2) / sum((x @ w.T)**2)``, None without activations; `finished` is
    False if a time limit ended the search for a permutation.
    """

    method: str
    pattern: str
    criterion: str
    permuted: bool
    density: float
    kept_magnitude: float
    output_error: float | None
    finished: bool


class Storage(TypedDict):
    """What a weight takes in one format: bits per element of the dense weight, scales included, and bytes."""

    format: str
    pattern: str
    scale_bits: float
    dense_bits: float
    sparse_bits: float
    dense_bytes: int
    sparse_bytes: int
    ratio: float


class Way(NamedTuple):
    """One way: its name, and a mask with the weight that it leaves."""

    name: str
    pattern: str
    criterion: str
    permuted: bool
    mask: Array
    sparse: Array
    finished: bool = True


def unstructured(scores: Array) -> Array:
    """Return the mask of the larger half of all scores, the first of equals; one more of an odd number."""
    flat = scores.reshape(-1)
    count = flat.size - flat.size // 2
    least = np.partition(flat, flat.size - count)[flat.size - count]
    mask = flat > least
    equal = np.flatnonzero(flat == least)
    mask[equal[: count - int(mask.sum())]] = True
    return np.asarray(mask.reshape(scores.shape))


def ways(w: Array, hessian: Array | None, criteria: tuple[str, ...], limit: float) -> Iterator[Way]:
    """Yield all ways, for a weight (outputs, inputs); `limit`: seconds for each search of an order, 0 for none."""
    scores = np.abs(w.astype(np.float64))

    def masked(name: str, pattern: str, mask: Array, criterion: str = "magnitude") -> Way:
        return Way(name, pattern, criterion, False, mask, np.where(mask, w, 0))

    def found(s: Array) -> ChannelPermutation:
        return search_permutation(w, scores=s, method="exhaustive", time_limit=limit)

    def permuted(name: str, s: Array, criterion: str, order: ChannelPermutation) -> Way:
        mask = in_order(s, order)
        return Way(f"{name}, channels permuted", "2:4", criterion, True, mask, np.where(mask, w, 0), order.finished)

    if "magnitude" in criteria:
        yield masked("unstructured 50 %", "", unstructured(scores))
        yield masked("2:4", "2:4", sparsity_mask(w))
        if limit != 0:
            yield permuted("2:4", scores, "magnitude", found(scores))
        yield masked("1:2", "1:2", sparsity_mask(w, "1:2"))
        yield masked("4:8 in pairs", "4:8", sparsity_mask(w, "4:8"))
        for how in ("best", "greedy"):
            yield masked(f"2:4 along both axes, {how}", "2:4", sparsity_mask(w, transposable=how))
    if hessian is None:
        return
    s = scores * np.sqrt(np.diag(hessian))
    order = found(s) if limit != 0 and not {"wanda", "sparsegpt"}.isdisjoint(criteria) else None
    if "wanda" in criteria:
        yield masked("2:4 by Wanda", "2:4", sparsity_mask(w, criterion=s), "wanda")
        if order is not None:
            yield permuted("2:4 by Wanda", s, "wanda", order)
    if "sparsegpt" in criteria:
        name = "2:4 by SparseGPT"
        made = sparsify(w, criterion="sparsegpt", hessian=hessian)
        yield Way(name, "2:4", "sparsegpt", False, made.mask, np.asarray(made.to_dense()))
        if order is not None:
            there = order.apply(order.apply(hessian), axis=0)
            made = sparsify(order.apply(w), criterion="sparsegpt", hessian=there)
            back = order.apply_inverse(made.mask), order.apply_inverse(np.asarray(made.to_dense()))
            yield Way(f"{name}, channels permuted", "2:4", "sparsegpt", True, *back, order.finished)


def in_order(scores: Array, found: ChannelPermutation) -> Array:
    """Return the mask of 2:4 with channels in an order, put back into theirs."""
    return found.apply_inverse(sparsity_mask(np.zeros(scores.shape), criterion=found.apply(scores)))


def loss(way: Way, w: Array, hessian: Array | None) -> Loss:
    """Return what a way leaves of a weight."""
    magnitude = np.abs(w.astype(np.float64))
    total = float(magnitude.sum())
    return Loss(
        method=way.name,
        pattern=way.pattern,
        criterion=way.criterion,
        permuted=way.permuted,
        density=float(np.count_nonzero(way.mask)) / w.size,
        kept_magnitude=float(magnitude[way.mask].sum()) / total if total else 1.0,
        output_error=None if hessian is None else relative(w, way.sparse, hessian),
        finished=way.finished,
    )


def relative(w: Array, sparse: Array, hessian: Array) -> float:
    """Return the squared error of the outputs, as a share of their squares: 0 if both are 0."""

    def squares(x: Array) -> float:
        return max(0.0, float(np.einsum("ij,ij->", x @ hessian, x)))  # below 0 by rounding only

    wide = w.astype(np.float64)
    wrong, right = squares(wide - sparse.astype(np.float64)), squares(wide)
    return wrong / right if right else (np.inf if wrong else 0.0)


def storage(fmt: Any, shape: tuple[int, int]) -> Iterator[Storage]:
    """Yield what a weight (outputs, inputs) takes in a format: in 2:4, and in the pattern that hardware has for it."""
    name, bits, scale_bits, block, table = _facts(fmt)
    rows, length = shape
    scales = -(-rows * -(-length // block) * int(scale_bits * block) // 8) if block else 0
    for pattern in _patterns(0 if table else bits):
        groups = rows * -(-length // pattern.group)
        dense = -(-rows * length * bits // 8) + scales
        sparse = -(-groups * pattern.kept * bits // 8) + -(-groups * _NIBBLE // 8) + scales
        yield Storage(
            format=name,
            pattern=str(pattern),
            scale_bits=scale_bits,
            dense_bits=bits + scale_bits,
            sparse_bits=(pattern.kept * bits + _NIBBLE) / pattern.group + scale_bits,
            dense_bytes=dense,
            sparse_bytes=sparse,
            ratio=sparse / dense,
        )


def _facts(fmt: Any) -> tuple[str, int, float, int, bool]:
    """Return a format's name, bits of an element and of scales per element, elements of a block, whether a table."""
    if is_block_name(fmt):
        made = block_format(fmt)
        table = isinstance(made.element, CodebookFormat)
        return made.name, made.element.bits, made.bits - made.element.bits, made.block_size, table
    found = fmt if isinstance(fmt, CodebookFormat) else fmt_of(fmt, "formats")
    return found.name, found.bits, 0.0, 0, isinstance(fmt, CodebookFormat)


def _patterns(bits: int) -> list[SparsityPattern]:
    """Return 2:4, and what sparse tensor cores have in its place for elements of so many bits."""
    there = {32: [SparsityPattern(1, 2)], 4: [SparsityPattern(4, 8, 2)]}
    return [SparsityPattern(2, 4), *there.get(bits, [])]
