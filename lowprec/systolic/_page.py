"""All cycles of a systolic array as one page, with a slider and buttons; nothing is loaded from elsewhere."""

from __future__ import annotations

import html
import json
from string import Template
from typing import TYPE_CHECKING

from lowprec._dataflows import DATAFLOWS
from lowprec._drawing import COLOURS
from lowprec.systolic._scene import depths, letters, scene

if TYPE_CHECKING:
    from lowprec.systolic._trace import Trace

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 14px sans-serif; margin: 1.5em; color: #222; background: #fff; }
table { border-collapse: separate; border-spacing: 3px; margin-top: 1em; }
td { width: 4.2em; height: 1.3em; text-align: center; font-size: 12px; white-space: nowrap; }
td.pe { height: 4.2em; border: 1px solid #8a8a8a; line-height: 1.35; }
td.works { background: #fdf3d8; }
.a { color: $ink_a; } .b { color: $ink_b; } .c { color: $ink_c; }
input[type=range] { width: 24em; vertical-align: middle; }
button { min-width: 3em; }
</style>
</head>
<body>
<h1>$title</h1>
<p>
<button id="back" type="button" aria-label="one cycle back">&#9664;</button>
<input id="cycle" type="range" min="0" max="$last" value="0" aria-label="cycle">
<button id="on" type="button" aria-label="one cycle on">&#9654;</button>
<button id="play" type="button">play</button>
</p>
<p id="caption" aria-live="polite"></p>
<div id="array"></div>
<p>In an element: <span class="$stays">$stays</span> and <span class="$moves">$moves</span> are multiplied and added
to the sum <span class="c">c</span> (shaded: a step was done in this cycle). To the left and above: what enters next.
Below: what has left. 0 is padding.</p>
<script>
const scenes = $scenes, letters = $letters, [west, north, south] = $depths;
const slider = document.getElementById("cycle");
const place = document.getElementById("array");
let timer = null;
function cell(row, text, letter, kind) {
  const td = row.insertCell();
  if (kind) td.className = kind;
  for (const [part, name] of [].concat(text).map((t, i) => [t, [].concat(letter)[i]])) {
    const line = document.createElement("div");
    line.className = name;
    line.textContent = part || (kind ? "\\u00a0" : "");
    td.appendChild(line);
  }
}
function show() {
  const s = scenes[+slider.value], rows = s.cells.length, cols = s.cells[0].length;
  const table = document.createElement("table");
  const outside = (queue, back, letter) => {
    const row = table.insertRow();
    for (let i = 0; i < west; i++) cell(row, "", "");
    for (let c = 0; c < cols; c++) cell(row, queue[c][back] || "", letter);
  };
  for (let d = north - 1; d >= 0; d--) outside(s.north, d, letters[0]);
  for (let r = 0; r < rows; r++) {
    const row = table.insertRow();
    for (let d = west - 1; d >= 0; d--) cell(row, s.west[r][d] || "", letters[1]);
    for (let c = 0; c < cols; c++) cell(row, s.cells[r][c], letters, s.active[r][c] ? "pe works" : "pe");
  }
  for (let d = 0; d < south; d++) outside(s.south, d, letters[2]);
  place.replaceChildren(table);
  document.getElementById("caption").textContent = s.title;
}
function step(by) {
  slider.value = Math.min(scenes.length - 1, Math.max(0, +slider.value + by));
  show();
}
function stop() {
  clearInterval(timer);
  timer = null;
  document.getElementById("play").textContent = "play";
}
slider.addEventListener("input", show);
document.getElementById("back").addEventListener("click", () => step(-1));
document.getElementById("on").addEventListener("click", () => step(1));
document.getElementById("play").addEventListener("click", (event) => {
  if (timer) { stop(); return; }
  if (+slider.value === scenes.length - 1) slider.value = 0;
  event.target.textContent = "stop";
  show();
  timer = setInterval(() => { step(1); if (+slider.value === scenes.length - 1) stop(); }, 800);
});
show();
</script>
</body>
</html>
""")


def page(trace: Trace) -> str:
    """Return the page.

    Parameters
    ----------
    trace : Trace
        What to show.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    Nothing.
    """
    (rows, cols), (m, k, n) = trace.size, trace.shape
    words = DATAFLOWS[trace.dataflow]
    scenes = [scene(trace, cycle) for cycle in range(len(trace))]
    order = letters(trace.dataflow)
    return _PAGE.substitute(
        title=html.escape(f"{rows} x {cols} systolic array, {words}: ({m}, {k}) x ({k}, {n})"),
        last=len(trace) - 1,
        stays=order[0],
        moves=order[1],
        letters=json.dumps(list(order)),
        depths=json.dumps(depths(scenes)),
        scenes=json.dumps([shown._asdict() for shown in scenes], separators=(",", ":")),
        **{f"ink_{letter}": COLOURS[place] for place, letter in enumerate("abc")},
    )
