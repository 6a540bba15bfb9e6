"""sparsify and sparsity_mask: what they take, and what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _compression as compression
from lowprec import _sparse_parts
from lowprec._checks import Array, fmt_of
from lowprec._observer import finite, integer
from lowprec._patterns import SparsityPattern, hardware_pattern, pattern_of
from lowprec.arrays import QuantizedArray
from lowprec.blocks import is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.codec import cast
from lowprec.formats import FloatFormat, stored_format
from lowprec.pruning._choosing import FOURS, Choice, choice_of, mask_for
from lowprec.pruning._fast import compressed_by_magnitude
from lowprec.pruning._moments import moments
from lowprec.pruning._sparsegpt import Work, compensated
from lowprec.pruning.masks import numbers_of
from lowprec.quantizers._settings import share
from lowprec.quantizers.api import quantize
from lowprec.sparse_arrays import Sparse24, assembled, compressed


def sparsify(
    w: ArrayLike | QuantizedArray,
    pattern: str | SparsityPattern = "2:4",
    *,
    axis: int = -1,
    criterion: Any = "magnitude",
    mask: ArrayLike | None = None,
    activations: Any = None,
    hessian: ArrayLike | None = None,
    transposable: str | None = None,
    dtype: Any = None,
    damp: float = 0.01,
    columns: int = 128,
    progress: bool = False,
) -> Sparse24:
    """Keep two of every four weights, those that a criterion says, and drop the others.

    Parameters
    ----------
    w : array_like or QuantizedArray
        Weights, of any dtype that stores a format. Of a `QuantizedArray` the numbers are ranked and the codes kept.
    pattern : {"2:4", "1:2", "4:8"} or SparsityPattern
        How many of each group are kept along `axis`; "4:8" keeps two of four pairs.
    axis : int
        The axis along which products sum: the last of a weight (outputs, inputs).
    criterion : {"magnitude", "wanda", "sparsegpt"} or array_like
        What is kept of a group: the largest by magnitude; by Wanda's score; what SparseGPT keeps, which also changes
        the weights that are kept, so that they make up for what is dropped; or the largest of scores of your own, an
        array of the shape of `w`.
    mask : array_like of bool, optional
        What is kept, of the shape of `w`; fewer of a group than `pattern` keeps are allowed. The weights are not ranked
        then, but with ``criterion="sparsegpt"`` those that are kept make up for the others.
    activations : array_like or iterable of array_like, optional
        For Wanda and SparseGPT: what goes into the layer, shape (..., K) with K the length of `axis`; or batches of it,
        a list of arrays or anything that yields them, which are seen once and not kept.
    hessian : array_like, optional
        In their place, what they come to: any positive multiple of ``x.T @ x``, shape (K, K), or for Wanda of its
        diagonal, shape (K,).
    transposable : {"greedy", "best"}, optional
        Keep two of four along both of the last two axes, in tiles of four by four, for weights whose transpose is used
        too; "2:4" only.
    dtype : str, FloatFormat, IntFormat, CodebookFormat, BlockFormat or dtype, optional
        What the kept values are turned into: by `cast` for a float format, else by `quantize` with its defaults.
    damp : float
        For SparseGPT: what is added to the diagonal of the Hessian, as a share of its mean, from 0 to 1.
    columns : int
        For SparseGPT: after how many columns the error is spread over all later ones at once; for speed, as in `gptq`.
    progress : bool
        For SparseGPT: whether a progress bar is shown if it takes more than a second; needs tqdm.

    Returns
    -------
    Sparse24
        Of the shape and the dtype of `w`, if `dtype` does not say otherwise. If K is no multiple of the group, the last
        group is padded with zeros, which come after all elements.

    Raises
    ------
    ImportError
        If scipy, for SparseGPT, or tqdm with `progress`, is missing.
    TypeError
        If an argument is of the wrong kind or dtype, such as integer weights for SparseGPT.
    ValueError
        If `w` holds NaN, under any criterion and with a mask, or infinities where they would be multiplied or added
        (Wanda, SparseGPT, `transposable`); the first is named. If `mask` keeps too much of a group; the first is named.
        If a word is unknown, shapes do not fit, arguments contradict each other, activations are missing, not finite or
        none, or the Hessian is singular (``damp=0`` and too few tokens).

    Notes
    -----
    Ties: of equal scores the lowest index is kept. Magnitudes are compared exactly, in any dtype: 0 and -0 are equal,
    infinities are larger than all numbers. With ``scores`` of elements s[i], "4:8" keeps the pairs with the largest sum
    s[2 i] + s[2 i + 1] in float64.

    Wanda: ``abs(w[i, j]) * sqrt(sum(x[:, j]**2))`` in float64; inputs lie along `axis`, all else is an output.

    SparseGPT, of two axes: H = ``x.T @ x`` + `damp` * its mean diagonal, in float64, and U upper triangular with
    ``inverse(H) = U.T @ U``. Columns j are gone through in order. At the first of a group, its w[:, j]**2 / U[j, j]**2
    are ranked; for each column then e = (what is dropped) / U[j, j] and w[:, j+1:] -= e U[j, j+1:]. An input that is 0
    in all of `activations` has score 0. The results are rounded to the dtype of `w`, or to `dtype`, once. As with
    `gptq`, sums over tokens are BLAS', whose rounding may differ with the number of its threads.

    ``transposable="best"`` takes the one of the 90 patterns of a tile with the largest sum of scores, the first in
    lexicographic order of equals. "greedy" takes the largest first and skips those whose row or column has two already;
    it may end with fewer than eight.

    References
    ----------
    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (2023), section 3, arXiv:2306.11695.
    Frantar and Alistarh, "SparseGPT" (2023), algorithm 1, arXiv:2301.00774.
    Pool and Yu, "Channel Permutations for N:M Sparsity" (2021); NVIDIA apex, apex/contrib/sparsity/sparse_masklib.py.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w = np.float32([[0.1, -3, 2, 1, 5, 5, 5, 0]])
    >>> lp.sparsify(w).to_dense()
    array([[ 0., -3.,  2.,  0.,  5.,  5.,  0.,  0.]], dtype=float32)
    >>> lp.sparsify(w, dtype="bf16")
    Sparse24(shape=(1, 8), format='bfloat16', pattern='2:4', axis=1, recipe='magnitude')
    >>> x = np.float32([[100, 1, 1, 1, 1, 1, 1, 1]])
    >>> lp.sparsify(w, criterion="wanda", activations=x).indices
    array([[0, 1, 0, 1]], dtype=uint8)
    """
    how = choice_of(w, hardware_pattern(pattern), axis, criterion, activations, hessian, transposable)
    if mask is not None and how.criterion == "wanda":
        msg = '`mask` must be left out with criterion="wanda", whose scores would not be used.'
        raise ValueError(msg)
    if mask is not None and (how.scores is not None or how.tiles is not None):
        msg = "`mask` must be left out with scores in `criterion` or with `transposable`, which would not be used."
        raise ValueError(msg)
    dense = _sparse_parts.elements_of(w, "w")
    if how.criterion == "sparsegpt":
        work = Work(how.pattern, how.tiles, share(damp, "damp"), integer(columns, "columns"), progress)
        if work.columns < 1:
            msg = f"`columns` must be 1 or more, got {columns}."
            raise ValueError(msg)
        return _by_sparsegpt(dense, how, work, mask, dtype)
    made: Sparse24
    if mask is not None:
        numbers_of(dense, "w")  # which refuses NaN
        made = _masked(dense, mask, how, "mask")
    elif how.criterion == "magnitude" and how.pattern == FOURS and how.tiles is None and isinstance(dense, np.ndarray):
        made = compressed_by_magnitude(dense, how.axis, how.criterion)
    else:
        made = _kept(dense, mask_for(dense, how), how)
    return made if dtype is None else _turned(made, dtype)


def sparsity_mask(
    w: ArrayLike | QuantizedArray,
    pattern: str | SparsityPattern = "2:4",
    *,
    axis: int = -1,
    criterion: Any = "magnitude",
    activations: Any = None,
    hessian: ArrayLike | None = None,
    transposable: str | None = None,
) -> Array:
    """Say which weights are kept, for any pattern n:m.

    Parameters
    ----------
    w, axis, activations, hessian, transposable
        As in `lowprec.sparsify`; `w` may be of any real dtype.
    pattern : str or SparsityPattern
        ``"n:m"`` keeps the n largest of every m.
    criterion : {"magnitude", "wanda"} or array_like
        As in `lowprec.sparsify`. SparseGPT changes the weights that it keeps, so there is no mask without them.

    Returns
    -------
    ndarray of bool
        Of the shape of `w`; what `sparsify` keeps. Exactly n of every group, and the lesser of n and what there is of a
        shorter last group; with "4:8" two pairs, the last of which may be one element. `transposable` may keep fewer:
        "greedy" anywhere, "best" in tiles that reach beyond the array.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or dtype.
    ValueError
        As `lowprec.sparsify`, and for ``criterion="sparsegpt"``.

    Notes
    -----
    Ties and the order of magnitudes are those of `lowprec.sparsify`.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.sparsity_mask([3, -4, 4, 1, 0, 0], "1:3")
    array([False,  True, False,  True, False, False])
    """
    if isinstance(criterion, str) and criterion == "sparsegpt":
        msg = (
            '`criterion` must not be "sparsegpt", which changes the weights that it keeps; take '
            'lp.sparsify(w, criterion="sparsegpt", ...) and its .mask.'
        )
        raise ValueError(msg)
    how = choice_of(w, pattern_of(pattern), axis, criterion, activations, hessian, transposable)
    return mask_for(w, how)


def _kept(dense: Array | QuantizedArray, mask: Array, how: Choice) -> Sparse24:
    """Compress what a mask that fits keeps."""
    moved = np.moveaxis(mask, how.axis, -1)
    nibbles = compression.nibbles_of_keep(moved, how.pattern)
    # Tiles may keep fewer of a group, whose code then names a place that is to be zero.
    keep = None if how.tiles is None else mask
    return compressed(dense, nibbles, how.pattern, how.axis, keep=keep, recipe=_recipe(how))


def _masked(dense: Array | QuantizedArray, mask: Any, how: Choice, recipe: str) -> Sparse24:
    """Compress what a user's mask keeps."""
    try:
        made = Sparse24.from_dense(dense, pattern=how.pattern, axis=how.axis, mask=mask)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`x`", "`w`")) from None
    return assembled(made.values, made.nibbles, how.pattern, how.axis, dense.shape[how.axis], recipe)


