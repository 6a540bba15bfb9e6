"""The workload "training": a network trained by recipes of mixed precision, and what each of them loses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lowprec.study._base import Metric, Workload, least, most
from lowprec.study._extras import require
from lowprec.study._training_network import Array, Network
from lowprec.study._training_recipe import Recipe
from lowprec.study._training_scale import DynamicLossScale
from lowprec.study._training_step import Optimizer, Rounded, gradient, lost_share

_TRAIN = 1198
_GROWTH_INTERVAL = 100
_NETWORKS = {
    "autoencoder": Network((64, 64, 32, 16, 32, 64, 64), "sigmoid", "squared"),
    "classifier": Network((64, 64, 64, 10), "relu", "cross_entropy"),
}
_RATES = {
    ("autoencoder", "adam"): 4e-3,
    ("autoencoder", "sgd"): 2.0,
    ("classifier", "adam"): 2e-3,
    ("classifier", "sgd"): 0.1,
}
_DEFAULT = ("fp32", "fp16", "fp16+static", "fp16+dynamic", "bf16", "bf16-pure", "bf16-pure+sr", "fp8-hybrid")


class Task(NamedTuple):
    """A network and its data.

    Parameters
    ----------
    name : str
        "autoencoder" or "classifier".
    network : Network
        What is trained.
    x, targets, test_x, test_targets : ndarray
        Images in [0, 1] with what the network shall give for them: themselves, or their classes.
    """

    name: str
    network: Network
    x: Array
    targets: Array
    test_x: Array
    test_targets: Array

    def digest(self) -> str:
        """Return a hash of the data and the network."""
        found = hashlib.sha256(repr(self.network).encode())
        for array in (self.x, self.targets, self.test_x, self.test_targets):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


@lru_cache(maxsize=2)
def task(name: str) -> Task:
    """Return a task on scikit-learn's handwritten digits: 1198 images to train on, 599 to test with.

    Parameters
    ----------
    name : {"autoencoder", "classifier"}
        "autoencoder": 64-64-32-16-32-64-64 with logistic sigmoids and a linear output, which learns to give its input;
        the loss is the mean squared error. "classifier": 64-64-64-10 with ReLU, cross-entropy.

    Returns
    -------
    Task
        Its arrays are read-only.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If scikit-learn is missing, which ships the digits.
    """
    if name not in _NETWORKS:
        msg = f"`task` must be one of {', '.join(map(repr, _NETWORKS))}, got {name!r}."
        raise ValueError(msg)
    images, labels = require("sklearn.datasets", "The workload 'training'").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = (images[order] / 16).astype(np.float32)
    targets = x if name == "autoencoder" else labels[order].astype(np.intp)
    x.flags.writeable = targets.flags.writeable = False
    return Task(name, _NETWORKS[name], x[:_TRAIN], targets[:_TRAIN], x[_TRAIN:], targets[_TRAIN:])


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What one training gave.

    Parameters
    ----------
    recipe : Recipe
        How it was done.
    losses : list of float
        Of each step's batch, before the step, by the recipe's own forward pass; NaN from where it diverged.
    train_loss, test_loss : float
        At the end, of all images, by the recipe's own forward pass; NaN if it diverged. Delayed scales are current ones
        here.
    test_loss_fp32 : float
        Of the same weights with a forward pass in fp32.
    loss_scales : list of float
        The loss scale of each step.
    skipped_steps : int
        Steps that dynamic loss scaling did not take.
    lost_updates : list of float
        For each window of `every` steps, the share of updates other than zero that left their weight as it was.
    underflow, underflow_activations : list of list of float
        Every `every` steps, for each layer: of the elements that are not zero in the gradient that fp32 would find with
        the same weights and batch, the share that is zero; in the gradients by the weights, and by what comes out
        of the layers' products.
    every : int
        The steps of a window.
    parameters : ndarray of float32
        The weights and biases at the end, in the order of the network.
    """

    recipe: Recipe
    losses: list[float]
    train_loss: float
    test_loss: float
    test_loss_fp32: float
    loss_scales: list[float]
    skipped_steps: int
    lost_updates: list[float]
    underflow: list[list[float]]
    underflow_activations: list[list[float]]
    every: int
    parameters: Array = field(repr=False)


