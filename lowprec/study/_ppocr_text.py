"""Lines of text as images, and a recogniser's frames as text again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowprec._checks import Array
from lowprec._extras import require

LINES = (
    "Pack my box with five",
    "dozen liquor jugs 0912",
    "Invoice 2024-0917",
    "Total 1,284.50 EUR",
    "Temperature 36.6 C",
    "at 07:45 on Monday",
    "Platform 9, seat 34A",
    "Departs 18:05 sharp",
    "3.14159 and 2.71828",
    "rounding to even",
    "a small error grows",
    "Open 9 am to 5 pm",
    "Call 0800 555 0199",
    "Fragile: keep dry",
    "Serial QX7-4418-ZB",
    "Batch 0063 of 2021",
    "Boils at 100 degrees",
    "Turn left, then right",
    "sixty shells, ashore",
    "Vol. 12, pp. 381-402",
    "Net weight 750 g",
    "Best before 30/11/27",
    "Do not switch off!",
    "Width 48, height 320",
    "The museum is closed",
    "Room 404 not found",
    "Two plus two is four",
    "Gate B17 in 20 min.",
    "Half a loaf of bread",
    "250 ml milk, 2 eggs",
    "Answer 42: next page",
    "Save 15% on books",
    "An exact sum has none",
    "Speed limit 80 km/h",
    "Copy no. 1,000,000",
    "Quiet: examination",
    "Version 4.3.1 (beta)",
    "Sphinx of black quartz",
    "jump, daft zebras",
    "Page 40, last line",
)
"""What is rendered unless told otherwise: letters, digits and punctuation in plain English."""

HEIGHT = 48
_LEAST_WIDTH = 320
_FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
_SIZES = (26, 20, 23, 17)
_MARGIN = 6


def render(text: str, style: int = 0) -> Array:
    """Return a line of text as the recogniser's input.

    Parameters
    ----------
    text : str
        One line.
    style : int
        Chooses among three faces of DejaVu (sans, serif, mono) and four sizes (26, 20, 23 and 17 pixels).

    Returns
    -------
    ndarray of float32, shape (1, 3, 48, width)
        Black on white, -1 for black and 1 for white, the three channels equal; at least 320 wide, filled up
        with zeros on the right as PP-OCR fills up.

    Raises
    ------
    ImportError
        If matplotlib, which has the font and brings Pillow, is missing.

    Notes
    -----
    The pixels depend on the versions of Pillow and of the FreeType in it: results of different installations compare
    only where the pixels are the same, and a study on disk is kept by their hash.

    Examples
    --------
    >>> from lowprec.study._ppocr_text import render
    >>> render("lowprec").shape
    (1, 3, 48, 320)
    """
    matplotlib = require("matplotlib", "Rendering lines of text", "study")
    image, draw, font = (require(f"PIL.{name}", "Rendering lines of text", "study") for name in _PILLOW)
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / _FONTS[style % len(_FONTS)]
    face = font.truetype(str(path), _SIZES[style % len(_SIZES)], layout_engine=font.Layout.BASIC)
    width = int(face.getlength(text)) + 2 * _MARGIN
    canvas = image.new("L", (width, HEIGHT), 255)
    draw.Draw(canvas).text((_MARGIN, HEIGHT // 2), text, fill=0, font=face, anchor="lm")
    pixels = np.asarray(canvas, np.float32) / np.float32(127.5) - np.float32(1)
    filled = np.zeros((1, 3, HEIGHT, max(width, _LEAST_WIDTH)), np.float32)
    filled[..., :width] = pixels
    return filled


_PILLOW = ("Image", "ImageDraw", "ImageFont")


def alphabet(metadata: dict[str, str], classes: int) -> tuple[str, ...]:
    r"""Return what the classes of a recogniser stand for.

    Parameters
    ----------
    metadata : dict of str to str
        Of the ONNX file; ``character`` holds one character per line.
    classes : int
        How many the model has.

    Returns
    -------
    tuple of str
        The blank, which is empty, the characters of the file, and the space.

    Raises
    ------
    ValueError
        If the file has no characters, or not as many as the model has classes.

    Examples
    --------
    >>> from lowprec.study._ppocr_text import alphabet
    >>> alphabet({"character": "a\nb"}, 4)
    ('', 'a', 'b', ' ')
    """
    known = ("", *metadata.get("character", "").split("\n"), " ")
    if len(known) == classes + 1 and not known[-2]:
        known = (*known[:-2], " ")  # a last line that ends as the others do
    if len(known) != classes:
        msg = (
            f"`workload` must name its {classes} classes in the file's metadata, got {len(known)} with blank and space."
        )
        raise ValueError(msg)
    return known


def decode(frames: Array, known: Sequence[str]) -> str:
    """Return the text of frames, by the best class of each.

    Parameters
    ----------
    frames : ndarray, shape (T, classes)
        Scores.
    known : sequence of str
        What the classes stand for; the first is the blank of CTC.

    Returns
    -------
    str
        Runs of one class are one character, and blanks are left out. A frame with NaN is a blank.

    Raises
    ------
    Nothing.

    References
    ----------
    Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2: best path decoding.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study._ppocr_text import decode
    >>> decode(np.eye(3)[[1, 1, 0, 1, 2]], ["", "a", "b"])
    'aab'
    """
    best = np.where(np.isnan(frames).any(axis=-1), 0, frames.argmax(axis=-1))
    first = np.ones(len(best), bool)
    first[1:] = best[1:] != best[:-1]
    return "".join(known[each] for each in best[first])


def distance(one: str, other: str) -> int:
    """Return Levenshtein's distance: the fewest characters put in, taken out or exchanged.

    Parameters
    ----------
    one, other : str
        Two texts.

    Returns
    -------
    int
        0 for equal texts.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> from lowprec.study._ppocr_text import distance
    >>> distance("kitten", "sitting")
    3
    """
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]
