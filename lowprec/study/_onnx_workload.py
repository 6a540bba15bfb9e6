"""The workload ``onnx:FILE``: any ONNX model, its products in any arithmetic."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._extras import require
from lowprec.nn import Arithmetic
from lowprec.study import _agreement
from lowprec.study._base import Metric, Workload, least, mean, most
from lowprec.study._onnx_inputs import Feeds, make_feeds
from lowprec.study._onnx_model import Model, close, load, walk
from lowprec.study._onnx_operators import Tally, operators

_KEPT_RUNNERS = 2  # arithmetics whose prepared weights are kept
_REFERENCE_BYTES = 1 << 28
_CALIBRATION_BYTES = 1 << 28
_CALIBRATION_ROWS = 512  # of one part that go into one weight


class Runner:
    """A model in one arithmetic, with its weights made ready.

    Parameters
    ----------
    model : Model
        What is run.
    arithmetic : Arithmetic
        How its products are computed.
    calibration : callable, optional
        Gives the activations of a node by its label.

    Raises
    ------
    ValueError
        If onnx.reference cannot run the model.
    """

    def __init__(self, model: Model, arithmetic: Arithmetic, calibration: Callable[[str], Array] | None = None) -> None:
        evaluator = require("onnx.reference", "A model in an ONNX file", "onnx").ReferenceEvaluator
        self.tally = Tally()
        opset = next((each.version for each in model.proto.opset_import if each.domain in ("", "ai.onnx")), 1)
        replaced = operators(arithmetic, model.constants, self.tally, calibration, opset)
        self.outputs = model.outputs
        self._evaluator = evaluator(model.proto, new_ops=replaced)

    def __call__(self, feed: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
        """Return the outputs by name, and the multiply-adds by node."""
        self.tally.macs = {}
        with np.errstate(all="ignore"):  # what overflows in a format is measured, not warned of
            found = self._evaluator.run(None, dict(feed))
        return dict(zip(self.outputs, found, strict=True)), self.tally.macs


class OnnxWorkload(Workload):
    """A model in an ONNX file, compared with itself in float32.

    Parameters
    ----------
    path : str or path-like
        The file.
    inputs : str, path, mapping or sequence of mappings, optional
        An ``.npz`` file or a dict with an array for each input of the model, samples along the first axis; or a list
        with a dict for each part. Random numbers if not given.
    shapes : mapping or str, optional
        Of random inputs: ``{"x": (1, 3, 48, 320)}``, or of named axes, ``{"batch": 1}``; as text
        ``"x=1x3x48x320,sequence=16"``.
    ranges : mapping or str, optional
        Of random inputs: ``{"ids": (0, 1000)}``, ``"ids=0:1000"``. Floats are normally distributed if not given.
    samples : int, optional
        How many samples are evaluated: all that are given, or 4 random ones.
    batch : int, optional
        Samples per part: the length that the file states, or 1.
    seed : int
        Of random inputs.
    outputs : str or sequence of str, optional
        Names of the outputs to compare; all if not given.
    metric : str or callable, optional
        A measure of your own, ``"module:function"``: called with the outputs and the inputs of a part, dicts of arrays,
        and with the range of its samples; it returns a number, and the record has the mean over parts.
    calibration : int
        How many parts are set apart, the last ones, for weight quantisers and criteria that ask for activations.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    TypeError, ValueError
        If the file is no model that can be run, or an argument does not fit it: all before anything runs.
    ImportError
        If onnx is missing; ``pip install "lowprec[onnx]"`` installs it.

    Notes
    -----
    MatMul, Gemm, Conv and ConvTranspose of floats are computed by the arithmetic; everything else by onnx.reference, in
    the dtypes of the file. Operands that depend on no input are weights and are prepared once. The reference is the
    same model with ``Arithmetic("fp32", scales="none")``: float32 products summed in ascending order.
    """

    def __init__(
        self,
        path: Any,
        *,
        inputs: Any = None,
        shapes: Any = None,
        ranges: Any = None,
        samples: Any = None,
        batch: Any = None,
        seed: Any = 0,
        outputs: Any = None,
        metric: Any = None,
        calibration: Any = 0,
    ) -> None:
        self.model = load(path)
        self.feeds: Feeds = make_feeds(
            self.model.inputs, inputs, shapes=shapes, ranges=ranges, samples=samples, batch=batch, seed=seed,
            calibration=calibration,
        )  # fmt: skip
        self.name = f"onnx:{Path(self.model.path).name}"
        self.compared = _chosen(self.model.outputs, outputs)
        self.measure: Callable[..., Any] | None = None
        self._measure_hash = ""
        if metric is not None:
            self.measure, self._measure_hash = _measure(metric)
        self.metrics: tuple[Metric, ...] = _agreement.metrics(self.compared)
        if self.measure is not None:
            self.metrics = (_agreement.own_metric(self.measure), *self.metrics)
        self.parts = tuple(_part_name(span) for span in self.feeds.samples[: self.feeds.evaluated])
        self.source = f"{self.name} (sha256 {self.model.sha256[:12]}), {self.feeds.about}; {self.operators}"
        self._start()

    def _start(self) -> None:
        """Begin with nothing computed."""
        self._lock = threading.RLock()
        self._runners: OrderedDict[str, Runner] = OrderedDict()
        self._references: OrderedDict[int, dict[str, Array]] = OrderedDict()
        self._activations: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what can be computed again."""
        left = ("_lock", "_runners", "_references", "_activations")
        return {name: value for name, value in vars(self).items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing computed."""
        vars(self).update(state)
        self._start()

    @property
    def operators(self) -> str:
        """Which operators are emulated, which are products that are not, and which are run in the file's dtypes."""
        counts = Counter(node.op_type for node in walk(self.model.proto.graph))
        rest = [
            name for name in sorted(counts) if name not in (*self.model.products, *self.model.untouched, "Constant")
        ]
        words = ["emulated: " + _counted(self.model.products)]
        if self.model.untouched:
            words.append("products by onnx.reference, not emulated: " + _counted(self.model.untouched))
        if rest:
            words.append("by onnx.reference: " + ", ".join(rest))
        return "; ".join(words)

    def fingerprint(self) -> str:
        """Return a hash of the file, the inputs, the measure, and the version of onnx."""
        version = require("onnx", "A model in an ONNX file", "onnx").__version__
        parts = (type(self).__name__, self.model.sha256, self.feeds.digest, str(self.feeds.evaluated))
        text = "\n".join((*parts, " ".join(self.compared), self._measure_hash, f"onnx {version}", "version 1"))
        return hashlib.sha256(text.encode()).hexdigest()

    def refuses(self, arithmetic: Arithmetic) -> str | None:
        """Say whether activations are asked for and none were set apart."""
        if arithmetic.needs_calibration and len(self.feeds.every) == self.feeds.evaluated:
            return "it needs activations of other inputs; set some apart with calibration=4"
        if arithmetic.needs_calibration and "ConvTranspose" in self.model.products:
            return "it needs activations, which are not taken at ConvTranspose"
        return None

    def run(self, arithmetic: Arithmetic, part: int) -> dict[str, Array]:
        """Return the outputs of one part.

        Parameters
        ----------
        arithmetic : Arithmetic
            How products are computed.
        part : int
            Index into `parts`.

        Returns
        -------
        dict of str to ndarray
            All outputs of the model.

        Raises
        ------
        ValueError
            If a product cannot be formed: the node's shapes do not fit, or the accumulator refuses the formats.
        """
        return self._runner(arithmetic)(self.feeds.every[part])[0]

    def reference(self, part: int) -> dict[str, Array]:
        """Return the outputs of one part in float32.

        Parameters
        ----------
        part : int
            Index into `parts`.

        Returns
        -------
        dict of str to ndarray
            All outputs of the model.

        Raises
        ------
        ValueError
            As `run`.
        """
        with self._lock:
            if part in self._references:
                self._references.move_to_end(part)
                return self._references[part]
        found = self.run(_REFERENCE, part)
        with self._lock:
            self._references[part] = found
            held = sum(each.nbytes for outputs in self._references.values() for each in outputs.values())
            while held > _REFERENCE_BYTES and len(self._references) > 1:
                held -= sum(each.nbytes for each in self._references.popitem(last=False)[1].values())
        return found

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return what decides the measures of one part."""
        return self.measured(arithmetic, part)[1]

    def measured(self, arithmetic: Arithmetic, part: int) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the outputs of one part, and what decides its measures.

        Parameters
        ----------
        arithmetic : Arithmetic
            How products are computed.
        part : int
            Index into `parts`.

        Returns
        -------
        dict of str to ndarray, dict
            The outputs, and numbers that JSON holds.

        Raises
        ------
        TypeError, ValueError
            As `run`; or if a user's measure returns no number.
        """
        reference = self.reference(part)
        found, macs = self._runner(arithmetic)(self.feeds.every[part])
        pair = ({name: each[name] for name in self.compared} for each in (found, reference))
        numbers: dict[str, Any] = {"agreement": _agreement.compare(*pair), "macs": sum(macs.values())}
        if self.measure is not None:
            name = _agreement.called(self.measure)
            value = self.measure(found, dict(self.feeds.every[part]), self.feeds.samples[part])
            numbers[name] = _agreement.number(value, name)
        return found, numbers

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the measures of all parts together, and what was emulated."""
        record: dict[str, Any] = {}
        if self.measure is not None:
            record |= spread(_agreement.called(self.measure), [part[_agreement.called(self.measure)] for part in parts])
        record |= _agreement.summarise([part["agreement"] for part in parts])
        record["emulated"] = _counted(self.model.products)
        record["not_emulated"] = _counted(self.model.untouched)
        record["macs"] = sum(part["macs"] for part in parts)
        return record

    # ------------------------------------------------------------------------------------------------------------ inner
    def _runner(self, arithmetic: Arithmetic) -> Runner:
        """Return the model in an arithmetic, kept for the next part."""
        key = arithmetic.key()
        with self._lock:
            if key not in self._runners:
                ask = self._calibrate if arithmetic.needs_calibration else None
                self._runners[key] = Runner(self.model, arithmetic, ask)
            self._runners.move_to_end(key)
            found = self._runners[key]
            while len(self._runners) > _KEPT_RUNNERS:
                self._runners.popitem(last=False)
        return found

    def _calibrate(self, label: str) -> Array:
        """Return what goes into a node's weight in float32, on the parts that were set apart."""
        with self._lock:
            if label not in self._activations:
                self._activations = self._listen(label)
            if label not in self._activations:
                msg = f"`weights` cannot ask for activations at {label!r}: its weight has axes of its own in front."
                raise ValueError(msg)
            return self._activations[label]

    def _listen(self, first: str) -> dict[str, Array]:
        """Run the model in float32 and keep what goes into a weight, and into the next ones while there is room."""
        heard: dict[str, list[Array]] = {}
        room = _CALIBRATION_BYTES

        def listener(label: str, give: Callable[[], Array]) -> None:
            nonlocal room
            wanted = label in heard or label == first or (first in heard and room > 0 and not closed)
            if wanted:
                rows = give()
                count = rows.shape[-2]
                some = np.linspace(0, count - 1, min(count, _CALIBRATION_ROWS)).round().astype(int)
                heard.setdefault(label, []).append(np.ascontiguousarray(rows[..., some, :], np.float32))
                room -= heard[label][-1].nbytes

        closed = False  # after the first part no more nodes are taken
        runner = Runner(self.model, _REFERENCE)
        runner.tally.listener = listener
        for feed in self.feeds.every[self.feeds.evaluated :]:
            runner(feed)
            closed = True
        return {label: np.concatenate(parts, axis=-2) for label, parts in heard.items()}


_REFERENCE = Arithmetic("fp32", scales="none")


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return a mean over parts, with the least and the largest where there are several.

    Parameters
    ----------
    name : str
        Of the measure.
    values : sequence of float
        One for each part.

    Returns
    -------
    dict of str to float
        Under the name, and the name with ``_low`` and ``_high``.

    Raises
    ------
    Nothing.
    """
    record = {name: mean(values)}
    if len(values) > 1:
        record |= {f"{name}_low": least(values), f"{name}_high": most(values)}
    return record


def _chosen(own: tuple[str, ...], outputs: Any) -> tuple[str, ...]:
    """Return the outputs that are compared."""
    if outputs is None:
        return own
    names = [each.strip() for each in outputs.split(",")] if isinstance(outputs, str) else list(outputs)
    for name in names:
        if name not in own:
            msg = f"`outputs` must name outputs of the model, {', '.join(map(repr, own))}, got {name!r}"
            raise ValueError(msg + (close(str(name), own) or "."))
    if not names:
        msg = "`outputs` must name at least one output."
        raise ValueError(msg)
    return tuple(dict.fromkeys(names))


def _measure(metric: Any) -> tuple[Callable[..., Any], str]:
    """Return a user's measure and a hash of its text."""
    if not callable(metric):
        return _agreement.find_function(metric, "metric")
    module = getattr(metric, "__module__", None)
    return metric, _agreement.source_hash(metric, f"{module}.{_agreement.called(metric)}")


def _part_name(span: range) -> str:
    """Return what a part is called."""
    return f"sample {span.start}" if len(span) == 1 else f"samples {span.start} to {span.stop - 1}"


def _counted(counts: Mapping[str, int]) -> str:
    """Return names with their numbers."""
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "none"
