"""Training and data-parallel training: gradients against float64, steps and messages against slow twins, and losses."""

from __future__ import annotations

import hashlib
import math
import pickle
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.study import AllReduce, Compression, DynamicLossScale, Recipe, recipes, train, workload
from lowprec.study import _training_step as steps_module
from lowprec.study._compression_workload import train_parallel
from lowprec.study._training_network import Network, exponential, folded_sum, sigmoid
from lowprec.study._training_step import Optimizer, Rounded
from lowprec.study._training_task import Task
from lowprec.study._training_workload import Training

pytest.importorskip("sklearn", reason='needs scikit-learn; pip install "lowprec[study]"')

F32 = np.float32
WORDS = [
    *recipes(), "fp16+static", "fp16+dynamic", "fp16-pure+dynamic", "bf16-pure+sr", "bf16-pure+kahan",
    "fp8-hybrid+delayed", "bf16-pure+sr+states", "fp32+sgd", "bf16-pure+sgd+states",
]  # fmt: skip


def toy(size: float = 1.0, loss: str = "squared") -> Task:
    rng = np.random.default_rng(5)
    x = (rng.random((14, 6)) * size).astype(F32)
    network = Network((6, 5, 4, 6), "sigmoid" if loss == "squared" else "relu", loss)
    y = x if loss == "squared" else rng.integers(0, 6, 14)
    return Task("toy", network, x[:10], y[:10], x[10:], y[10:])


# -------------------------------------------------------------------------------------------------------- the network


class Wide:
    """Products in float64, nothing rounded."""

    def store(self, x: Any) -> Any:
        return x

    def outputs(self, layer: int, x: Any, w: Any) -> Any:
        return np.einsum("mk,nk->mn", x, w)

    def inputs_gradient(self, layer: int, dz: Any, w: Any) -> Any:
        return np.einsum("mn,nk->mk", dz, w)

    def weight_gradient(self, layer: int, dz: Any, x: Any) -> Any:
        return np.einsum("mn,mk->nk", dz, x)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_gradient_is_that_of_finite_differences(loss: str) -> None:
    work, how = toy(loss=loss), Wide()
    network, x, y = work.network, work.x.astype(np.float64), work.targets
    y = y.astype(np.float64) if loss == "squared" else y
    w = network.initial(np.random.default_rng(1)).astype(np.float64)

    def value(at: Any) -> float:
        return network.loss_of(network.forward(at, x, how)[1], y)

    inputs, output = network.forward(w, x, how)
    got = network.backward(w, inputs, network.loss_gradient(output, y, 1.0), how)
    step = 1e-6
    want = [(value(w + step * e) - value(w - step * e)) / (2 * step) for e in np.eye(network.count)]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)
    assert np.count_nonzero(got) > 0.5 * network.count


def test_exponential_and_sigmoid() -> None:
    x = -np.concatenate([np.linspace(0, 690, 5001), [0.0, 1e-300, math.log(2) / 2, math.log(2)]])
    np.testing.assert_allclose(exponential(x), np.exp(x), rtol=1e-15)
    assert exponential(np.array([-np.inf]))[0] < 1e-300
    assert math.isnan(exponential(np.array([np.nan]))[0])
    z = np.array([-1e30, -100, -1, -0.0, 0, 1, 100, np.inf, -np.inf], F32)
    want = 1 / (1 + np.exp(-np.clip(z.astype(np.float64), -700, 700)))
    np.testing.assert_array_equal(sigmoid(z)[1:7], want[1:7].astype(F32))
    assert sigmoid(z)[-2] == 1
    assert sigmoid(z)[-1] < 1e-30


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 1001])
def test_folded_sum(count: int) -> None:
    values = np.arange(count, dtype=np.float64)
    assert folded_sum(values) == count * (count - 1) / 2


# ------------------------------------------------------------------------------------------- steps, written out again


def fit(tensor: Any, fmt: str) -> int:
    """Return the largest k with max * 2**k within the format and 2**16, by trying."""
    largest, room = float(np.max(np.abs(tensor))), min(lp.format(fmt).max, 2.0**16)
    if largest == 0 or not math.isfinite(largest):
        return 0
    return max(k for k in range(-200, 200) if largest * 2.0**k <= room)


