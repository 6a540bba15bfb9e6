"""The workload ``"smollm2"``: a real language model's perplexity, in any arithmetic."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowprec._fetch import DATASETS, file_hash, locate
from lowprec.kernels import network
from lowprec.nn import Arithmetic
from lowprec.study._base import Metric, Workload, least, most
from lowprec.study._smollm2_model import SmolLM2

_CHARACTERS = 60_000  # of the news text, from its start: 13,034 tokens
_MODEL, _TEXT = (file.name for file in next(each for each in DATASETS if each.name == "smollm2").files)
_VERSION = 1  # of what `evaluate` computes from the same inputs; its sources are in the cache's key besides
_DEFAULTS = ("fp32", "bf16", "e4m3fn", "int8", "nvfp4", "mxfp4")


def smollm2(
    windows: int = 5,
    length: int = 128,
    *,
    text: str | os.PathLike[str] | None = None,
    offset: int = 0,
    skip: Sequence[str] | str = (),
    calibration: int = 16,
    model: str | os.PathLike[str] | None = None,
) -> LanguageModel:
    """Return the workload ``"smollm2"``: SmolLM2-135M-Instruct on windows of news text.

    Parameters
    ----------
    windows : int
        How many windows of text are read; each is a part of the workload.
    length : int
        Tokens of a window.
    text : path, optional
        A text file in UTF-8 to read instead: its tokens are cut into windows from its start.
    offset : int
        Tokens of the text that are left out before the first window.
    skip : sequence of str
        Names of products that stay in fp32, such as ``"output"`` (the head), ``"blk.0.*"``, ``"*.attn_scores"``.
    calibration : int
        How many windows at the end of the text quantisers such as GPTQ may look at; they must not be evaluated.
    model : path, optional
        Another GGUF file of the llama architecture with a byte-level vocabulary.

    Returns
    -------
    LanguageModel
        Nothing is read yet but hashes, which are kept beside the cache: a study whose numbers are cached already takes
        no time.

    Raises
    ------
    TypeError
        If an option is of the wrong kind.
    ValueError
        If a number is out of range, or a file is not what it should be.
    FileNotFoundError
        If model or text are not on this machine; ``lowprec fetch smollm2`` gets them.
    """
    for name, value, low in (
        ("windows", windows, 1), ("length", length, 2), ("offset", offset, 0), ("calibration", calibration, 0),
    ):  # fmt: skip
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
            raise TypeError(msg)
        if value < low:
            msg = f"`{name}` must be {low} or more, got {value}."
            raise ValueError(msg)
    patterns = (skip,) if isinstance(skip, str) else tuple(skip) if isinstance(skip, Iterable) else (skip,)
    if not all(isinstance(pattern, str) for pattern in patterns):
        msg = f"`skip` must be names of products, got {skip!r}."
        raise TypeError(msg)
    weights = locate("smollm2", _MODEL) if model is None else _existing(model, "model")
    words = locate("smollm2", _TEXT) if text is None else _existing(text, "text")
    spans = (int(windows), int(length), int(offset), int(calibration))
    return LanguageModel(weights, words, spans, patterns, own_text=text is not None)


class LanguageModel(Workload):
    """A language model on windows of a text: `smollm2` makes it."""

    name = "smollm2"
    metrics = (
        Metric("perplexity", "perplexity", "", False, ".3f"),
        Metric("loss_increase_nats", "increase of the loss over fp32", "nats", False, "+.5f"),
        Metric("top1_agreement", "top-1 agreement with fp32", "", True, ".1%"),
        Metric("kl_nats", "KL divergence from fp32", "nats", False, ".2e"),
        Metric("sqnr_db", "SQNR of the logits", "dB", True, ".1f"),
    )

    def __init__(
        self, model: Path, text: Path, spans: tuple[int, int, int, int], skip: tuple[str, ...], *, own_text: bool
    ) -> None:
        self.model_path, self.text_path = model, text
        self.windows, self.length, self.offset, self.calibration = spans
        self.skip, self.own_text = skip, own_text
        self.model_hash, self.text_hash = file_hash(model), file_hash(text)
        starts = [self.offset + number * self.length for number in range(self.windows)]
        self.parts = tuple(f"tokens {start} to {start + self.length - 1}" for start in starts)
        self.source = f"{model.name} on {text.name}, {self.windows} windows of {self.length} tokens"

    def fingerprint(self) -> str:
        """Return a hash of the model, the text and the options.

        Returns
        -------
        str
            Hexadecimal digits; neither file is read if it is the one that was hashed before.

        Raises
        ------
        Nothing.
        """
        options = (self.length, self.offset, self.windows, self.calibration, self.skip, self.own_text)
        return hashlib.sha256(repr((_VERSION, self.model_hash, self.text_hash, options)).encode()).hexdigest()

    def default_settings(self) -> tuple[Arithmetic, ...]:
        """Return six formats, from 32 bits to four.

        Returns
        -------
        tuple of Arithmetic
            fp32, bf16, e4m3fn, int8, nvfp4 and mxfp4.

        Raises
        ------
        Nothing.
        """
        return tuple(map(Arithmetic, _DEFAULTS))

    @property
    def language_model(self) -> SmolLM2:
        """The model, read when it is first asked for, once per process."""
        return _model(self.model_path, self.model_hash)

    def tokens(self) -> NDArray[np.int64]:
        """Return the windows that are evaluated.

        Returns
        -------
        ndarray of int64, shape (windows, length)
            Tokens.

        Raises
        ------
        ValueError
            If the text is too short, or no UTF-8.
        """
        found = _tokens(self.model_path, self.model_hash, self.text_path, self.text_hash, self.own_text)
        end = self.offset + self.windows * self.length
        if end > found.size:
            msg = (
                f"`windows` must be at most {max(found.size - self.offset, 0) // self.length} for windows of "
                f"{self.length} tokens from token {self.offset} of {self.text_path.name}, which has {found.size}, got "
                f"{self.windows}."
            )
            raise ValueError(msg)
        return found[self.offset : end].reshape(self.windows, self.length)

    def calibration_tokens(self) -> NDArray[np.int64]:
        """Return the windows at the end of the text that quantisers may look at.

        Returns
        -------
        ndarray of int64, shape (calibration, length)
            Tokens.

        Raises
        ------
        ValueError
            If there are none, or they are also evaluated.
        """
        found = _tokens(self.model_path, self.model_hash, self.text_path, self.text_hash, self.own_text)
        start = found.size - self.calibration * self.length
        if not self.calibration or start < self.offset + self.windows * self.length:
            room = max(found.size - self.offset - self.windows * self.length, 0) // self.length
            msg = (
                f"`calibration` must be from 1 to {room}, windows of the text that are not evaluated, got "
                f"{self.calibration}."
            )
            raise ValueError(msg)
        return found[start:].reshape(self.calibration, self.length)

    def logits(self, arithmetic: Arithmetic, part: int) -> NDArray[np.float32]:
        """Return the logits of one window.

        Parameters
        ----------
        arithmetic : Arithmetic
            How products are computed.
        part : int
            Number of the window.

        Returns
        -------
        ndarray of float32, shape (length, vocabulary)
            The same bits whatever else is computed before or beside it.

        Raises
        ------
        ValueError
            If the text is too short.
        """
        window = self.tokens()[part]
        calibration = self.calibration_tokens() if arithmetic.needs_calibration else None
        return self.language_model.logits(window, arithmetic, skip=self.skip, calibration=calibration)

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return the sums of one window, of its tokens' surprise and of how far its logits are from fp32's.

        Parameters
        ----------
        arithmetic : Arithmetic
            How products are computed.
        part : int
            Number of the window.

        Returns
        -------
        dict
            ``predicted`` tokens, their ``surprise`` in nats, summed, and how much it is above fp32's (``increase``);
            and of all ``positions``: how many agree with fp32's first choice (``agreeing``), the sums of
            ``divergence`` (nats), of the squares of fp32's logits (``signal``) and of the differences' (``noise``).

        Raises
        ------
        ValueError
            If the text is too short.
        """
        window = self.tokens()[part]
        plain = Arithmetic()
        reference = _reference(self.model_path, self.model_hash, window.tobytes())
        logits = reference if arithmetic.key() == plain.key() else self.logits(arithmetic, part)
        rows = np.empty((self.length, 5))
        following = np.append(window[1:], -1)
        network.compare_logits(reference, reference, following, rows)
        usual = math.fsum(_finite(rows)[:, 0])
        network.compare_logits(logits, reference, following, rows)
        surprise, divergence, signal, noise, agreeing = (math.fsum(column) for column in _finite(rows).T)
        return {
            "predicted": self.length - 1,
            "positions": self.length,
            "surprise": surprise,
            "increase": surprise - usual,
            "divergence": divergence,
            "signal": signal,
            "noise": noise,
            "agreeing": int(agreeing),
        }

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the measures of all windows together, with the least and the largest of a single one.

        Parameters
        ----------
        parts : sequence of dict
            What `evaluate` returned.

        Returns
        -------
        dict
            ``perplexity`` is exp of the mean surprise at the tokens after the first of each window.

        Raises
        ------
        Nothing.
        """
        whole = _measures({key: math.fsum(part[key] for part in parts) for key in parts[0]})
        record: dict[str, Any] = dict(whole)
        if len(parts) > 1:
            single = [_measures(part) for part in parts]
            for name in whole:
                values = [each[name] for each in single]
                record |= {f"{name}_low": least(values), f"{name}_high": most(values)}
        record["tokens"] = sum(part["predicted"] for part in parts)
        return record


def _measures(sums: dict[str, Any]) -> dict[str, float]:
    """Return the measures of sums; infinite logits or NaN give NaN."""
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(np.float64(sums["surprise"] / sums["predicted"])))
    signal, noise = sums["signal"], sums["noise"]
    return {
        "perplexity": perplexity,
        "loss_increase_nats": sums["increase"] / sums["predicted"],
        "top1_agreement": sums["agreeing"] / sums["positions"],
        "kl_nats": sums["divergence"] / sums["positions"],
        "sqnr_db": 10 * math.log10(signal / noise) if noise > 0 else math.nan if math.isnan(noise) else math.inf,
    }


def _finite(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows where what is infinite is NaN: sums of both signs have no meaning."""
    return np.where(np.isfinite(rows), rows, np.nan)


