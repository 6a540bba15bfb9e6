"""Accuracy-versus-precision studies: ``lp.study("digits")``.

This package is its own function: ``lowprec.study(...)`` is `lowprec.study.study`, so that the name which imports the
package and the name which runs a study can be one. It imports scikit-learn, matplotlib, rich and tqdm only when they
are used.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

from lowprec._fetch import fetch
from lowprec.study._base import Metric, Workload
from lowprec.study._compression import AllReduce, Compression
from lowprec.study._registry import workload
from lowprec.study._training import TrainingRun, train
from lowprec.study._training_recipe import Recipe, recipes
from lowprec.study._training_scale import DynamicLossScale
from lowprec.study.result import Record, StudyResult
from lowprec.study.sweep import study
from lowprec.study.workloads import MLP, Forward

__all__ = [
    "MLP",
    "AllReduce",
    "Compression",
    "DynamicLossScale",
    "Forward",
    "Metric",
    "Recipe",
    "Record",
    "StudyResult",
    "TrainingRun",
    "Workload",
    "fetch",
    "recipes",
    "study",
    "train",
    "workload",
]


class _CallablePackage(ModuleType):
    """A module that calls its function `study` when it is called."""

    __call__ = staticmethod(study)


sys.modules[__name__].__class__ = _CallablePackage
__doc__ = study.__doc__ or ""  # what help() and editors show for `lowprec.study`; as is the signature:
__signature__ = inspect.signature(study)
