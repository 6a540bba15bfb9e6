"""The bridge to torch: models that are not changed, run in low precision; fake quantisers; weights of few bits."""

from __future__ import annotations

from lowprec._extras import require

require("torch", "lowprec.torch", "torch")

from lowprec.torch._emulate import Emulation, emulate  # noqa: E402
from lowprec.torch._fake_quantize import FakeQuantize, fake_quantize  # noqa: E402
from lowprec.torch._master_weights import MasterWeights, master_weights  # noqa: E402
from lowprec.torch._operators import Operator, operators  # noqa: E402
from lowprec.torch._report import Report  # noqa: E402
from lowprec.torch._session import UnsupportedOperatorError  # noqa: E402

__all__ = [
    "Emulation",
    "FakeQuantize",
    "MasterWeights",
    "Operator",
    "Report",
    "UnsupportedOperatorError",
    "emulate",
    "fake_quantize",
    "master_weights",
    "operators",
]
