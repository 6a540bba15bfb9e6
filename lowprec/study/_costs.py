"""What the settings of a study cost: gates, bits and energy of their products, from `lowprec.cost`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from lowprec.cost._candidates import Candidate
from lowprec.cost._prices import Pricing, in_units

LANES = 32
"""Lanes of the dot unit that gates are counted in: the same for all settings, so that they are like for like."""
K = 1024
"""Products per sum of that unit."""
TABLE = "jouppi2021"
"""Where energies are from."""


class Prices(NamedTuple):
    """The columns that `lowprec.cost` adds to a record; None where it has no number.

    Parameters
    ----------
    family : str or None
        ``"float"``, ``"narrow"`` (a float with a scale), ``"integer"``, ``"block"`` or ``"stored"`` (weights alone).
    ge, ge_low, ge_high : float or None
        Gate equivalents per product of the dense matrices, of a lane of a dot unit, and their range.
    ge_unit : str or None
        What they are counted for.
    bits_per_weight : float or None
        Bits of a stored weight: scales, and what says which weights are kept, included.
    energy_pj : float or None
        Energy of a multiplication and an addition.
    """

    family: str | None = None
    ge: float | None = None
    ge_low: float | None = None
    ge_high: float | None = None
    ge_unit: str | None = None
    bits_per_weight: float | None = None
    energy_pj: float | None = None


COLUMNS = Prices._fields


def prices(setting: Any) -> tuple[Prices, str | None]:
    """Return what a setting of a study costs, and why what is missing is missing.

    Parameters
    ----------
    setting : Arithmetic or object
        What ran. One without an attribute `candidate` that is a `lowprec.cost.Candidate` has no price.

    Returns
    -------
    Prices
        Of the products; what decodes stored weights is not in the gates.
    str or None
        Why there are no gates.
    """
    candidate = getattr(setting, "candidate", None)
    if not isinstance(candidate, Candidate):
        return Prices(), None
    found, reason = _of(candidate)
    rule = getattr(setting, "weights", None)
    if rule is None:
        return found, reason
    bits = getattr(rule, "bits", None)  # None for a function, of which nobody knows
    if bits is not None and candidate.sparsity is not None:
        bits = None
    return found._replace(bits_per_weight=bits), reason


@lru_cache(maxsize=512)
def _of(candidate: Candidate) -> tuple[Prices, str | None]:
    """Return the prices of a candidate."""
    unit = in_units(candidate, "dot", LANES)
    reason = None
    ge = bits = energy = None
    try:
        ge = _pricing("ge").of(unit)
    except ValueError as error:
        reason = str(error).split(" has none: ", 1)[-1].split(" Leave it out", 1)[0]
    try:
        bits = float(_pricing("bits").of(candidate))
    except ValueError:
        bits = None
    try:
        energy = float(_pricing("energy").of(candidate))
    except ValueError:
        energy = None
    name = None if ge is None else f"dot{unit.lanes}" if unit.lanes else str(candidate.preset or "MAC")
    found = Prices(family=candidate.family, ge_unit=name, bits_per_weight=bits, energy_pj=energy)
    if ge is None:
        return found, reason
    return found._replace(ge=float(ge), ge_low=float(ge.low), ge_high=float(ge.high)), None


def _pricing(cost: str) -> Pricing:
    """Return how one of the costs is found."""
    return Pricing(cost, K, (1, K), "tensor", TABLE, False)