def _existing(path: Any, name: str) -> Path:
    """Return the path of a file that is there."""
    if not isinstance(path, (str, os.PathLike)):
        msg = f"`{name}` must be a path, got {path!r} of type {type(path).__name__}."
        raise TypeError(msg)
    found = Path(path).expanduser()
    if not found.is_file():
        msg = f"`{name}` must be a file, got {str(found)!r}, where there is none."
        raise FileNotFoundError(msg)
    return found


@lru_cache(maxsize=1)
def _model(path: Path, sha256: str) -> SmolLM2:
    """Return a model, read once; the hash makes a changed file another model."""
    del sha256
    return SmolLM2(path)


@lru_cache(maxsize=2)
def _tokens(path: Path, sha256: str, text: Path, text_sha256: str, own: bool) -> NDArray[np.int64]:
    """Return the tokens of a text: all of a user's own, the first 60,000 characters of the news."""
    del text_sha256
    data = text.read_bytes()
    try:
        words = data.decode("utf-8") if own else data.decode("latin-1")[:_CHARACTERS]
    except UnicodeDecodeError as error:
        msg = f"`text` must be a file in UTF-8, got {str(text)!r}: {error.reason} at byte {error.start}."
        raise ValueError(msg) from None
    tokens = _model(path, sha256).tokenizer.encode(words)
    tokens.flags.writeable = False
    return tokens


@lru_cache(maxsize=8)
def _reference(path: Path, sha256: str, window: bytes) -> NDArray[np.float32]:
    """Return the logits of a window in fp32."""
    logits = _model(path, sha256).logits(np.frombuffer(window, np.int64))
    logits.flags.writeable = False
    return logits
