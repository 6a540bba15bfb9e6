"""Make the pictures of docs/study.md: ``PYTHONPATH=. python docs/make_study_plots.py``, a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

import lowprec as lp
from lowprec._drawing import STYLE
from lowprec.study import StudyResult, plots

IMAGES = Path(__file__).resolve().parent / "images"


def save(result: StudyResult, name: str, kind: str, dpi: int = 110, **choice: Any) -> None:
    """Draw a result with fewer dots than `StudyResult.plot`."""
    with mpl.rc_context(STYLE):
        plots.figure(result, kind, **choice).savefig(IMAGES / name, dpi=dpi)


def main() -> None:
    """Run the studies, or take what is kept of them, and draw."""
    digits = lp.study("digits")
    save(digits, "study.png", "bits")
    save(digits, "study_gates.png", "gates")
    formats, sums = ["bf16", "fp16", "e4m3fn"], ["fp32", "bf16", "fp16", "nvidia-hopper", "amd-cdna3"]
    grid = lp.study("matmul", formats, sums, scales="none", distribution="lognormal", K=4096)
    save(grid, "study_heatmap.png", "heatmap")
    save(lp.study("matmul"), "study_growth.png", "growth")


if __name__ == "__main__":
    main()
