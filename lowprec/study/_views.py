"""The table of a study as strings: which columns, how numbers are written, and what is said below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lowprec import _text_tables as tables
from lowprec.study._costs import COLUMNS, LANES

if TYPE_CHECKING:
    from lowprec.study.result import Record, StudyResult

_MOST_NAMED = 6


def view(result: StudyResult) -> tables.Table:
    """Return the columns that a reader needs.

    Parameters
    ----------
    result : StudyResult
        What to print.

    Returns
    -------
    Table
        One row for each record; where records of a setting differ by a number, such as K, one row for each setting
        and one column for each value, with the first measure in the cells.
    """
    axis = result.axis
    if axis is not None and len({record[axis] for record in result.table}) > 1:
        return _pivot(result, axis)
    scalars = [metric for metric in result.metrics if not is_curve(result.table, metric.name)]
    columns = ["<setting", "bits", "<sum in", "<scaled", *(f"<{name}" for name in result.axes)]
    ranges = [metric for metric in scalars[:1] if _has_spread(result.table, metric.name)]
    priced = any(record["ge"] is not None for record in result.table)
    for metric in scalars:
        columns += [heading(metric), *(["<lowest to highest"] if metric in ranges else [])]
    columns += ["GE"] * priced
    rows = []
    for record in result.table:
        cells = [str(record["label"]), _bits(record.get("bits")), str(record.get("accumulator", ""))]
        cells.append({True: "yes", False: "no"}.get(record.get("scaled"), ""))  # type: ignore[arg-type]
        cells += [str(record.get(name, "")) for name in result.axes]
        for metric in scalars:
            cells.append(text(record.get(metric.name), metric))
            if metric in ranges:
                low, high = (text(record.get(f"{metric.name}_{end}"), metric) for end in ("low", "high"))
                cells.append(f"{low} to {high}" if low else "")
        cells += [_gates(record["ge"])] * priced
        rows.append(cells)
    kept = [at for at in range(len(columns)) if at == 0 or any(row[at] for row in rows)]
    columns, rows = [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]
    optional: list[str] = [
        name for name in ("GE", "scaled", "sum in", "bits", "lowest to highest") if name in _plain(columns)
    ]
    optional += [heading(metric) for metric in reversed(scalars[2:]) if heading(metric) in _plain(columns)]
    return tables.Table(columns, rows, _title(result), result.notes, optional)


def _pivot(result: StudyResult, axis: str) -> tables.Table:
    """Return one row for each setting, one column for each value of an axis."""
    metric = result.metrics[0]
    values = list(dict.fromkeys(record[axis] for record in result.table))
    others = [name for name in result.axes if name != axis]
    cells: dict[tuple[str, ...], dict[Any, str]] = {}
    for record in result.table:
        place = (*(str(record.get(name, "")) for name in others), str(record["label"]))
        cells.setdefault(place, {})[record[axis]] = text(record.get(metric.name), metric)
    columns = [*(f"<{name}" for name in others), "<setting", *(f"{axis}={_bits(value)}" for value in values)]
    order = [list(dict.fromkeys(str(record.get(name, "")) for record in result.table)) for name in others]
    places = sorted(cells, key=lambda place: [names.index(word) for names, word in zip(order, place, strict=False)])
    rows = [[*place, *(cells[place].get(value, "") for value in values)] for place in places]
    for above, row in reversed(list(pairwise(rows))):
        for at in range(len(others)):
            if above[: at + 1] == row[: at + 1]:
                row[at] = ""
    optional = [f"{axis}={_bits(value)}" for value in values[1:-1]]
    return tables.Table(columns, rows, f"{_title(result)}: {_words(metric)}", result.notes, optional)


def _title(result: StudyResult) -> str:
    count = len(result.table)
    samples = result.samples
    more = "" if samples is None else f", {samples} samples"
    return f"{result.workload}: {count} {'run' if count == 1 else 'runs'}{more}"


def _words(metric: Any) -> str:
    better = "more" if metric.larger_is_better else "less"
    return f"{metric.label}{f' ({metric.unit})' if metric.unit else ''}, {better} is better"


def heading(metric: Any) -> str:
    """Return a measure as the heading of a column, cross-entropy as CE."""
    label = str(metric.label).replace("cross-entropy", "CE")
    return f"{label}/{metric.unit}" if metric.unit else label


def text(value: Any, metric: Any) -> str:
    """Return a number as its measure is printed; empty for None."""
    if value is None:
        return ""
    if not isinstance(value, (int, float)):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    written = format(value, metric.format)
    if value and not any(digit in written.partition("e")[0] for digit in "123456789"):
        return f"{value:.1e}"  # not zero, but it would look so
    return written


def is_curve(table: Sequence[Record], name: str) -> bool:
    """Say whether a measure is a list of numbers in some record."""
    return any(isinstance(record.get(name), (list, tuple)) for record in table)


def notes(result: StudyResult) -> tuple[str, ...]:
    """Return how to read the table: the workload's own sentences, those about its numbers, what was left out."""
    said = [*_accuracy(result), *result.workload_notes]
    scalars = [metric for metric in result.metrics if not is_curve(result.table, metric.name)]
    if scalars:
        said.append(_directions(scalars))
    if any("cross-entropy" in metric.label for metric in result.metrics):
        said.append("CE: mean cross-entropy.")
    if any(record.get("scaled") for record in result.table):
        said.append(
            "scaled: each tensor times a power of two so that its largest magnitude just fits the format, "
            "undone after the product; both exact."
        )
    if any(record["ge"] is not None for record in result.table):
        said.append(
            f"GE: gate equivalents per product, as a lane of a dot unit of {LANES} (presets: of their own), "
            "by the closed forms of lp.cost."
        )
        lost = list(dict.fromkeys(record["label"] for record in result.table if record["ge"] is None))
        if lost:
            said.append(f"No model of gates for {listed(lost)}.")
        unpowered = dict.fromkeys(record["label"] for record in result.table if record["energy_pj"] is None)
        if len(unpowered) < len({record["label"] for record in result.table}):
            said.append(f"No published energy for {listed(list(unpowered))}." if unpowered else "")
    reasons: dict[str, list[str]] = {}
    for label, reason in result.skipped:
        reasons.setdefault(reason, []).append(label)
    said += [f"Skipped {listed(labels)}: {reason}" for reason, labels in reasons.items()]
    return tuple(sentence for sentence in said if sentence)