def train(
    recipe: Recipe | str = "fp32",
    *,
    task: str | Task = "autoencoder",
    steps: int = 800,
    batch: int = 128,
    learning_rate: float | None = None,
    seed: int = 0,
    every: int = 50,
) -> TrainingRun:
    """Train a small network by a recipe of mixed precision, every rounding as the recipe says.

    Parameters
    ----------
    recipe : Recipe or str
        How: `Recipe.parse` knows the words.
    task : {"autoencoder", "classifier"} or Task
        What: an autoencoder or a classifier of scikit-learn's handwritten digits.
    steps : int
        Count of steps; those that dynamic loss scaling skips are counted.
    batch : int
        Images per step, drawn afresh, without repetition within a step.
    learning_rate : float, optional
        At the first step; it falls linearly, to zero after the last. By default what suits the task and the optimiser.
    seed : int
        Of the first weights, of the batches, and of stochastic rounding. Equal seeds give recipes equal batches.
    every : int
        Steps between two measurements of what is lost.

    Returns
    -------
    TrainingRun
        The same bits for the same arguments on any number of threads.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a word is unknown, or a number is out of range.
    ImportError
        If scikit-learn is missing.

    Examples
    --------
    >>> from lowprec.study import train
    >>> run = train("fp16", steps=2)
    >>> len(run.losses), run.loss_scales
    (2, [1.0, 1.0])
    """
    how = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(how, Recipe):
        msg = f"`recipe` must be a Recipe or a word, got {recipe!r} of type {type(recipe).__name__}."
        raise TypeError(msg)
    work = task if isinstance(task, Task) else _task(task)
    for name, value, low, high in (
        ("steps", steps, 1, 10**9), ("batch", batch, 1, len(work.x)), ("every", every, 1, 10**9),
        ("seed", seed, 0, 2**31 - 1),
    ):  # fmt: skip
        check_integer(name, value, low, high)
    rate = learning_rate_of(work.name, how.optimizer, learning_rate)
    return _Training(work, how, steps, batch, rate, seed, every).run()


def _task(name: str) -> Task:
    return task(name)


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no integer, or out of range.

    Parameters
    ----------
    name : str
        Of the argument.
    value : object
        What was given.
    low, high : int
        What it must lie within.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)


def learning_rate_of(name: str, optimizer: str, given: float | None) -> float:
    """Return the learning rate.

    Parameters
    ----------
    name, optimizer : str
        Of the task, and as in `Recipe`.
    given : float or None
        What was asked for.

    Returns
    -------
    float
        By default what suits them.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is not positive.
    """
    if given is None:
        return _RATES.get((name, optimizer), 1e-3)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        msg = f"`learning_rate` must be a number, got {given!r} of type {type(given).__name__}."
        raise TypeError(msg)
    if not 0 < given < math.inf:
        msg = f"`learning_rate` must be positive, got {given}."
        raise ValueError(msg)
    return float(given)


