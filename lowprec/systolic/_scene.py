"""What a picture of a cycle shows: the elements, what is about to enter them, and what has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lowprec._dataflows import DATAFLOWS

if TYPE_CHECKING:
    from lowprec.systolic._trace import Trace

_DEPTH = 8  # how far outside the array a scene looks at most

Names = list[list[str]]


class Scene(NamedTuple):
    """A cycle in words.

    Parameters
    ----------
    title : str
        Which cycle, and what for.
    cells : list of list of list of str
        For each row and column the names of what stays, of what moves and of the sum; empty for nothing.
    active : list of list of bool
        Which elements have done a step.
    west, north : list of list of str
        For each row, and each column, what enters in the next cycle, in the one after it, ...
    south : list of list of str
        For each column what left last, before it, ...
    """

    title: str
    cells: list[list[list[str]]]
    active: list[list[bool]]
    west: Names
    north: Names
    south: Names


def letters(dataflow: str) -> str:
    """Return the operands' names: first what stays or comes from above, then what comes from the left."""
    return {"ws": "bac", "is": "abc", "os": "bac"}[dataflow]


def depths(scenes: list[Scene]) -> tuple[int, int, int]:
    """Return how far some scenes look to the west, the north and the south."""
    west, north, south = (
        max((len(queue) for shown in scenes for queue in getattr(shown, side)), default=0)
        for side in ("west", "north", "south")
    )
    return west, north, south


def _trimmed(queues: Names) -> Names:
    """Return queues without the empty places at their ends."""
    for queue in queues:
        while queue and not queue[-1]:
            queue.pop()
    return queues


def scene(trace: Trace, cycle: int) -> Scene:
    """Return the scene of a cycle."""
    rows, cols = trace.size
    order = letters(trace.dataflow)
    names, moment = trace.names(cycle), trace.at(cycle)
    west: Names = [[] for _ in range(rows)]
    north: Names = [[] for _ in range(cols)]
    south: Names = [["" for _ in range(_DEPTH)] for _ in range(cols)]
    for ahead in range(1, _DEPTH + 1):
        if cycle + ahead >= len(trace):
            break
        later, phase = trace.names(cycle + ahead), trace.phases[cycle + ahead]
        for r in range(rows):
            west[r].append(later[r][0][order[1]])
        for c in range(cols):
            loading = trace.dataflow != "os" and phase == "fill" and moment.phase == "fill" and not trace.buffered
            comes = loading or trace.dataflow == "os"
            north[c].append(later[0][c][order[0]] if comes else "")
    wait = int(trace.dataflow != "os")  # what leaves after a cycle is still in the lowest row; drained sums are not
    for back in range(_DEPTH):
        if cycle - back - wait < 0:
            break
        for row, column in trace.at(cycle - back - wait).left.tolist():
            at = (row if trace.dataflow == "is" else column) % cols
            if trace.dataflow != "os" or trace.phases[-1] == "drain":
                south[at][back] = trace.name("c", row, column)
    title = f"{DATAFLOWS[trace.dataflow]}, cycle {cycle} of 0 to {len(trace) - 1}: {_WORDS[moment.phase]}"
    cells = [[[held[letter] for letter in order] for held in line] for line in names]
    return Scene(title, cells, moment.active.tolist(), _trimmed(west), _trimmed(north), _trimmed(south))


_WORDS = {"fill": "loading", "stream": "streaming", "drain": "draining"}
