"""The workload ``ppocr``: PP-OCRv4's text recogniser on rendered lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowprec._fetch import locate
from lowprec.nn import Arithmetic
from lowprec.study import _ppocr_text as text
from lowprec.study._agreement import LARGEST, SQNR, TOP1
from lowprec.study._base import Metric, least, most
from lowprec.study._onnx_inputs import integer
from lowprec.study._onnx_workload import OnnxWorkload

FILE = "ch_PP-OCRv4_rec_infer.onnx"

_METRICS = (
    Metric("character_accuracy", "characters right", "", True, ".2%"),
    Metric("equal_lines", "lines as in fp32", "", True, ".1%"),
    SQNR,
    LARGEST,
    TOP1,
)


class PPOCR(OnnxWorkload):
    """PP-OCRv4's text recogniser on rendered lines: characters read right, lines read as in float32, and SQNR.

    Parameters
    ----------
    lines : int or str
        How many of the 40 lines are read; each is a part.
    calibration : int or str
        How many more of them are set apart for weight quantisers and criteria that ask for activations.

    Raises
    ------
    FileNotFoundError
        If the model is not there; the message says how to get it.
    ValueError
        If it is another file, or there are not so many lines.
    TypeError
        If a number is none.
    ImportError
        If onnx or matplotlib is missing; ``pip install "lowprec[onnx,study]"`` installs both.

    Notes
    -----
    A line is rendered in a face and a size that follow from its number, in DejaVu as matplotlib ships it. Its output,
    a class for each of 40 frames or more, becomes text by the best path of CTC. ``character_accuracy`` is 1 minus the
    edit distance to what was rendered over its length, at least 0, both summed over all lines; its low and high are
    those of single lines.
    """

    def __init__(self, *, lines: Any = 20, calibration: Any = 0) -> None:
        count, apart = integer(lines, "lines", 1), integer(calibration, "calibration", 0)
        if count + apart > len(text.LINES):
            msg = f"`lines` and `calibration` must be at most {len(text.LINES)} together, got {count} and {apart}."
            raise ValueError(msg)
        places = [*range(count), *range(len(text.LINES) - apart, len(text.LINES))]
        feeds = [{"x": text.render(text.LINES[place], place)} for place in places]
        super().__init__(locate("ppocr", FILE), inputs=feeds, calibration=apart)
        self.name = "ppocr"
        self.truth = text.LINES[:count]
        self.metrics = _METRICS
        self.parts = tuple(f"line {place}" for place in range(count))
        self.source = f"PP-OCRv4 recogniser (rapidocr-onnxruntime 1.4.4), {count} rendered lines; {self.operators}"

    def read(self, arithmetic: Arithmetic, part: int) -> str:
        """Return what the recogniser reads.

        Parameters
        ----------
        arithmetic : Arithmetic
            How its products are computed.
        part : int
            Index of the line.

        Returns
        -------
        str
            The text.

        Raises
        ------
        ValueError
            As `OnnxWorkload.run`.
        """
        return self._text(self.run(arithmetic, part))

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return what decides the measures of one line, and what was read."""
        found, numbers = self.measured(arithmetic, part)
        read = self._text(found)
        numbers["read"] = read
        numbers["wrong"] = text.distance(read, self.truth[part])
        numbers["characters"] = len(self.truth[part])
        numbers["equal"] = read == self._text(self.reference(part))
        return numbers

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the measures of all lines together."""
        wrong, characters = (sum(part[key] for part in parts) for key in ("wrong", "characters"))
        single = [max(0.0, 1 - part["wrong"] / part["characters"]) for part in parts]
        record: dict[str, Any] = {"character_accuracy": max(0.0, 1 - wrong / characters)}
        if len(parts) > 1:
            record |= {"character_accuracy_low": least(single), "character_accuracy_high": most(single)}
        record["equal_lines"] = sum(bool(part["equal"]) for part in parts) / len(parts)
        return record | super().summarise(parts)

    def default_settings(self) -> tuple[Arithmetic, ...]:
        """Return six formats that differ here."""
        return tuple(Arithmetic(name) for name in ("fp32", "fp16", "bf16", "e4m3fn", "int8", "mxfp8_e4m3"))

    def _text(self, outputs: dict[str, Any]) -> str:
        """Return the text of an output."""
        frames = outputs[self.model.outputs[0]]
        return text.decode(frames[0], text.alphabet(self.model.metadata, frames.shape[-1]))
