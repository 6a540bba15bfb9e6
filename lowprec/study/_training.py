"""Train a network by a recipe of mixed precision, and see what each step loses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lowprec.study._training_network import Array
from lowprec.study._training_recipe import Recipe, check_integer
from lowprec.study._training_scale import DynamicLossScale
from lowprec.study._training_step import Optimizer, Rounded, gradient, lost_share
from lowprec.study._training_task import Task, learning_rate_of
from lowprec.study._training_task import task as task_of

_GROWTH_INTERVAL = 100


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

    Raises
    ------
    Nothing; `train` makes it.
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
    work = task if isinstance(task, Task) else task_of(task)
    steps, batch = check_integer("steps", steps, 1, 10**9), check_integer("batch", batch, 1, len(work.x))
    every, seed = check_integer("every", every, 1, 10**9), check_integer("seed", seed, 0, 2**31 - 1)
    rate = learning_rate_of(work.name, how.optimizer, learning_rate)
    return _Training(work, how, steps, batch, rate, seed, every).run()


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