class Twin:
    """Training of a network of sigmoids, layer by layer, with `round_to` and `matmul`."""

    def __init__(self, word: str, work: Task, seed: int) -> None:
        self.recipe, self.work, self.seed = Recipe.parse(word), work, seed
        rng = np.random.default_rng([seed, 0])
        self.w, self.b = [], []
        for k, n in zip(work.network.sizes, work.network.sizes[1:], strict=False):
            bound = 1 / math.sqrt(k)
            self.w.append(lp.round_to(rng.uniform(-bound, bound, (n, k)).astype(F32), self.recipe.weights))
            self.b.append(lp.round_to(rng.uniform(-bound, bound, n).astype(F32), self.recipe.weights))
        flat = self.flat(self.w, self.b)
        self.m, self.v, self.c = np.zeros_like(flat), np.zeros_like(flat), np.zeros_like(flat)
        self.taken, self.scale, self.good = 0, 1.0, 0
        self.past: dict[str, list[float]] = {}
        if self.recipe.loss_scale == "dynamic":
            self.scale = 65536.0
        else:
            self.scale = float(self.recipe.loss_scale)

    @staticmethod
    def flat(weights: Any, biases: Any) -> Any:
        return np.concatenate([each.ravel() for pair in zip(weights, biases, strict=True) for each in pair])

    def keep(self, x: Any) -> Any:
        return lp.round_to(np.asarray(x, F32), self.recipe.tensors)

    def operand(self, name: str, x: Any) -> tuple[Any, int]:
        r = self.recipe
        fmt = (r.gradients if name.startswith("dz") else r.forward) or r.tensors
        if r.scales == "none":
            return lp.round_to(x, fmt), 0
        if r.scales == "current":
            k = fit(x, fmt)
        else:
            past = self.past.setdefault(name, [])
            k = fit(np.array(past[-16:]) if past else x, fmt)
            if name not in self.seen:
                past.append(float(np.abs(x).max()))
        key = self.seen.setdefault(name, k)
        return lp.round_to(np.ldexp(x, key), fmt, overflow="saturate"), key

    def product(self, one: tuple[Any, int], other: tuple[Any, int]) -> Any:
        return np.ldexp(lp.matmul(one[0], other[0], "fp32"), -(one[1] + other[1]))

    def step(self, chosen: Any, rate: float) -> None:
        self.seen: dict[str, int] = {}
        x = self.keep(self.work.x[chosen])
        stored, layers = [x], len(self.w)
        for i in range(layers):
            (a, ka), (w, kw) = self.operand(f"x {i}", stored[i]), self.operand(f"w {i}", self.w[i])
            z = self.keep(self.product((a, ka), (w.T, kw)) + self.b[i])
            stored.append(z if i == layers - 1 else self.keep(sigmoid(z)))
        dz = (stored[-1] - self.work.targets[chosen]) * F32(2 * self.scale / stored[-1].size)
        grad_w: list[Any] = [None] * layers
        grad_b: list[Any] = [None] * layers
        for i in range(layers - 1, -1, -1):
            dz = self.keep(dz)
            (d, kd), (a, ka), (w, kw) = (
                self.operand(f"dz {i}", dz), self.operand(f"x {i}", stored[i]), self.operand(f"w {i}", self.w[i])
            )  # fmt: skip
            grad_w[i] = self.keep(self.product((d.T, kd), (a, ka)))
            total = np.zeros(dz.shape[1], F32)
            for row in dz:
                total = total + row
            grad_b[i] = self.keep(total)
            back = self.keep(self.product((d, kd), (w, kw)))
            dz = back * (stored[i] * (1 - stored[i]))
        g = self.flat(grad_w, grad_b) / F32(self.scale)
        if self.recipe.loss_scale == "dynamic":
            if not np.isfinite(g).all():
                self.scale, self.good = self.scale / 2, 0
                return
            self.good += 1
        self.taken += 1
        w = self.flat(self.w, self.b)
        u = self.update(g, F32(rate))
        r = self.recipe
        if r.update == "kahan":
            y = lp.round_to(-u - self.c, r.weights)
            new = lp.round_to(w + y, r.weights)
            self.c = lp.round_to(lp.round_to(new - w, r.weights) - y, r.weights)
        elif r.update == "stochastic":
            drawn = int.from_bytes(hashlib.sha256(f"0 {self.seed} {self.taken}".encode()).digest()[:8], "little")
            new = lp.round_to(w - u, r.weights, rounding="stochastic", rng=drawn)
        else:
            new = lp.round_to(w - u, r.weights)
        at = 0
        for i in range(layers):
            self.w[i] = new[at : at + self.w[i].size].reshape(self.w[i].shape)
            at += self.w[i].size
            self.b[i] = new[at : at + self.b[i].size]
            at += self.b[i].size

    def update(self, g: Any, rate: Any) -> Any:
        states = self.recipe.states
        if self.recipe.optimizer == "sgd":
            self.m = lp.round_to(F32(0.9) * self.m + g, states)
            return rate * self.m
        self.m = lp.round_to(F32(0.9) * self.m + (F32(1) - F32(0.9)) * g, states)
        self.v = lp.round_to(F32(0.999) * self.v + (F32(1) - F32(0.999)) * (g * g), states)
        first, second = self.m / F32(1 - 0.9**self.taken), self.v / F32(1 - 0.999**self.taken)
        return rate * first / (np.sqrt(second) + F32(1e-8))


