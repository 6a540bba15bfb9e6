"""The workload "data_parallel": training with compressed gradients, bytes against loss."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lowprec.study._base import Metric, Workload, least, most
from lowprec.study._compression import AllReduce, Compression
from lowprec.study._training_recipe import Recipe, check_integer
from lowprec.study._training_step import Optimizer, Rounded, gradient
from lowprec.study._training_task import Task, learning_rate_of, mean_of, seeds_of
from lowprec.study._training_task import task as task_of

_DEFAULT = (
    *("fp32", "fp16", "bf16", "bf16+ring", "e4m3fn", "e5m2", "int8", "int8/64"),
    *("int4", "int4+ef", "sign/64", "sign/64+ef"),
)


def train_parallel(
    compression: Compression,
    work: Task,
    *,
    workers: int = 4,
    optimizer: str = "sgd",
    steps: int = 600,
    batch: int = 128,
    learning_rate: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a network on several workers that exchange compressed gradients; each computes in fp32.

    Parameters
    ----------
    compression : Compression
        What is done to gradients on the wire.
    work : Task
        What is learnt.
    workers : int
        How many; each has ``batch / workers`` images of a step.
    optimizer : {"sgd", "adam"}
        As in `Recipe`.
    steps, batch, learning_rate, seed
        As in `train`.

    Returns
    -------
    dict
        ``losses`` of all steps, ``train_loss``, ``test_loss``, ``megabytes`` that each worker sent in all.

    Raises
    ------
    ValueError
        If workers do not divide the batch.
    """
    recipe = Recipe(optimizer=optimizer)
    rate = learning_rate_of(work.name, optimizer, learning_rate)
    opt = Optimizer(recipe, work.network.initial(np.random.default_rng([seed, 0])), seed)
    batches, how = np.random.default_rng([seed, 1]), Rounded(recipe)
    reduce = AllReduce(compression, workers, work.network.count)
    losses: list[float] = []
    for step in range(steps):
        chosen = batches.permutation(len(work.x))[:batch].reshape(workers, -1)
        found = [gradient(work.network, opt.parameters, work.x[own], work.targets[own], how) for own in chosen]
        losses.append(math.fsum(each.loss for each in found) / workers)
        if not math.isfinite(losses[-1]):
            break
        opt.step(reduce(np.stack([each.vector for each in found])), rate * (1 - step / steps))
    ends = []
    for x, targets in ((work.x, work.targets), (work.test_x, work.test_targets)):
        how.begin()
        ends.append(work.network.loss_of(work.network.forward(opt.parameters, x, how)[1], targets))
    sent = reduce.bytes_per_worker * steps / 1e6
    return {
        "losses": losses + [math.nan] * (steps - len(losses)), "train_loss": ends[0], "test_loss": ends[1],
        "megabytes": sent, "bytes_per_step": reduce.bytes_per_worker,
    }  # fmt: skip


class DataParallel(Workload):
    """Data-parallel training with compressed gradients: the workload "data_parallel".

    Parameters
    ----------
    task : {"classifier", "autoencoder"}
        As in `train`.
    workers : int
        How many; they divide `batch`.
    optimizer : {"sgd", "adam"}
        As in `Recipe`.
    steps, batch, learning_rate
        As in `train`.
    seeds : int or sequence of int
        One run for each: its parts. An int n stands for 0 to n - 1.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `train`.

    Notes
    -----
    A setting is a `Compression`, or its word. ``megabytes`` is what one worker sends in the whole run, in 10**6 bytes,
    scales and filling included.
    """

    name = "data_parallel"
    metrics = (
        Metric("train_loss", "training loss", "", False, ".5f"),
        Metric("test_loss", "test loss", "", False, ".5f"),
        Metric("megabytes", "sent by a worker", "MB", False, ".3f"),
        Metric("loss_curve", "training loss", "", False, ".5f"),
    )

    def __init__(
        self,
        task: str = "classifier",
        *,
        workers: int = 4,
        optimizer: str = "sgd",
        steps: int = 300,
        batch: int = 128,
        learning_rate: float | None = None,
        seeds: int | Sequence[int] = 3,
    ) -> None:
        work = task_of(task)
        Recipe(optimizer=optimizer)
        workers, steps = check_integer("workers", workers, 1, 10**4), check_integer("steps", steps, 1, 10**9)
        batch = check_integer("batch", batch, 1, len(work.x))
        if batch % workers:
            msg = f"`workers` must divide `batch`, got {workers} and {batch}."
            raise ValueError(msg)
        if learning_rate is not None:
            learning_rate = learning_rate_of(task, optimizer, learning_rate)
        chosen = seeds_of(seeds)
        self._task, self._seeds, self._every = task, chosen, max(1, steps // 50)
        self._options: dict[str, Any] = {
            "workers": workers, "optimizer": optimizer, "steps": steps, "batch": batch, "learning_rate": learning_rate,
        }  # fmt: skip
        self.parts = tuple(f"seed {seed}" for seed in chosen)
        self.source = f"scikit-learn load_digits, {task}, {workers} workers"

    def fingerprint(self) -> str:
        """Return a hash of the data, the network and the options."""
        return hashlib.sha256(repr((task_of(self._task).digest(), self._seeds, self._options)).encode()).hexdigest()

    def setting(self, word: str) -> Compression:
        """Return the compression of a word.

        Parameters
        ----------
        word : str
            As `Compression.parse` knows it.

        Returns
        -------
        Compression
            The setting.

        Raises
        ------
        ValueError
            If it is unknown.
        """
        return Compression.parse(word)

    def default_settings(self) -> tuple[Any, ...]:
        """Return the compressions that a study runs if none are given."""
        return tuple(Compression.parse(word) for word in _DEFAULT)

    def refuses(self, arithmetic: Any) -> str | None:
        """Say why a setting cannot run: it is no compression."""
        if isinstance(arithmetic, Compression):
            return None
        return "gradients on the wire take compressions, such as 'bf16' or 'int8/64+ef', or a Compression"

    def evaluate(self, arithmetic: Any, part: int) -> dict[str, Any]:
        """Return what one seed gives.

        Parameters
        ----------
        arithmetic : Compression
            What is done to gradients.
        part : int
            Index of the seed.

        Returns
        -------
        dict
            Numbers and lists.
        """
        found = train_parallel(arithmetic, task_of(self._task), seed=self._seeds[part], **self._options)
        losses, every = found.pop("losses"), self._every
        count = len(losses) // every
        curve = [mean_of(losses[at * every : (at + 1) * every]) for at in range(count)]
        return found | {"steps": [(at + 1) * every for at in range(count)], "loss_curve": curve}

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a record's part: means, the least and the largest, of the curve place by place."""
        record: dict[str, Any] = super().summarise(parts)
        columns = list(zip(*(part["loss_curve"] for part in parts), strict=True))
        record["loss_curve"] = [mean_of(column) for column in columns]
        if len(parts) > 1:
            record["loss_curve_low"] = [least(column) for column in columns]
            record["loss_curve_high"] = [most(column) for column in columns]
        return record