def _directions(metrics: Sequence[Any]) -> str:
    """Say which way measures are good."""
    more, less = (
        [heading(metric).partition("/")[0] for metric in metrics if metric.larger_is_better == up]
        for up in (True, False)
    )
    parts = [f"more is better: {', '.join(more)}"] * bool(more) + [f"less is better: {', '.join(less)}"] * bool(less)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def listed(names: Iterable[str]) -> str:
    """Return names with commas, or with semicolons if they have commas, the last ones counted where there are many."""
    found = list(names)
    stop = "; " if any("," in name for name in found) else ", "
    if len(found) > _MOST_NAMED:
        return f"{stop.join(found[: _MOST_NAMED - 1])} and {len(found) - _MOST_NAMED + 1} more"
    return stop.join(found)


def _accuracy(result: StudyResult) -> list[str]:
    """Say, with the numbers of the table, why accuracy is not enough."""
    rows = [record for record in result.table if {"accuracy", "sqnr_db"} <= set(record)]
    if not rows or result.samples is None:
        return []
    shares = [row["accuracy"] for row in rows]
    commonest = max(shares, key=lambda share: (shares.count(share), share))
    alike = [row["sqnr_db"] for row in rows if row["accuracy"] == commonest]
    start = "Accuracy alone cannot tell formats apart: "
    if len(alike) > 1:
        return [
            f"{start}{len(alike)} of {len(shares)} rows have the accuracy {commonest:.2%}, "
            f"while their SQNR runs from {min(alike):.1f} to {max(alike):.1f} dB."
        ]
    return [f"{start}one sample in {result.samples} is {1 / result.samples:.2%}, so small errors do not show in it."]


def axes_of(table: Sequence[Record], metrics: Sequence[Any]) -> tuple[str, ...]:
    """Return the columns by which the records of one setting differ, other than by what was measured."""
    groups: dict[Any, list[Record]] = {}
    for record in table:
        groups.setdefault(record["label"], []).append(record)
    measured = {metric.name for metric in metrics}
    measured |= {f"{name}_{end}" for name in measured for end in ("low", "high")}
    own = ("workload", "format", "bits", "accumulator", "scales", "weights", "activations", "sparsity", "seed")
    columns = [name for name in table[0] if name not in measured and name not in COLUMNS and name not in own]
    return tuple(
        name
        for name in columns
        if any(len({_key(record.get(name)) for record in rows}) > 1 for rows in groups.values())
    )


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _has_spread(table: Sequence[Record], name: str) -> bool:
    return any(record.get(f"{name}_low") is not None for record in table)


def _bits(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _gates(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _plain(columns: Sequence[str]) -> list[str]:
    return [column.removeprefix("<") for column in columns]