def both(word: str, work: Task, count: int = 5, rate: float = 0.01) -> tuple[Any, Any]:
    run = train(word, task=work, steps=count, batch=4, learning_rate=rate, seed=3, every=2)
    twin, batches = Twin(word, work, 3), np.random.default_rng([3, 1])
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(count):
            twin.step(batches.permutation(10)[:4], rate * (1 - step / count))
    return run, twin


@pytest.mark.parametrize("word", WORDS)
def test_steps_are_those_written_out(word: str) -> None:
    run, twin = both(word, toy())
    np.testing.assert_array_equal(run.parameters, Twin.flat(twin.w, twin.b))
    assert len(run.losses) == 5
    assert run.losses[-1] < run.losses[0]


def test_overflow_halves_the_scale_and_skips() -> None:
    run, twin = both("fp16+dynamic", toy(300.0), 12, 0.1)
    assert 0 < run.skipped_steps < 12
    assert run.loss_scales[0] == 65536
    assert run.loss_scales[run.skipped_steps] == 65536 / 2**run.skipped_steps
    np.testing.assert_array_equal(run.parameters, Twin.flat(twin.w, twin.b))


def test_divergence_ends_a_run() -> None:
    run = train("fp16+sgd", task=toy(1e4), steps=8, batch=4, learning_rate=1e4)
    assert math.isnan(run.losses[-1])
    assert math.isnan(run.test_loss)
    assert len(run.losses) == 8


@pytest.mark.parametrize("bug", ["gradients not rounded", "master weights", "states not rounded"])
def test_planted_bugs_are_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    word = "bf16-pure+states" if bug == "states not rounded" else "bf16-pure"
    if bug == "gradients not rounded":
        backward = Network.backward

        def unrounded(self: Any, w: Any, inputs: Any, dz: Any, how: Any, seen: Any = None) -> Any:
            return backward(self, w, inputs, dz, Rounded(Recipe()), seen)

        monkeypatch.setattr(Network, "backward", unrounded)
    else:
        start = Optimizer.__init__

        def other(self: Any, *args: Any) -> None:
            start(self, *args)
            setattr(self, "_states" if bug == "states not rounded" else "_weights", None)

        monkeypatch.setattr(Optimizer, "__init__", other)
    run, twin = both(word, toy())
    assert not np.array_equal(run.parameters, Twin.flat(twin.w, twin.b))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    before = lp.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            lp.set_num_threads(threads)
            found.append(train("fp8-hybrid", steps=3, every=2))
    finally:
        lp.set_num_threads(before)
    assert found[0].losses == found[1].losses
    np.testing.assert_array_equal(found[0].parameters, found[1].parameters)


# ------------------------------------------------------------------------------------------------- what the formats do


def test_fp16_loses_gradients_and_a_loss_scale_keeps_them() -> None:
    plain, scaled, bf16 = (train(word, steps=11, every=10) for word in ("fp16", "fp16+static", "bf16"))
    assert plain.underflow[-1][0] > 0.2
    assert plain.underflow_activations[-1][0] > 0.2
    assert max(scaled.underflow[-1]) < 0.01
    assert max(bf16.underflow[-1]) == 0