def _recipe(how: Choice) -> str:
    """Say how an array was made."""
    return how.criterion if how.tiles is None else f"{how.criterion}, transposable {how.tiles}"


def _by_sparsegpt(dense: Array | QuantizedArray, how: Choice, work: Work, mask: Any, dtype: Any) -> Sparse24:
    """Drop weights, and change those that are kept."""
    fmt = None if isinstance(dense, QuantizedArray) else stored_format(dense.dtype)
    if not isinstance(fmt, FloatFormat):
        msg = (
            '`w` must be an array of floats with criterion="sparsegpt", which changes them, got '
            f"{dense if isinstance(dense, QuantizedArray) else dense.dtype}; convert it, and quantise what comes out."
        )
        raise TypeError(msg)
    numbers = finite(dense, "w")
    if numbers.ndim != 2 or not numbers.size:
        msg = f'`w` must have two axes with criterion="sparsegpt", and an element, got shape {numbers.shape}.'
        raise ValueError(msg)
    given = None
    if mask is not None:
        _masked(dense, mask, how, "")  # for its checks
        given = np.asarray(mask).T if how.axis == 0 else np.asarray(mask)
    weight = numbers.T if how.axis == 0 else numbers
    hessian = moments(how.activations, how.hessian, weight.shape[1], how.criterion, full=True)
    kept, keep = compensated(weight, hessian, work, given)
    if how.axis == 0:
        kept, keep = kept.T, keep.T
    plain = dtype is None or _is_float(dtype)
    values = np.asarray(cast(kept, fmt if dtype is None else dtype)) if plain else kept
    made = compressed(
        values, compression.nibbles_of_keep(np.moveaxis(keep, how.axis, -1), how.pattern), how.pattern, how.axis,
        recipe=_recipe(how),
    )  # fmt: skip
    return made if plain else _turned(made, dtype)


def _is_float(dtype: Any) -> bool:
    """Say whether values are cast to a format, not quantised."""
    if is_block_name(dtype) or isinstance(dtype, CodebookFormat):
        return False
    return isinstance(fmt_of(dtype, "dtype"), FloatFormat)


def _turned(made: Sparse24, dtype: Any) -> Sparse24:
    """Return an array with its values in another format."""
    if isinstance(made.values, QuantizedArray):
        msg = f"`dtype` must be left out for a QuantizedArray, whose codes are kept, got {dtype!r}; pass .dequantize()."
        raise ValueError(msg)
    if not _is_float(dtype):
        return quantize(made, dtype)
    return made.with_values(cast(made.values, fmt_of(dtype, "dtype")))
