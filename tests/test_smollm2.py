"""The language model: a toy of it against a slow twin, to the bit; the real one against its known numbers."""

from __future__ import annotations

import pickle
import random
import struct
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smollm

import lowprec as lp
from lowprec.kernels import network
from lowprec.nn import Arithmetic
from lowprec.study import workload
from lowprec.study._smollm2_file import GGUF
from lowprec.study._smollm2_model import Inputs, Products, SmolLM2
from lowprec.study._tokenizer import Tokenizer, byte_letters

LAYERS, WIDTH, HEADS, GROUPS, HIDDEN = 2, 64, 4, 2, 96
SIZE = WIDTH // HEADS
EPSILON, THETA = 1e-5, 1e4
MERGES = ["t h", "th e", "Ġ the", "a n"]
WORDS = ["<|end|>", *byte_letters(), "th", "the", "Ġthe", "an"]


def field(name: str, value: Any) -> bytes:
    """Return a field of a GGUF file."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word.encode())) + word.encode()

    head = text(name)
    if isinstance(value, str):
        return head + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return head + struct.pack("<If", 6, value)
    if isinstance(value, int):
        return head + struct.pack("<II", 4, value)
    if isinstance(value[0], int):
        return head + struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    return head + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))


def toy(path: Path, **changes: Any) -> Path:
    """Write a model of two layers with random weights."""
    fields: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.embedding_length": WIDTH,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": GROUPS,
        "llama.attention.layer_norm_rms_epsilon": EPSILON,
        "llama.rope.freq_base": THETA,
        "llama.context_length": 64,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [3, *[1] * (len(WORDS) - 1)],
    } | changes
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(WORDS), WIDTH), "output_norm.weight": (WIDTH,)}
    kv = GROUPS * SIZE
    for layer in range(LAYERS):
        for kind, shape in (
            ("attn_norm", (WIDTH,)), ("attn_q", (WIDTH, WIDTH)), ("attn_k", (kv, WIDTH)), ("attn_v", (kv, WIDTH)),
            ("attn_output", (WIDTH, WIDTH)), ("ffn_norm", (WIDTH,)), ("ffn_gate", (HIDDEN, WIDTH)),
            ("ffn_up", (HIDDEN, WIDTH)), ("ffn_down", (WIDTH, HIDDEN)),
        ):  # fmt: skip
            shapes[f"blk.{layer}.{kind}.weight"] = shape
    rng = np.random.default_rng(7)
    entries, data = b"", b""
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32) / np.float32(2 if len(shape) == 1 else 4)
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        entries += struct.pack("<Q", len(name)) + name.encode() + dims + struct.pack("<IQ", 0, len(data))
        data += values.tobytes() + b"\0" * (-values.nbytes % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(fields))
    head += b"".join(field(name, value) for name, value in fields.items()) + entries
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("toy") / "toy.gguf")


@pytest.fixture(scope="module")
def model(path: Path) -> SmolLM2:
    return SmolLM2(path)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("The theme and the band: 42 panthers, an anthem. " * 20, encoding="utf-8")
    return file


def twin(model: SmolLM2, window: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """Return the logits of one window from the rules, head by head: all but products in float64, rounded once."""

    def weight(name: str) -> np.ndarray:
        return model.file.numbers(f"{name}.weight")

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        wide = x.astype(np.float64)
        mean = np.cumsum(wide * wide, axis=-1)[:, -1:] / WIDTH
        return (wide / np.sqrt(mean + model.epsilon) * weight(name)).astype(np.float32)

    def turned(x: np.ndarray) -> np.ndarray:
        result = np.empty_like(x)
        for position, row in enumerate(x):
            for j in range(SIZE // 2):
                angle = position * THETA ** (-2 * j / SIZE)
                cos, sin = np.float64(np.float32(np.cos(angle))), np.float64(np.float32(np.sin(angle)))
                even, odd = float(row[2 * j]), float(row[2 * j + 1])
                result[position, 2 * j : 2 * j + 2] = even * cos - odd * sin, even * sin + odd * cos
        return result

    length = len(window)
    x = weight("token_embd")[window]
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        h = norm(x, f"{at}.attn_norm")
        q, k, v = (arithmetic.linear(h, weight(f"{at}.{kind}")) for kind in ("attn_q", "attn_k", "attn_v"))
        heads = []
        for head in range(HEADS):
            mine = slice(head * SIZE, (head + 1) * SIZE)
            shared = slice(head // (HEADS // GROUPS) * SIZE, (head // (HEADS // GROUPS) + 1) * SIZE)
            scores = arithmetic.matmul(turned(q[:, mine]), turned(k[:, shared]).T) / np.float32(np.sqrt(SIZE))
            shares = np.zeros((length, length), np.float32)
            for i in range(length):
                seen = scores[i, : i + 1].astype(np.float64)
                raised = np.exp(seen - seen.max())
                shares[i, : i + 1] = raised / np.cumsum(raised)[-1]
            heads.append(arithmetic.matmul(shares, v[:, shared]))
        x = x + arithmetic.linear(np.concatenate(heads, axis=1), weight(f"{at}.attn_output"))
        h = norm(x, f"{at}.ffn_norm")
        gate, up = (arithmetic.linear(h, weight(f"{at}.{kind}")).astype(np.float64) for kind in ("ffn_gate", "ffn_up"))
        hidden = (gate / (1 + np.exp(-gate)) * up).astype(np.float32)
        x = x + arithmetic.linear(hidden, weight(f"{at}.ffn_down"))
    return arithmetic.linear(norm(x, "output_norm"), weight("token_embd"))


# --------------------------------------------------------------------------------------------------------- the forward


@pytest.mark.parametrize(
    "arithmetic",
    [Arithmetic(), Arithmetic("bf16"), Arithmetic("e4m3fn"), Arithmetic("int8"), Arithmetic("fp16", "fp16")],
    ids=lambda each: each.label,
)
@pytest.mark.parametrize("length", [1, 2, 9])
def test_forward_is_the_twin(model: SmolLM2, arithmetic: Arithmetic, length: int) -> None:
    windows = np.random.default_rng(length).integers(0, len(WORDS), (2, length))
    got = model.logits(windows, arithmetic)
    assert got.dtype == np.float32
    for window, logits in zip(windows, got, strict=True):
        np.testing.assert_array_equal(logits, twin(model, window, arithmetic))
        np.testing.assert_array_equal(logits, model.logits(window, arithmetic))  # alone as among others


def test_every_product_goes_through_the_arithmetic(model: SmolLM2) -> None:
    """Products are counted, and each one matters: with one of them zero, the logits are others."""

    class Counting(Arithmetic):
        linears, matmuls, zero = 0, 0, ""

        def linear(self, x: Any, w: Any, bias: Any = None) -> Any:
            type(self).linears += 1
            return super().linear(x, w, bias) * np.float32(w.name != self.zero)

        def matmul(self, a: Any, b: Any) -> Any:
            type(self).matmuls += 1
            return super().matmul(a, b)

    window = np.arange(5)
    whole = model.logits(window, Counting())
    assert (Counting.linears, Counting.matmuls) == (7 * LAYERS + 1, 2 * LAYERS)
    for name in model.matrices():
        Counting.zero = name
        assert not np.array_equal(model.logits(window, Counting()), whole), name


def test_skipped_products_stay_in_fp32(model: SmolLM2) -> None:
    window = np.arange(20)
    rough = Arithmetic("e2m1")
    np.testing.assert_array_equal(model.logits(window, rough, skip=("*",)), model.logits(window))
    assert not np.array_equal(model.logits(window, rough, skip=("blk.*",)), model.logits(window))
    some = [
        model.logits(window, rough, skip=skip) for skip in ((), ("*.attn_scores",), ("*.attn_values",), ("output",))
    ]
    assert len({each.tobytes() for each in some}) == 4


def bits(path: Path, words: str, threads: int) -> bytes:
    """Return logits as bytes, computed with some threads."""
    lp.set_num_threads(threads)
    return SmolLM2(path).logits(np.arange(96).reshape(2, 48), Arithmetic(words)).tobytes()


@pytest.mark.parametrize("words", ["bf16", "e4m3fn"])
def test_same_bits_for_any_threads_and_in_a_pool(path: Path, words: str) -> None:
    before = lp.get_num_threads()
    try:
        one, two = (bits(path, words, threads) for threads in (1, 2))
    finally:
        lp.set_num_threads(before)
    assert one == two
    if words == "bf16":
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert pool.submit(bits, path, words, 2).result() == one


def test_calibration(model: SmolLM2) -> None:
    """What a quantiser is given is what goes into the matrix in fp32, layer after layer, in any order."""
    windows = np.arange(24).reshape(2, 12)
    inputs = Inputs(model, windows, Products(model, Arithmetic()))
    names = model.matrices()
    for name in (*names, *names[::-3]):
        np.testing.assert_array_equal(inputs.of(name), model.activations(windows, name))
    assert inputs.of("blk.1.ffn_down").shape == (24, HIDDEN)
    tuned = model.logits(windows[0], Arithmetic("fp32", weights="gptq:int4/32"), calibration=windows)
    plain = model.logits(windows[0], Arithmetic("fp32", weights="int4/32"))
    assert not np.array_equal(tuned, plain)
    with pytest.raises(ValueError, match="`calibration` must be given for gptq:int4/32"):
        model.logits(windows[0], Arithmetic("fp32", weights="gptq:int4/32"))


def test_bad_tokens(model: SmolLM2) -> None:
    for tokens, error, words in (
        ([0.5], TypeError, "`tokens` must be integers"),
        ([len(WORDS)], ValueError, f"`tokens` must be from 0 to {len(WORDS) - 1}"),
        ([], TypeError, "`tokens` must be integers"),
        (np.zeros((2, 0), int), ValueError, "a length of 1 to 64"),
        (np.zeros(65, int), ValueError, "a length of 1 to 64"),
    ):
        with pytest.raises(error, match=words):
            model.logits(tokens)
    with pytest.raises(ValueError, match="`name` must be one of"):
        model.activations([1], "blk.9.attn_q")


# -------------------------------------------------------------------------------------------------------- the workload


def test_workload(path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path))
    found = workload("smollm2", windows=3, length=10, model=path, text=text, offset=4)
    again = pickle.loads(pickle.dumps(found))
    assert found.fingerprint() == again.fingerprint()
    assert found.parts == ("tokens 4 to 13", "tokens 14 to 23", "tokens 24 to 33")
    setting = Arithmetic("bf16")
    parts = [found.evaluate(setting, part) for part in range(3)]
    assert parts[1] == again.evaluate(setting, 1)
    record = found.summarise(parts)
    tokens = found.tokens()
    logits = found.language_model.logits(tokens, setting).astype(np.float64)
    plain = found.language_model.logits(tokens).astype(np.float64)
    shares, usual = (each - np.log(np.exp(each).sum(axis=-1, keepdims=True)) for each in (logits, plain))
    surprise = -np.take_along_axis(shares[:, :-1], tokens[:, 1:, None], axis=-1)
    assert record["perplexity"] == pytest.approx(np.exp(surprise.mean()), rel=1e-12)
    assert record["perplexity_high"] == pytest.approx(np.exp(surprise.mean(axis=(1, 2)).max()), rel=1e-12)
    assert record["kl_nats"] == pytest.approx((np.exp(usual) * (usual - shares)).sum(axis=-1).mean(), rel=1e-6)
    assert record["sqnr_db"] == pytest.approx(10 * np.log10((plain**2).sum() / ((plain - logits) ** 2).sum()))
    assert record["top1_agreement"] == (logits.argmax(axis=-1) == plain.argmax(axis=-1)).mean()
    exact = found.summarise([found.evaluate(Arithmetic(), part) for part in range(3)])
    assert (exact["top1_agreement"], exact["kl_nats"], exact["sqnr_db"]) == (1.0, 0.0, np.inf)


def test_fingerprint_knows_everything(path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))
    other = tmp_path / "other.txt"
    other.write_text("Another text. " * 50, encoding="utf-8")
    base: dict[str, Any] = {"windows": 2, "length": 8, "model": path, "text": text}
    changes: list[dict[str, Any]] = [
        {}, {"windows": 3}, {"length": 9}, {"offset": 1}, {"skip": "output"}, {"calibration": 3}, {"text": other},
        {"model": toy(tmp_path / "b.gguf", **{"llama.context_length": 63})},
    ]  # fmt: skip
    prints = [workload("smollm2", **(base | change)).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)


def test_workload_options(path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))

    def made(**options: Any) -> Any:
        return workload("smollm2", **({"model": path, "text": text} | options))

    latin = tmp_path / "latin.txt"
    latin.write_bytes("café".encode("latin-1"))
    for options, error, words in (
        ({"windows": 0}, ValueError, "`windows` must be 1 or more, got 0"),
        ({"windows": 2.0}, TypeError, "`windows` must be an integer"),
        ({"length": 1}, ValueError, "`length` must be 2 or more"),
        ({"skip": 3}, TypeError, "`skip` must be names of products"),
        ({"skip": [3]}, TypeError, "`skip` must be names of products"),
        ({"text": "/nonexistent"}, FileNotFoundError, "`text` must be a file"),
        ({"model": 3}, TypeError, "`model` must be a path"),
    ):
        with pytest.raises(error, match=words):
            made(**options)
    with pytest.raises(ValueError, match="`windows` must be at most"):
        made(windows=10**6).tokens()
    with pytest.raises(ValueError, match="`calibration` must be from 1 to"):
        made(windows=2, length=8, calibration=10**6).calibration_tokens()
    with pytest.raises(ValueError, match="`text` must be a file in UTF-8"):
        made(text=latin).tokens()
    # In what overflows there is no number, and tables say so.
    record = made(windows=1, length=8)
    sums = record.evaluate(Arithmetic("e4m3fn", scales="none"), 0) | {"surprise": np.nan, "noise": np.nan}
    assert np.isnan(record.summarise([sums])["perplexity"])


def test_skip_names_products(model: SmolLM2) -> None:
    with pytest.raises(ValueError, match=r"`skip` must name products of the model.*'outptu'.*the closest: 'output'"):
        model.logits([1, 2], Arithmetic("bf16"), skip=("output", "outptu"))
    with pytest.raises(ValueError, match="`skip` must name products"):
        model.logits([1, 2], Arithmetic("bf16"), skip=(f"blk.{LAYERS}.*",))


@pytest.mark.parametrize(
    "change",
    [
        {"llama.rope.scaling.type": "linear"}, {"llama.rope.dimension_count": SIZE // 2},
        {"llama.attention.key_length": 2 * SIZE}, {"tokenizer.ggml.pre": "llama-bpe"},
        {"llama.attention.head_count": 0}, {"llama.attention.head_count": 3}, {"llama.block_count": LAYERS - 1},
    ],
)  # fmt: skip
def test_other_models_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"toy.gguf' must hold a model as SmolLM2 is.*got one with"):
        SmolLM2(toy(tmp_path / "toy.gguf", **change))


def test_alignment_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no valid GGUF file: general\.alignment is 0"):
        GGUF(toy(tmp_path / "toy.gguf", **{"general.alignment": 0}))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "is not a GGUF file: it has 0 bytes"), (b"PK\3\4" * 20, "is not a GGUF file of version 2 or 3")],
)
def test_no_gguf_file(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        GGUF(tmp_path / "file")


def test_cut_gguf_files(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    for end in (30, 100, 1000, len(data) - 40):
        (tmp_path / f"{end}").write_bytes(data[:end])
        with pytest.raises(ValueError, match="is cut short"):
            GGUF(tmp_path / f"{end}")
    with pytest.raises(ValueError, match="must hold a model of the architecture llama"):
        SmolLM2(toy(tmp_path / "other", **{"general.architecture": "gpt2"}))
    with pytest.raises(ValueError, match="must have the tensor none"):
        GGUF(path).numbers("none")


# -------------------------------------------------------------------------------------------------- between products


def test_exponential_and_softmax() -> None:
    scores = np.array([[[1.0, 9.0, 9.0], [0.0, -1000.0, 9.0], [np.nan, 0.0, 0.0]]], np.float32)
    out = np.empty_like(scores)
    network.softmax_causal(scores, np.float32(1), out)
    np.testing.assert_array_equal(out[0, :2], [[1, 0, 0], [1, 0, 0]])
    assert np.isnan(out[0, 2]).all()
    gate = np.array([-np.inf, -800, -5, -0.0, 0, 5, 800, np.nan], np.float32)
    got = np.empty_like(gate)
    network.silu_gate(gate, np.ones_like(gate), got)
    with np.errstate(all="ignore"):
        want = (gate.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64)))).astype(np.float32)
    np.testing.assert_array_equal(got, want)
    rows = np.random.default_rng(0).uniform(-80, 80, (1, 1, 4000)).astype(np.float32)
    ones = np.ones_like(rows)
    network.silu_gate(rows.reshape(-1), ones.reshape(-1), got := np.empty(4000, np.float32))
    wide = rows.reshape(-1).astype(np.float64)
    np.testing.assert_array_max_ulp(got, (wide / (1 + np.exp(-wide))).astype(np.float32), 1)


# ---------------------------------------------------------------------------------------------------------- tokenizer


def test_tokenizer_by_hand(model: SmolLM2) -> None:
    tokenizer = model.tokenizer
    assert [WORDS[token] for token in tokenizer.encode("the the")] == ["the", "Ġthe"]
    assert tokenizer.encode("").size == 0
    assert tokenizer.encode("<|end|>", special=True).tolist() == [0]
    assert tokenizer.encode("<|end|>").size == 7
    assert tokenizer.decode([0, *tokenizer.encode("é the")], special=False) == "é the"
    # Digits of any script stand apart; four control characters are no spaces, a no-break space is one.
    assert tokenizer.pieces("12٣ \x1c \xa0a") == ["1", "2", "٣", " \x1c", " ", "\xa0", "a"]
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer.encode("a\ud800")
    with pytest.raises(TypeError, match="`text` must be a string"):
        tokenizer.encode(b"a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`tokens` must be from 0 to"):
        tokenizer.decode([-1])
    with pytest.raises(ValueError, match="`merges` must hold pairs"):
        Tokenizer(["a"], ["a b"])


needs_model = pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")


@pytest.fixture(scope="module")
def real() -> SmolLM2:
    return SmolLM2(smollm.gguf_path())


@pytest.mark.oracles
@needs_model
def test_tokenizer_is_that_of_the_package(real: SmolLM2) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ours = real.tokenizer
    merges = [tuple(merge.split(" ")) for merge in real.file.field("tokenizer.ggml.merges")]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={w: i for i, w in enumerate(ours.words)}, merges=merges))
    pre = tokenizers.pre_tokenizers
    theirs.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    theirs.decoder = tokenizers.decoders.ByteLevel()
    draw = random.Random(0)
    known = [chr(code) for code in range(0x3000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    known += [chr(code) for code in range(0x1F000, 0x1FA00) if unicodedata.category(chr(code)) != "Cn"]
    pools = [
        known,
        " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2003\u3000\u200b\u2028",
        "abcdefstrmvl'' ",
        "0123456789²½٣५Ⅷ一 ",
        ["'s", "'ll", "\u2019s", "é", "e\u0301", "😀", "\U0001f468\u200d\U0001f469", "🇫🇷", "the", " The", "====", "  "],
        [chr(code) for code in range(128)],
    ]
    news = smollm.text()
    texts = ["", "=" * 500, " " * 500, "ha" * 300, *(news[i : i + 600] for i in range(0, len(news), 600))]
    for _ in range(600):
        mixed = draw.sample(pools, draw.randint(1, 3))
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(draw.randint(0, 40))))
    assert len(texts) > 700
    for text in texts:
        tokens = theirs.encode(text).ids
        assert ours.encode(text).tolist() == tokens, text
        assert ours.decode(tokens) == theirs.decode(tokens, skip_special_tokens=False)


@pytest.mark.oracles
@needs_model
def test_reader_is_that_of_the_package(real: SmolLM2) -> None:
    other = smollm.load()
    assert list(real.file.tensors) == list(other.tensors)
    for name, tensor in real.file.tensors.items():
        assert tensor.type == other.type(name)
        np.testing.assert_array_equal(real.file.raw(name).view(other.raw(name).dtype), other.raw(name))
    assert list(real.tokenizer.words) == other.words
    assert real.file.field("tokenizer.ggml.merges") == other.merges
    for name in ("blk.0.attn_q.weight", "blk.29.ffn_down.weight", "blk.7.ffn_norm.weight"):
        np.testing.assert_array_equal(real.file.numbers(name), other.weight(name))


@pytest.mark.oracles
@needs_model
def test_real_model(real: SmolLM2) -> None:
    tokens = real.tokenizer.encode(smollm.text())
    assert tokens.size == smollm.TOKENS
    windows = tokens[:128].reshape(2, 64)
    logits = real.logits(windows)
    np.testing.assert_allclose(logits, smollm.load().logits(windows), atol=2e-3)
    rows = np.empty((128, 5))
    targets = np.append(windows[:, 1:], [[-1], [-1]], axis=1).reshape(-1)
    network.compare_logits(logits.reshape(128, -1), logits.reshape(128, -1), targets, rows)
    assert np.exp(rows[:, 0].sum() / 126) == pytest.approx(smollm.PERPLEXITIES[2, 64], abs=5e-4)
    answer = real.logits(real.tokenizer.encode("The capital of France is"))
    assert real.tokenizer.decode([answer[-1].argmax()]) == " Paris"


@pytest.mark.oracles
@needs_model
def test_its_own_format_is_lossless(real: SmolLM2) -> None:
    """The weights are four-bit numbers with a scale and a minimum per 32; stored so again, they are the same."""
    for name in ("blk.0.attn_q", "blk.15.ffn_up", "blk.29.ffn_down"):
        w = real.matrix(name)
        np.testing.assert_array_equal(lp.quantize(w, "q4_1").dequantize(), w)
        assert not np.array_equal(lp.quantize(w, "int4", axis=-1, block_size=32).dequantize(), w)