def test_nearest_loses_small_updates_and_stochastic_rounding_takes_them_in_the_mean() -> None:
    options: dict[str, Any] = {"steps": 30, "learning_rate": 2e-5, "every": 30}
    exact, nearest, random = (train(word, **options) for word in ("bf16", "bf16-pure", "bf16-pure+sr"))
    start = lp.round_to(train("bf16", steps=1, learning_rate=1e-30).parameters, "bf16")
    moved = exact.parameters - start
    large = np.abs(start) > 0.02  # half a unit in the last place is 2**-15 there, more than one update
    assert nearest.lost_updates[0] > 0.9
    np.testing.assert_array_equal(nearest.parameters[large], start[large])
    # In the direction that fp32 takes, stochastic rounding goes as far, within five standard deviations: a step's
    # rounding has at most the variance (unit / 2)**2, 30 steps of each weight are independent.
    unit = np.ldexp(1.0, np.frexp(start)[1] - 8)
    noise = math.sqrt(float(np.sum((np.sign(moved) * unit / 2)[large] ** 2)) * 30)
    went = float(np.sum((np.sign(moved) * (random.parameters - start))[large], dtype=np.float64))
    want = float(np.sum(np.abs(moved[large]), dtype=np.float64))
    assert abs(went - want) < 5 * noise
    assert want > 10 * noise


def test_dynamic_loss_scale_follows_the_rule() -> None:
    rng = np.random.default_rng(0)
    for interval in (1, 2, 7):
        finite = (rng.random(300) < 0.8).tolist()
        got = DynamicLossScale(64.0, growth_interval=interval, minimum=2.0**-3, maximum=2.0**9)
        seen = [got.update(one) for one in finite]
        for at in range(len(finite)):  # the scale after a step, from all steps before it
            want, run = 64.0, 0
            for one in finite[: at + 1]:
                run = run + 1 if one else 0
                want = max(want / 2, 2.0**-3) if not one else want
                if run and run % interval == 0:
                    want = min(want * 2, 2.0**9)
            assert seen[at] == want


# ------------------------------------------------------------------------------------------------ gradients on the wire


def message(how: Compression, row: Any) -> Any:
    """Return one message as it arrives, block by block."""
    size = how.block or len(row)
    out = []
    for at in range(0, len(row), size):
        part = row[at : at + size]
        if how.format == "sign":
            mean = F32(sum(abs(float(value)) for value in part) / len(part))
            out.append(np.array([-mean if math.copysign(1, value) < 0 else mean for value in part], F32))
        elif lp.format(how.format).bits < 16:
            top = getattr(lp.format(how.format), "max", None)
            largest = F32(np.abs(part).max())
            scale = F32(largest / F32(top)) if largest else F32(1)
            out.append(lp.round_to((part / scale).astype(F32), how.format, overflow="saturate").astype(F32) * scale)
        else:
            out.append(lp.round_to(part, how.format))
    return np.concatenate(out)


