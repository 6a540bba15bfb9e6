"""PP-OCRv4 on rendered lines: equal to onnxruntime in float32, and what decoding is."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np
import pytest

from lowprec.nn import Arithmetic
from lowprec.study import _ppocr_text as text
from lowprec.study import workload


def test_decoding_takes_runs_together_and_blanks_out() -> None:
    known = text.alphabet({"character": "a\nb\n"}, 4)
    assert known == ("", "a", "b", " ")
    frames = np.eye(4, dtype=np.float32)[[0, 1, 1, 0, 1, 3, 3, 2, 0]]
    assert text.decode(frames, known) == "aa b"
    frames[1] = np.nan  # a frame that is no number is a blank
    assert text.decode(frames, known) == "aa b"
    assert text.decode(frames[:0], known) == ""
    with pytest.raises(ValueError, match="5 classes"):
        text.alphabet({"character": "a\nb"}, 5)


@pytest.mark.parametrize(("one", "other", "wanted"), [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2)])
def test_distance(one: str, other: str, wanted: int) -> None:
    assert text.distance(one, other) == wanted


def test_rendered_lines_fit_the_recogniser() -> None:
    pytest.importorskip("matplotlib")
    assert len(set(text.LINES)) == 40
    for place, line in enumerate(text.LINES):
        image = text.render(line, place)
        assert image.shape[:3] == (1, 3, 48)
        assert image.shape[3] >= 320
        assert image.min() == -1
        assert image.max() == 1


@pytest.fixture(scope="module")
def study() -> Any:
    pytest.importorskip("onnx")
    if importlib.util.find_spec("rapidocr_onnxruntime") is None:
        pytest.skip("rapidocr-onnxruntime is not installed; pip install --no-deps rapidocr-onnxruntime==1.4.4")
    return workload("ppocr", lines=2)


@pytest.mark.oracles
def test_float32_is_that_of_onnxruntime(study: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(study.model.path, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, dict(study.feeds.every[0]))
    (found,) = study.reference(0).values()
    assert np.abs(found - wanted).max() < 2e-5


@pytest.mark.oracles
def test_lines_are_read(study: Any) -> None:
    numbers = [study.evaluate(Arithmetic("bf16"), part) for part in range(2)]
    assert [each["read"] for each in numbers] == list(text.LINES[:2])
    record = study.summarise(numbers)
    assert record["character_accuracy"] == 1
    assert record["equal_lines"] == 1
    assert 15 < record["sqnr_db"] < 60
    assert record["emulated"] == "MatMul 13, Conv 38"


@pytest.mark.oracles
def test_bad_numbers_of_lines() -> None:
    pytest.importorskip("onnx")
    for options in ({"lines": 41}, {"lines": 0}, {"lines": 40, "calibration": 1}, {"lines": "many"}):
        with pytest.raises(ValueError, match="`lines`"):
            workload("ppocr", **options)
