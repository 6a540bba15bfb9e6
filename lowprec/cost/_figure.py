"""A number that says what it is: its unit, how it was come by, from where, and how far off it may be."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

Kind = Literal["exact count", "closed form", "synthesised", "published", "measured", "interpolated"]
KINDS: tuple[str, ...] = get_args(Kind)


class Figure(float):
    """A float that carries its unit, its kind, its source and its range.

    It computes as a float does: the result of arithmetic is a plain float, since nobody has said what it is.

    Parameters
    ----------
    value : float
        The number.
    unit : str
        Such as ``"GE"``, ``"um2"``, ``"pJ"``, ``"bit"``, ``"cycles"``, ``"op/s"``; ``""`` for a ratio.
    kind : str
        How it was come by: ``"exact count"`` (equal to what is counted), ``"closed form"`` (a formula, off by as much
        as `low` and `high` say), ``"synthesised"`` (gates of a synthesis run), ``"published"`` (somebody else's
        number), ``"measured"`` (on a machine, by this package), ``"interpolated"`` (between published numbers).
    source : str
        Where the formula or the number is from.
    low, high : float, optional
        Between which numbers the truth is expected; the number itself if not given.

    Raises
    ------
    ValueError
        If the kind is unknown, or the number does not lie between `low` and `high`.

    Examples
    --------
    >>> area = Figure(282.0, "um2", "published", "horowitz2014", low=141.0, high=564.0)
    >>> area, area / 2, area.unit
    (Figure(282, 'um2', 'published', 'horowitz2014', low=141, high=564), 141.0, 'um2')
    >>> print(area)
    282 um2 (141 to 564, published)
    """

    __slots__ = ("high", "kind", "low", "source", "unit")

    unit: str
    kind: Kind
    source: str
    low: float
    high: float

    def __new__(
        cls, value: float, unit: str, kind: Kind, source: str = "", low: float | None = None, high: float | None = None
    ) -> Self:
        """Make a float, and check what is said of it."""
        self = super().__new__(cls, value)
        low, high = float(value if low is None else low), float(value if high is None else high)
        if kind not in KINDS:
            msg = f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}."
            raise ValueError(msg)
        if not low <= value <= high:
            msg = f"`low` and `high` must lie around the value {value:g}, got {low:g} and {high:g}."
            raise ValueError(msg)
        for name, what in (("unit", unit), ("kind", kind), ("source", source), ("low", low), ("high", high)):
            object.__setattr__(self, name, what)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: a figure does not change."""
        msg = f"a Figure is read-only; `{name}` cannot be set."
        raise AttributeError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by what it was made of."""
        return type(self), (float(self), self.unit, self.kind, self.source, self.low, self.high)

    def __repr__(self) -> str:
        """Return the call that makes it, numbers shortened."""
        around = "" if self.low == self.high else f", low={self.low:.6g}, high={self.high:.6g}"
        return f"Figure({float(self):.6g}, {self.unit!r}, {self.kind!r}, {self.source!r}{around})"

    def __str__(self) -> str:
        """Return the number with its unit, its range and its kind."""
        around = "" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}, "
        return f"{float(self):.6g}{' ' * bool(self.unit)}{self.unit} ({around}{self.kind})"
