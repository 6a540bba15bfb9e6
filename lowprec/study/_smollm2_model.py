"""SmolLM2 in any arithmetic: a language model of the llama architecture, every product of which goes through one."""

from __future__ import annotations

import difflib
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lowprec.formats import FloatFormat
from lowprec.kernels import network
from lowprec.nn import Arithmetic
from lowprec.nn._weights import UNSCALED_BITS
from lowprec.study._smollm2_file import GGUF
from lowprec.study._tokenizer import Tokenizer

Floats = NDArray[np.float32]
# What goes into each matrix of a layer.
INPUTS = {"attn_q": "attn_norm", "attn_k": "attn_norm", "attn_v": "attn_norm", "attn_output": "attn_heads"} | {
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
    "ffn_down": "ffn_hidden",
}
HEAD = "output"
PRETOKENIZER = "smollm"
_SETS = 2  # of prepared weights that are kept: one arithmetic's, and fp32's


class SmolLM2:
    """A model of the llama architecture: RMS norm, rotary positions, grouped queries, a gated MLP, tied embeddings.

    Parameters
    ----------
    path : path
        A GGUF file of that architecture with a byte-level vocabulary, such as what ``lowprec fetch smollm2`` gets.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file, or has what is not computed here: scaled rotary positions, biases, another tokenizer.

    Notes
    -----
    The products of activations and weights (seven in a layer, named ``blk.0.attn_q`` and so on, and the output head,
    ``output``) are `Arithmetic.linear`, those of activations (``blk.0.attn_scores``, ``blk.0.attn_values``)
    `Arithmetic.matmul`, one matrix per head. All between them is computed in float64 from float32 numbers and rounded
    once to float32, in a defined order (`lowprec.kernels.network`). Windows are computed one at a time, unless the
    arithmetic treats every row by itself. So the logits of a window have the same bits alone and among others, for any
    number of threads, and in any process.
    """

    def __init__(self, path: str | Path) -> None:
        self.file = GGUF(Path(path))
        architecture = self.file.field("general.architecture")
        if architecture != "llama" or self.file.field("tokenizer.ggml.model") != "gpt2":
            msg = (
                f"{str(path)!r} must hold a model of the architecture llama with a byte-level vocabulary (gpt2), got "
                f"{architecture} with {self.file.field('tokenizer.ggml.model')}."
            )
            raise ValueError(msg)

        def fact(name: str) -> Any:
            return self.file.field(f"llama.{name}")

        self.layers, self.width = int(fact("block_count")), int(fact("embedding_length"))
        self.heads, self.kv_heads = int(fact("attention.head_count")), int(fact("attention.head_count_kv"))
        self.epsilon = float(fact("attention.layer_norm_rms_epsilon"))
        self.theta = float(fact("rope.freq_base"))
        self.context = int(fact("context_length"))
        self._refuse()
        self.size = self.width // self.heads
        self._weights: dict[str, Floats] = {}
        self._sets: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._lock = threading.RLock()

    def _refuse(self) -> None:
        """Refuse a file that says something that is not computed here, rather than give other numbers."""
        fields, names = self.file.fields, set(self.file.tensors)
        reasons = []
        heads, groups = self.heads, self.kv_heads
        if min(self.layers, heads, groups) < 1 or self.width % (2 * max(heads, 1)) or heads % max(groups, 1):
            reasons.append(f"{self.width} features in {heads} heads, {groups} of keys, in {self.layers} layers")
        for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
            given = fields.get(f"llama.{key}")
            if not reasons and given not in (None, self.width // heads):
                reasons.append(f"llama.{key} {given}")
        if fields.get("llama.rope.scaling.type", "none") != "none":
            reasons.append(f"llama.rope.scaling.type {fields['llama.rope.scaling.type']}")
        if fields.get("tokenizer.ggml.pre", PRETOKENIZER) != PRETOKENIZER:
            reasons.append(f"tokenizer.ggml.pre {fields['tokenizer.ggml.pre']}")
        kinds = {*INPUTS, "attn_norm", "ffn_norm"}
        known = {f"blk.{number}.{kind}.weight" for number in range(self.layers) for kind in kinds}
        more = sorted(names - known - {"token_embd.weight", "output_norm.weight", "output.weight"})
        reasons += [f"the tensor {name}" for name in more[:3]]
        if reasons:
            msg = (
                f"{str(self.file.path)!r} must hold a model as SmolLM2 is, with plain rotary positions over whole "
                f"heads, no biases, and its tokenizer ({PRETOKENIZER}), got one with {', '.join(reasons)}."
            )
            raise ValueError(msg)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        kinds = self.file.field("tokenizer.ggml.token_type")
        special = [number for number, kind in enumerate(kinds) if kind == 3]
        return Tokenizer(self.file.field("tokenizer.ggml.tokens"), self.file.field("tokenizer.ggml.merges"), special)

    # ------------------------------------------------------------------------------------------------------ weights
    def weight(self, name: str) -> Floats:
        """Return the numbers of a tensor, kept for the life of the model.

        Parameters
        ----------
        name : str
            As in the file, such as ``blk.0.attn_q.weight``.

        Returns
        -------
        ndarray of float32, shape (outputs, inputs)
            Read-only.

        Raises
        ------
        ValueError
            If there is no such tensor.
        """
        with self._lock:
            if name not in self._weights:
                self._weights[name] = self.file.numbers(name)
            return self._weights[name]

    def matrices(self) -> tuple[str, ...]:
        """Return the names of all matrices that multiply activations.

        Returns
        -------
        tuple of str
            Layer after layer, the output head last.

        Raises
        ------
        Nothing.
        """
        return (*(f"blk.{number}.{kind}" for number in range(self.layers) for kind in INPUTS), HEAD)

    def matrix(self, name: str) -> Floats:
        """Return the numbers of one of `matrices`.

        Parameters
        ----------
        name : str
            Such as ``blk.0.attn_q``, or ``output``, which is the table of embeddings.

        Returns
        -------
        ndarray of float32, shape (outputs, inputs)
            Read-only.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        if name == HEAD:
            return self.weight("output.weight" if "output.weight" in self.file.tensors else "token_embd.weight")
        return self.weight(f"{name}.weight")

    # ------------------------------------------------------------------------------------------------------ forward
    def logits(
        self,
        tokens: ArrayLike,
        arithmetic: Any = None,
        *,
        skip: Sequence[str] = (),
        calibration: ArrayLike | None = None,
    ) -> Floats:
        """Return the logits of every next token.

        Parameters
        ----------
        tokens : array_like of int, shape (length,) or (windows, length)
            The text. Each window is a text of its own.
        arithmetic : Arithmetic, optional
            How products are computed; by default ``Arithmetic("fp32")``, the defined sum of `lowprec.matmul`.
        skip : sequence of str
            Names of products that stay in fp32; ``*`` and ``?`` stand for any characters, as in ``blk.0.*`` and
            ``*.attn_scores``.
        calibration : array_like of int, shape (windows, length), optional
            Text whose activations (in fp32) tell quantisers such as GPTQ what matters.

        Returns
        -------
        ndarray of float32, shape (..., length, vocabulary)
            One row per token.

        Raises
        ------
        TypeError
            If tokens are no integers.
        ValueError
            If a token is not in the vocabulary, a window is empty or longer than the model's context, `skip` names no
            product, or `calibration` is needed and missing.
        """
        windows = self._checked(tokens, "tokens")
        products = self._products(arithmetic, tuple(skip), calibration)
        rows = windows.reshape(-1, windows.shape[-1])
        if products.apart or len(rows) < 2:
            parts = [self._computed(row[None], products) for row in rows]
        else:
            parts = [self._computed(rows, products)]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(*windows.shape, -1)

    def activations(self, tokens: ArrayLike, name: str, arithmetic: Any = None, *, skip: Sequence[str] = ()) -> Floats:
        """Return what goes into one of `matrices`.

        Parameters
        ----------
        tokens : array_like of int, shape (length,) or (windows, length)
            The text.
        name : str
            Of the matrix, such as ``blk.3.ffn_up``.
        arithmetic, skip
            As in `logits`.

        Returns
        -------
        ndarray of float32, shape (windows * length, inputs)
            One row per token.

        Raises
        ------
        TypeError, ValueError
            As `logits`; and if there is no matrix of that name.
        """
        if name not in self.matrices():
            msg = f"`name` must be one of {', '.join(self.matrices()[:7])}, ..., {HEAD}, got {name!r}."
            raise ValueError(msg)
        windows = self._checked(tokens, "tokens")
        products = self._products(arithmetic, tuple(skip), None)
        seen = Inputs(self, windows, products)
        return seen.of(name)

    def embed(self, windows: NDArray[Any]) -> Floats:
        """Return the embeddings (windows, length, width) of windows of tokens; nothing is rounded here."""
        return np.asarray(self.weight("token_embd.weight")[windows], np.float32)

    def layer(self, number: int, x: Floats, products: Any, seen: dict[str, Floats] | None = None) -> Floats:
        """Return the hidden state (windows, length, width) after one layer, and note what goes into its matrices."""
        many, length, _ = x.shape
        name, shared = f"blk.{number}", self.heads // self.kv_heads

        def into(kind: str, inputs: Floats) -> Floats:
            if seen is not None:
                seen[kind] = inputs.reshape(-1, inputs.shape[-1])
            return inputs

        h = into("attn_norm", self.norm(x, f"{name}.attn_norm.weight"))
        q, k, v = (products.linear(f"{name}.{kind}", h) for kind in ("attn_q", "attn_k", "attn_v"))
        groups = self._turned(q).reshape(many, length, self.kv_heads, shared, self.size).transpose(0, 2, 3, 1, 4)
        keys = self._turned(k).reshape(many, length, self.kv_heads, self.size).transpose(0, 2, 3, 1)
        values = v.reshape(many, length, self.kv_heads, self.size).transpose(0, 2, 1, 3)
        scores = products.matmul(f"{name}.attn_scores", groups, keys[:, :, None])
        scores = np.ascontiguousarray(scores, np.float32)
        shares = np.empty_like(scores)
        network.softmax_causal(
            scores.reshape(-1, length, length), np.float32(math.sqrt(self.size)), shares.reshape(-1, length, length)
        )
        heads = products.matmul(f"{name}.attn_values", shares, values[:, :, None]).transpose(0, 3, 1, 2, 4)
        heads = np.ascontiguousarray(heads, np.float32).reshape(x.shape)
        x = x + products.linear(f"{name}.attn_output", into("attn_heads", heads))
        h = into("ffn_norm", self.norm(x, f"{name}.ffn_norm.weight"))
        gate, up = products.linear(f"{name}.ffn_gate", h), products.linear(f"{name}.ffn_up", h)
        gated = np.empty_like(gate)
        network.silu_gate(gate.reshape(-1), up.reshape(-1), gated.reshape(-1))
        return np.asarray(x + products.linear(f"{name}.ffn_down", into("ffn_hidden", gated)), np.float32)

    def norm(self, x: Floats, name: str) -> Floats:
        """Return rows over their root mean square, times a weight."""
        out = np.empty_like(x)
        network.rms_norm(x.reshape(-1, self.width), self.weight(name), self.epsilon, out.reshape(-1, self.width))
        return out

    def _turned(self, x: Floats) -> Floats:
        """Return (windows, length, features) with interleaved pairs turned (GGUF's order of the rows of Q and K)."""
        out = np.empty_like(x)
        cos, sin = _angles(x.shape[1], self.size, self.theta)
        heads = (-1, x.shape[2] // self.size, self.size)
        network.rotate_pairs(x.reshape(heads), cos, sin, out.reshape(heads))
        return out

    def _computed(self, windows: NDArray[Any], products: Any) -> Floats:
        """Return the logits of windows."""
        x = self.embed(windows)
        for number in range(self.layers):
            x = self.layer(number, x, products)
        return np.asarray(products.linear(HEAD, self.norm(x, "output_norm.weight")), np.float32)

    def _products(self, arithmetic: Any, skip: tuple[str, ...], calibration: ArrayLike | None) -> Products:
        """Return the products of an arithmetic, with the weights that are prepared already."""
        chosen = Arithmetic() if arithmetic is None else arithmetic
        among = [f"blk.{number}.{kind}" for number in range(self.layers) for kind in ("attn_scores", "attn_values")]
        names = (*self.matrices(), *among)
        for pattern in skip:
            if not any(fnmatchcase(name, pattern) for name in names):
                close = difflib.get_close_matches(pattern, names, n=2)
                hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
                msg = (
                    f"`skip` must name products of the model, such as 'output', 'blk.0.*' or '*.attn_scores', got "
                    f"{pattern!r}, which is none{hint}."
                )
                raise ValueError(msg)
        windows = None
        if calibration is not None and chosen.needs_calibration:
            windows = np.atleast_2d(self._checked(calibration, "calibration"))
        key = (chosen.key(), skip, None if windows is None else (windows.shape, windows.tobytes()))
        with self._lock:
            kept = self._sets.pop(key, {})
            self._sets[key] = kept
            while len(self._sets) > _SETS:
                self._sets.popitem(last=False)
        return Products(self, chosen, skip, windows, kept)

    def _checked(self, tokens: ArrayLike, name: str) -> NDArray[Any]:
        """Return windows of tokens, or say what is wrong with them."""
        windows = np.asarray(tokens)
        if windows.dtype.kind not in "iu":
            msg = f"`{name}` must be integers, got dtype {windows.dtype}."
            raise TypeError(msg)
        if windows.ndim not in (1, 2) or not 0 < windows.shape[-1] <= self.context:
            msg = (
                f"`{name}` must have shape (length,) or (windows, length) with a length of 1 to {self.context}, got "
                f"{windows.shape}."
            )
            raise ValueError(msg)
        most = len(self.tokenizer.words) - 1
        if windows.size and not (windows.min() >= 0 and windows.max() <= most):
            msg = f"`{name}` must be from 0 to {most}, got {windows.min()} to {windows.max()}."
            raise ValueError(msg)
        return windows


class Products:
    """The products of a model in one arithmetic: weights are prepared when they are first asked for."""

    def __init__(
        self,
        model: SmolLM2,
        arithmetic: Any,
        skip: tuple[str, ...] = (),
        windows: NDArray[Any] | None = None,
        kept: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.arithmetic, self.skip = model, arithmetic, skip
        self._prepared: dict[str, Any] = {} if kept is None else kept
        self._plain = Arithmetic()
        self._inputs = None if windows is None else Inputs(model, windows, Products(model, self._plain))
        self._lock = model._lock

    @property
    def apart(self) -> bool:
        """Whether one window's numbers could depend on another's: through a scale per tensor, or random bits."""
        found = self.arithmetic
        if not isinstance(found, Arithmetic):
            return False
        plain = all(isinstance(fmt, FloatFormat) and fmt.bits >= UNSCALED_BITS for fmt in found.formats)
        random = "stochastic" in f"{found.rounding} {found.accumulator!r}"
        return not plain or random or found.activations is not None or self.arithmetic.candidate.preset is not None

    def _skips(self, name: str) -> bool:
        """Say whether a product stays in fp32."""
        return any(fnmatchcase(name, pattern) for pattern in self.skip)

    def linear(self, name: str, x: Floats) -> Floats:
        """Return the product of activations and one of the model's matrices."""
        arithmetic = self._plain if self._skips(name) else self.arithmetic
        with self._lock:
            if name not in self._prepared:
                inputs = self._inputs
                given = None if inputs is None else lambda: inputs.of(name)
                self._prepared[name] = arithmetic.prepare(self.model.matrix(name), given, name)
            ready = self._prepared[name]
        return np.asarray(arithmetic.linear(x, ready), np.float32)

    def matmul(self, name: str, a: Floats, b: Floats) -> Floats:
        """Return the product of two tensors of activations."""
        arithmetic = self._plain if self._skips(name) else self.arithmetic
        return np.asarray(arithmetic.matmul(a, b), np.float32)


class Inputs:
    """What goes into the matrices of a model on some windows, one layer at a time: only one layer's are kept."""

    def __init__(self, model: SmolLM2, windows: NDArray[Any], products: Any) -> None:
        self.model, self.products = model, products
        self.windows = windows.reshape(-1, windows.shape[-1])
        self._start()

    def _start(self) -> None:
        """Go back to the embeddings."""
        self._next = 0  # the layer whose input `_states` is
        self._states = [self.model.embed(window[None]) for window in self.windows]
        self._seen: dict[str, Floats] = {}

    def of(self, name: str) -> Floats:
        """Return what goes into a matrix, shape (tokens, inputs)."""
        model = self.model
        last = name == HEAD
        number = model.layers if last else int(name.split(".")[1])
        if number < self._next - 1:
            self._start()
        while self._next < model.layers and self._next <= number:
            notes: list[dict[str, Floats]] = [{} for _ in self._states]
            pairs = zip(self._states, notes, strict=True)
            self._states = [model.layer(self._next, x, self.products, note) for x, note in pairs]
            self._seen = {kind: np.concatenate([note[kind] for note in notes]) for kind in notes[0]}
            self._next += 1
        if last:
            done = [model.norm(x, "output_norm.weight") for x in self._states]
            return np.concatenate(done).reshape(-1, model.width)
        return self._seen[INPUTS[name.split(".")[2]]]


@lru_cache(maxsize=8)
def _angles(length: int, size: int, theta: float) -> tuple[Floats, Floats]:
    """Return cosines and sines of the positions' angles, shape (length, size / 2), by the C library's functions."""
    steps = [theta ** (-2 * j / size) for j in range(size // 2)]
    tables = [
        np.array([[turn(position * step) for step in steps] for position in range(length)], np.float32)
        for turn in (math.cos, math.sin)
    ]
    for table in tables:
        table.flags.writeable = False
    return tables[0], tables[1]