class _Training:
    """One run: its state, and what it has seen."""

    def __init__(self, work: Task, recipe: Recipe, steps: int, batch: int, rate: float, seed: int, every: int) -> None:
        self.work, self.recipe, self.steps, self.batch, self.rate, self.every = work, recipe, steps, batch, rate, every
        start = work.network.initial(np.random.default_rng([seed, 0]))
        self.batches = np.random.default_rng([seed, 1])
        self.optimizer = Optimizer(recipe, start, seed)
        self.how = Rounded(recipe)
        dynamic = recipe.loss_scale == "dynamic"
        self.dynamic = DynamicLossScale(growth_interval=_GROWTH_INTERVAL) if dynamic else None
        self.scale = self.dynamic.scale if self.dynamic else float(recipe.loss_scale)
        self.losses: list[float] = []
        self.scales: list[float] = []
        self.skipped = 0
        self.windows: list[float] = []
        self.underflow: list[list[float]] = []
        self.underflow_activations: list[list[float]] = []

    def run(self) -> TrainingRun:
        """Take all steps."""
        asked = lost = 0
        for step in range(self.steps):
            chosen = self.batches.permutation(len(self.work.x))[: self.batch]
            one, more = self.step(step, chosen)
            asked, lost = asked + one, lost + more
            if not math.isfinite(self.losses[-1]):
                break
            if (step + 1) % self.every == 0:
                self.windows.append(lost / asked if asked else 0.0)
                asked = lost = 0
        missing = self.steps - len(self.losses)
        return TrainingRun(
            self.recipe, self.losses + [math.nan] * missing,
            self.loss(self.recipe, self.work.x, self.work.targets),
            self.loss(self.recipe, self.work.test_x, self.work.test_targets),
            self.loss(Recipe(), self.work.test_x, self.work.test_targets),
            self.scales, self.skipped, self.windows, self.underflow, self.underflow_activations, self.every,
            self.optimizer.parameters,
        )  # fmt: skip

    def step(self, step: int, chosen: Array) -> tuple[int, int]:
        """Take one step; return how many updates were not zero, and how many of those were lost."""
        work, parameters = self.work, self.optimizer.parameters
        x, targets = work.x[chosen], work.targets[chosen]
        found = gradient(work.network, parameters, x, targets, self.how, self.scale)
        self.losses.append(found.loss)
        self.scales.append(self.scale)
        if step % self.every == 0 and math.isfinite(found.loss):
            self.measure(found, gradient(work.network, parameters, x, targets, Rounded(Recipe())))
        vector = found.vector * np.float32(1 / self.scale)
        if self.dynamic is not None:
            finite = bool(np.isfinite(vector).all())
            self.scale = self.dynamic.update(finite)
            if not finite:
                self.skipped += 1
                return 0, 0
        return self.optimizer.step(vector, self.rate * (1 - step / self.steps))

    def measure(self, found: Any, reference: Any) -> None:
        """Compare a gradient with that of fp32, layer by layer."""
        network = self.work.network
        pairs = zip(network.parts(found.vector), network.parts(reference.vector), strict=True)
        self.underflow.append([_share(*lost_share(one[0], other[0])) for one, other in pairs])
        both = zip(found.activations, reference.activations, strict=True)
        self.underflow_activations.append([_share(*lost_share(one, other)) for one, other in both])

    def loss(self, recipe: Recipe, x: Array, targets: Array) -> float:
        """Return the loss of all images by the forward pass of a recipe."""
        how = Rounded(recipe.with_(scales="current") if recipe.scales == "delayed" else recipe)
        with np.errstate(over="ignore", invalid="ignore"):
            output = self.work.network.forward(self.optimizer.parameters, x, how)[1]
        return self.work.network.loss_of(output, targets)


def _share(count: int, lost: int) -> float:
    """Return a share, 0 of nothing."""
    return lost / count if count else 0.0


