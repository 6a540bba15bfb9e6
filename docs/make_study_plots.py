"""Make the pictures of docs/study.md: ``PYTHONPATH=. python docs/make_study_plots.py``, a few minutes."""

from __future__ import annotations

from pathlib import Path

import lowprec as lp

IMAGES = Path(__file__).resolve().parent / "images"


def main() -> None:
    """Run the studies, or take what is kept of them, and draw."""
    lp.study("matmul").plot(IMAGES / "study_growth.png", "growth")
    digits = lp.study("digits")
    digits.plot(IMAGES / "study.png", "bits")
    digits.plot(IMAGES / "study_gates.png", "gates")
    formats, sums = ["bf16", "fp16", "e4m3fn"], ["fp32", "bf16", "fp16", "nvidia-hopper", "amd-cdna3"]
    grid = lp.study("matmul", formats, sums, scales="none", distribution="lognormal", K=4096)
    grid.plot(IMAGES / "study_heatmap.png", "heatmap")


if __name__ == "__main__":
    main()
