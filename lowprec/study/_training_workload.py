"""The workload "training": a network trained by recipes of mixed precision, and what each of them loses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from lowprec.study._base import Metric, Workload, least, most
from lowprec.study._training import train
from lowprec.study._training_recipe import Recipe, check_integer
from lowprec.study._training_task import learning_rate_of, mean_of, seeds_of
from lowprec.study._training_task import task as task_of

_DEFAULT = ("fp32", "fp16", "fp16+static", "fp16+dynamic", "bf16", "bf16-pure", "bf16-pure+sr", "fp8-hybrid")


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
        work = task_of(task)
        chosen = seeds_of(seeds)
        steps, batch = check_integer("steps", steps, 1, 10**9), check_integer("batch", batch, 1, len(work.x))
        if learning_rate is not None:
            learning_rate = learning_rate_of(task, "adam", learning_rate)
        self._every = max(1, steps // 50)
        self._seeds = chosen
        self._options: dict[str, Any] = {"steps": steps, "batch": batch, "learning_rate": learning_rate}
        self.parts = tuple(f"seed {seed}" for seed in chosen)
        self.source = f"scikit-learn load_digits, {task}"

    def fingerprint(self) -> str:
        """Return a hash of the data, the network and the options."""
        return hashlib.sha256(repr((task_of(self._task).digest(), self._seeds, self._options)).encode()).hexdigest()

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
        weights = [weight.size for weight, _ in task_of(self._task).network.parts(run.parameters)]
        nothing = [[math.nan] * len(weights)]  # it diverged before anything was measured
        shares = [mean_of(layer) for layer in zip(*(run.underflow or nothing), strict=True)]
        activations = [mean_of(layer) for layer in zip(*(run.underflow_activations or nothing), strict=True)]
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