def slow_mean(how: Compression, shares: Any, left: Any, left_mean: Any) -> Any:
    """Return the mean of gradients (workers, chunks, n), one message after the other."""
    workers = len(shares)
    result = []

    def send(wanted: Any, store: Any, at: Any) -> Any:
        wanted = wanted + store[at] if how.feedback else wanted
        arrived = message(how, wanted)
        store[at] = wanted - arrived
        return arrived

    for c in range(workers):
        if how.order == "owner":
            parts = [shares[w, c] if w == c else send(shares[w, c], left, (w, c)) for w in range(workers)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
        else:
            total = shares[(c + 1) % workers, c]
            for hop in range(1, workers):
                total = send(total, left, ((c + hop) % workers, c)) + shares[(c + hop + 1) % workers, c]
        result.append(send(total * F32(1 / workers), left_mean, c))
    return np.concatenate(result)


COMPRESSIONS = [
    "fp32",
    "bf16",
    "fp16+ring",
    "e4m3fn",
    "e5m2+ef",
    "int8",
    "int8/4+ring",
    "int4/4+ef",
    "sign+ef",
    "sign/4+ef+ring",
]


@pytest.mark.parametrize("word", COMPRESSIONS)
def test_all_reduce_is_that_of_single_messages(word: str) -> None:
    how, workers, count = Compression.parse(word), 3, 22
    reduce = AllReduce(how, workers, count)
    n = reduce.chunk
    assert n == 8
    left, left_mean = np.zeros((workers, workers, n), F32), np.zeros((workers, n), F32)
    rng = np.random.default_rng(1)
    for _ in range(4):
        gradients = (rng.standard_normal((workers, count)) * 2.0 ** rng.integers(-9, 3, count)).astype(F32)
        filled = np.zeros((workers, workers * n), F32)
        filled[:, :count] = gradients
        want = slow_mean(how, filled.reshape(workers, workers, n), left, left_mean)[:count]
        np.testing.assert_array_equal(reduce(gradients), want)


def test_bytes_are_those_of_the_ring() -> None:
    for workers in (2, 4, 8):
        reduce = AllReduce(Compression(), workers, 4096)
        assert reduce.bytes_per_worker == 2 * (workers - 1) / workers * 4096 * 4
    assert AllReduce(Compression.parse("int4/64"), 4, 1000).chunk == 256
    assert AllReduce(Compression.parse("int4/64"), 4, 1000).bytes_per_worker == 6 * (128 + 4 * 4)
    assert AllReduce(Compression.parse("sign"), 4, 1000).bytes_per_worker == 6 * (32 + 4)  # 250 bits are 32 bytes
    assert AllReduce(Compression(), 1, 10).bytes_per_worker == 0


@pytest.mark.parametrize("order", ["owner", "ring"])
def test_feedback_loses_nothing_in_the_long_run(order: str) -> None:
    rng = np.random.default_rng(2)
    gradient = rng.standard_normal((4, 64)).astype(F32) * 2e-2
    gradient[:, 0] = 1.0  # beside it, int4 of one scale per message loses all others

    def far(word: str, drop: bool = False) -> float:
        reduce = AllReduce(Compression.parse(f"{word}{'+ring' * (order == 'ring')}"), 4, 64)
        total = np.zeros(64)
        for _ in range(60):
            total += reduce(gradient)
            if drop:
                reduce._left[...] = 0
        return float(np.abs(total / 60 - gradient.mean(0, dtype=np.float64)).max())

    assert far("int4") > 6e-3
    assert far("int4+ef") < 6e-3 < far("int4+ef", drop=True)  # a planted bug: workers forget what they lost


def test_one_worker_is_plain_training() -> None:
    work = toy()
    run = train("fp32+sgd", task=work, steps=6, batch=4, learning_rate=0.1, seed=1)
    found = train_parallel(Compression.parse("int4"), work, workers=1, steps=6, batch=4, learning_rate=0.1, seed=1)
    assert found["losses"] == run.losses
    assert found["test_loss"] == run.test_loss
    assert found["megabytes"] == 0


# ----------------------------------------------------------------------------------------------------------- workloads


def test_study_of_recipes() -> None:
    words = ["fp32", "fp16+dynamic", "bf16-pure+sr"]
    options: dict[str, Any] = {"steps": 4, "seeds": 2, "batch": 32, "progress": False, "cache": False}
    result = lp.study("training", words, **options)
    assert [record["label"] for record in result.table] == words
    for record in result.table:
        assert record["test_loss_low"] <= record["test_loss"] <= record["test_loss_high"]
        assert len(record["steps"]) == len(record["loss_curve"]) == len(record["lost_updates_curve"]) == 4
        assert len(record["underflow_layers"]) == 6
    assert result.table[1]["loss_scale_curve"] == [65536.0] * 4
    assert lp.study("training", words[:1], **options).table == result.table[:1]
    hopper = lp.study("training", ["fp8-hybrid"], ["nvidia-hopper"], **options).table[0]
    assert hopper["label"] == "fp8-hybrid/nvidia-hopper"


def test_study_of_compressions() -> None:
    result = lp.study("data_parallel", ["fp32", "int8/64+ef"], steps=3, seeds=1, batch=16, progress=False, cache=False)
    assert [record["label"] for record in result.table] == ["fp32", "int8/64+ef"]
    assert result.table[0]["megabytes"] > 3.5 * result.table[1]["megabytes"]


def test_workloads_travel_and_know_themselves() -> None:
    one, other = workload("training", steps=4), workload("training", steps=5)
    assert one.fingerprint() == pickle.loads(pickle.dumps(one)).fingerprint() != other.fingerprint()
    assert workload("data_parallel").fingerprint() != workload("data_parallel", workers=2).fingerprint()
    assert one.parts == ("seed 0", "seed 1", "seed 2")
    recipe = Recipe.parse("fp8-hybrid")
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    keys = {Recipe.parse(word).key() for word in WORDS}
    assert len(keys) == len(WORDS)
    assert Recipe.parse("bf16").key() == Recipe("named", tensors="bfloat16").key()
    assert len({Compression.parse(word).key() for word in COMPRESSIONS}) == len(COMPRESSIONS)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: Recipe.parse("fp61"), ValueError, "fp16"),
        (lambda: Recipe.parse("fp16+dinamic"), ValueError, "'dynamic'"),
        (lambda: Recipe.parse(16), TypeError, "string"),
        (lambda: Recipe(loss_scale=1000.0), ValueError, "power of two"),
        (lambda: Recipe(loss_scale=True), TypeError, "number"),
        (lambda: Recipe(update="stohastic"), ValueError, "'stochastic'"),
        (lambda: Recipe(weights="int8"), ValueError, "float format"),
        (lambda: Recipe(tensors="e8m0fnu"), ValueError, "sign and a zero"),
        (lambda: Recipe().with_(sparsity="2:4"), ValueError, "`sparsity`"),
        (lambda: Recipe(seed=-1), ValueError, "from 0"),
        (lambda: train("fp32", steps=0), ValueError, "`steps`"),
        (lambda: train("fp32", batch=5000), ValueError, "1 to 1198"),
        (lambda: train("fp32", learning_rate=-1.0), ValueError, "positive"),
        (lambda: train("fp32", task="autoencode"), ValueError, "'autoencoder'"),
        (lambda: train(3), TypeError, "Recipe or a word"),
        (lambda: workload("training", seeds=()), ValueError, "at least one"),
        (lambda: workload("data_parallel", workers=3), ValueError, "divide"),
        (lambda: workload("data_parallel", optimizer="adm"), ValueError, "'adam'"),
        (lambda: Compression.parse("bf16/64"), ValueError, "no scale"),
        (lambda: Compression.parse("int8+rings"), ValueError, "'ring'"),
        (lambda: Compression.parse("uint8"), ValueError, "negative"),
        (lambda: Compression(feedback=1), TypeError, "True or False"),  # type: ignore[arg-type]
        (lambda: AllReduce(Compression(), 2, 4)(np.zeros((2, 5), F32)), ValueError, r"\(2, 4\)"),
        (lambda: DynamicLossScale(growth_factor=1.0), ValueError, "above 1"),
        (lambda: DynamicLossScale(backoff_factor=2), ValueError, "between 0 and 1"),
        (lambda: DynamicLossScale(growth_interval=1.5), TypeError, "integer"),  # type: ignore[arg-type]
        (lambda: DynamicLossScale(0.0), ValueError, "positive"),
        (lambda: lp.study("training", [lp.nn.Arithmetic("bf16")], progress=False), ValueError, "recipes"),
    ],
)
def test_bad_input_is_named(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_lost_share_counts() -> None:
    assert steps_module.lost_share(np.array([0.0, 0, 2]), np.array([1.0, 0, 3])) == (2, 1)


def test_numbers_of_numpy() -> None:
    whole = Training(steps=np.int64(2), batch=np.int32(8), learning_rate=np.float32(0.5), seeds=np.arange(2))
    assert whole.fingerprint() == Training(steps=2, batch=8, learning_rate=0.5, seeds=2).fingerprint()
    assert train("fp32", steps=np.int64(1), seed=np.uint8(3)).losses == train("fp32", steps=1, seed=3).losses
    assert Compression("int8", block=np.int64(64)) == Compression("int8", block=64)
    several = [Recipe(loss_scale=scale) for scale in (2, 2.0, np.float32(2), np.float64(2))]
    assert len({each.key() for each in several}) == 1
    with pytest.raises(TypeError, match="`seeds` must be an integer, got '2'"):
        Training(seeds="2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`task` must be a word"):
        train(task=["autoencoder"], steps=1)  # type: ignore[arg-type]


def test_what_diverges_at_once_has_a_record() -> None:
    small = lp.FloatFormat("small", exponent_bits=3, mantissa_bits=2, bias=10)  # 1.0 is infinite
    work = Training(steps=2, seeds=1)
    record = work.summarise([work.evaluate(Recipe(tensors=small), 0)])  # type: ignore[arg-type]
    assert math.isnan(record["test_loss"])
    assert math.isnan(record["underflow"])
    assert all(map(math.isnan, record["underflow_layers"]))