class Training(Workload):
    """A network trained by recipes of mixed precision: the workload "training".

    Parameters
    ----------
    task : {"autoencoder", "classifier"}
        What is learnt, as in `train`.
    steps, batch : int
        As in `train`.
    learning_rate : float, optional
        As in `train`.
    seeds : int or sequence of int
        One run for each: its parts. An int n stands for 0 to n - 1.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `train`.

    Notes
    -----
    A setting is a `Recipe`, or its word. A record has what a run gives, means over the seeds, and the least and the
    largest of them: ``test_loss`` and the other losses; ``lost_updates`` of the second half of the steps; ``underflow``
    of all weights, mean over the steps measured, and for each layer ``underflow_layers``, ``underflow_activations``;
    ``loss_curve``, the mean of each window of steps that ends at ``steps``, and the curves ``lost_updates_curve`` and
    ``loss_scale_curve``, which is that of the first seed.
    """

    name = "training"
    metrics = (
        Metric("test_loss", "test loss", "", False, ".5f"),
        Metric("train_loss", "training loss", "", False, ".5f"),
        Metric("test_loss_fp32", "test loss, forward in fp32", "", False, ".5f"),
        Metric("lost_updates", "weight updates lost", "", False, ".1%"),
        Metric("underflow", "weight gradients lost", "", False, ".1%"),
        Metric("skipped_steps", "steps skipped", "", False, ".1f"),
        Metric("loss_curve", "training loss", "", False, ".5f"),
        Metric("lost_updates_curve", "weight updates lost", "", False, ".1%"),
    )

    def __init__(
        self,
        task: str = "autoencoder",
        *,
        steps: int = 800,
        batch: int = 128,
        learning_rate: float | None = None,
        seeds: int | Sequence[int] = 3,
    ) -> None:
        self._task = task
        work = _task(task)
        if isinstance(seeds, int):
            check_integer("seeds", seeds, 1, 10**4)
        chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
        for seed in chosen:
            check_integer("seeds", seed, 0, 2**31 - 1)
        if not chosen:
            msg = "`seeds` must not be empty."
            raise ValueError(msg)
        check_integer("steps", steps, 1, 10**9)
        check_integer("batch", batch, 1, len(work.x))
        learning_rate_of(task, "adam", learning_rate)
        self._every = max(1, steps // 50)
        self._seeds = chosen
        self._options = {"steps": steps, "batch": batch, "learning_rate": learning_rate}
        self.parts = tuple(f"seed {seed}" for seed in chosen)
        self.source = f"scikit-learn load_digits, {task}"

    def fingerprint(self) -> str:
        """Return a hash of the data, the network and the options."""
        return hashlib.sha256(repr((task(self._task).digest(), self._seeds, self._options)).encode()).hexdigest()

    def setting(self, word: str) -> Recipe:
        """Return the recipe of a word.

        Parameters
        ----------
        word : str
            As `Recipe.parse` knows it.

        Returns
        -------
        Recipe
            The setting.

        Raises
        ------
        ValueError
            If it is unknown.
        """
        return Recipe.parse(word)

    def default_settings(self) -> tuple[Any, ...]:
        """Return the recipes that a study runs if none are given."""
        return tuple(Recipe.parse(word) for word in _DEFAULT)

    def refuses(self, arithmetic: Any) -> str | None:
        """Say why a setting cannot run: it is no recipe."""
        if isinstance(arithmetic, Recipe):
            return None
        return f"training takes recipes, such as {', '.join(_DEFAULT[:3])}, or a Recipe"

    def evaluate(self, arithmetic: Any, part: int) -> dict[str, Any]:
        """Return what one seed gives.

        Parameters
        ----------
        arithmetic : Recipe
            How to train.
        part : int
            Index of the seed.

        Returns
        -------
        dict
            Numbers and lists.
        """
        run = train(arithmetic, task=self._task, seed=self._seeds[part], every=self._every, **self._options)
        every, count = self._every, len(run.losses) // self._every
        windows = [run.losses[at * every : (at + 1) * every] for at in range(count)]
        shares = [math.fsum(layer) / len(layer) for layer in zip(*run.underflow, strict=True)]
        weights = [
            k * n for k, n in zip(task(self._task).network.sizes, task(self._task).network.sizes[1:], strict=False)
        ]
        activations = [math.fsum(layer) / len(layer) for layer in zip(*run.underflow_activations, strict=True)]
        late = run.lost_updates[count // 2 :]
        return {
            "test_loss": run.test_loss,
            "train_loss": run.train_loss,
            "test_loss_fp32": run.test_loss_fp32,
            "lost_updates": math.fsum(late) / len(late) if late else math.nan,
            "underflow": math.fsum(s * w for s, w in zip(shares, weights, strict=True)) / sum(weights),
            "skipped_steps": run.skipped_steps,
            "steps": [(at + 1) * every for at in range(count)],
            "loss_curve": [mean_of(window) for window in windows],
            "lost_updates_curve": run.lost_updates + [math.nan] * (count - len(run.lost_updates)),
            "loss_scale_curve": run.loss_scales[every - 1 :: every],
            "underflow_layers": shares,
            "underflow_activations": activations,
        }

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a record's part: means, the least and the largest, of lists place by place."""
        record: dict[str, Any] = super().summarise(parts)
        record |= {"steps": parts[0]["steps"], "loss_scale_curve": parts[0]["loss_scale_curve"]}
        for name in ("loss_curve", "lost_updates_curve", "underflow_layers", "underflow_activations"):
            columns = list(zip(*(part[name] for part in parts), strict=True))
            record[name] = [mean_of(column) for column in columns]
            if len(parts) > 1:
                record[f"{name}_low"] = [least(column) for column in columns]
                record[f"{name}_high"] = [most(column) for column in columns]
        return record


def mean_of(values: Sequence[float]) -> float:
    """Return the mean, NaN where one value is not finite.

    Parameters
    ----------
    values : sequence of float
        At least one.

    Returns
    -------
    float
        ``math.fsum(values) / len(values)``.

    Raises
    ------
    Nothing.
    """
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
