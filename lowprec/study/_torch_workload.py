"""The workload ``torch:module:function``: a torch model of the user's, its products in any arithmetic."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._extras import require
from lowprec.nn import Arithmetic
from lowprec.study import _agreement
from lowprec.study._base import Metric, Workload, least, mean, most
from lowprec.study._onnx_inputs import integer

_REFERENCE = Arithmetic("fp32", scales="none")
_REFERENCE_BYTES = 1 << 28
_UNSUPPORTED = ("error", "native")
_PROTOCOL = "(model, batches) or (model, batches of (input, target), metric)"


class TorchWorkload(Workload):
    """A torch model and its batches, compared with the same model in float32.

    Parameters
    ----------
    spelled : str
        ``module:function``. The function takes no argument and returns ``(model, batches)``: a `torch.nn.Module` on the
        CPU, and an iterable of what it is called with, each a part: a tensor, a tuple or list of positional arguments,
        or a dict of named ones. Or it returns ``(model, batches, metric)``: batches are then pairs ``(input, target)``,
        and ``metric(output, target)`` is a number, of which the record has the mean over parts.
    batches : int, optional
        How many of the batches are evaluated; all if not given.
    calibration : {0, 1}
        Whether one more batch is set apart, for weight quantisers and criteria that ask for activations.
    seed : int
        Of torch's random numbers while the function runs, so that weights that it draws are the same again.
    skip : str or sequence of str
        Layers that torch runs itself, as in `lowprec.torch.emulate`.
    unsupported : {"error", "native"}
        Whether a product that cannot be emulated raises, or is run by torch and named in the record.

    Raises
    ------
    TypeError
        If the function needs arguments, or returns something else.
    ValueError
        If there is no such module or function, no batches, a model on another device, or a word is unknown.
    ImportError
        If torch is missing; ``pip install "lowprec[torch]"`` installs it.

    Notes
    -----
    Everything runs under `lowprec.torch.emulate`, without gradients and with one thread of torch's own, so that what it
    computes between products has the same bits whatever the number of threads; products have them anyway. A model in
    training mode is put into evaluation mode, which `source` says.
    """

    def __init__(
        self,
        spelled: str,
        *,
        batches: Any = None,
        calibration: Any = 0,
        seed: Any = 0,
        skip: Any = (),
        unsupported: str = "error",
    ) -> None:
        torch = require("torch", f"The workload 'torch:{spelled}'", "torch")
        self._how = (spelled, batches, calibration, seed, skip, unsupported)
        if unsupported not in _UNSUPPORTED:
            msg = f"`unsupported` must be one of {', '.join(_UNSUPPORTED)}, got {unsupported!r}."
            raise ValueError(msg)
        if integer(calibration, "calibration", 0) > 1:
            msg = f"`calibration` must be 0 or 1, a batch whose activations calibrate, got {calibration}."
            raise ValueError(msg)
        self.skip = [each.strip() for each in skip.split(",")] if isinstance(skip, str) else list(skip)
        self.unsupported = unsupported
        self.apart = integer(calibration, "calibration", 0)
        wanted = None if batches is None else integer(batches, "batches", 1)
        function, module_hash = _agreement.find_function(spelled, "workload")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(seed, "seed", 0))
            self.model, every, self.measure = _made(torch, function, spelled)
            self._batches = list(every if wanted is None else itertools.islice(every, wanted + self.apart))
        if len(self._batches) <= self.apart or (wanted is not None and len(self._batches) < wanted + self.apart):
            need = (wanted or 1) + self.apart
            msg = f"`workload` must have at least {need} batches, got {len(self._batches)} from {spelled}."
            raise ValueError(msg)
        trained = any(each.training for each in self.model.modules())
        self.model.eval()
        self.name = f"torch:{spelled}"
        self.parts = tuple(f"batch {index}" for index in range(len(self._batches) - self.apart))
        self._fingerprint = self._hash(torch, module_hash)
        self.source = f"{self.name}, {type(self.model).__name__}, state {self._fingerprint[:12]}"
        if trained:
            self.source += "; was in training mode, put into evaluation mode"
        self.metrics: tuple[Metric, ...] = _agreement.metrics(())
        if self.measure is not None:
            self.metrics = (_agreement.own_metric(self.measure), *self.metrics)
        self._lock = threading.RLock()
        self._references: OrderedDict[int, dict[str, Array]] = OrderedDict()
        self._checked = False

    def __reduce__(self) -> Any:
        """Travel by name: where it arrives the function is called again."""
        return _again, self._how

    def fingerprint(self) -> str:
        """Return a hash of the function's file, the model's classes, its state, the batches and torch's version."""
        return self._fingerprint

    def refuses(self, arithmetic: Arithmetic) -> str | None:
        """Say whether activations are asked for and no batch was set apart."""
        if arithmetic.needs_calibration and not self.apart:
            return "it needs activations of another batch; set one apart with calibration=1"
        return None

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return what decides the measures of one batch."""
        with self._lock:
            reference = self._reference(part)
            output, report, macs = self._run(arithmetic, part)
        numbers: dict[str, Any] = {
            "agreement": _agreement.compare(_arrays(output), reference),
            "macs": macs,
            "not_emulated": sorted({f"{row['operator']} in {row['layer'] or 'the model'}" for row in report.native}),
        }
        if self.measure is not None:
            name = _agreement.called(self.measure)
            numbers[name] = _agreement.number(self.measure(output, self._batches[part][1]), name)
        return numbers

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the measures of all batches together, and what was not emulated."""
        record: dict[str, Any] = {}
        if self.measure is not None:
            name = _agreement.called(self.measure)
            values = [part[name] for part in parts]
            record[name] = mean(values)
            if len(values) > 1:
                record |= {f"{name}_low": least(values), f"{name}_high": most(values)}
        record |= _agreement.summarise([part["agreement"] for part in parts])
        natives = sorted({each for part in parts for each in part["not_emulated"]})
        record["not_emulated"] = ", ".join(natives) or "none"
        record["macs"] = sum(part["macs"] for part in parts)
        return record

    # ------------------------------------------------------------------------------------------------------------ inner
    def _reference(self, part: int) -> dict[str, Array]:
        """Return the outputs of one batch in float32; the first time twice, to see that they stay the same."""
        if part in self._references:
            self._references.move_to_end(part)
            return self._references[part]
        found = _arrays(self._run(_REFERENCE, part)[0])
        if not self._checked:
            again = _arrays(self._run(_REFERENCE, part)[0])
            same = found.keys() == again.keys() and all(_equal(found[name], again[name]) for name in found)
            if not same:
                msg = (
                    f"`workload` must be deterministic; two runs of {self.name} on {self.parts[part]} differ in "
                    "evaluation mode: look for dropout or random numbers in its forward()."
                )
                raise ValueError(msg)
            self._checked = True
        self._references[part] = found
        held = sum(each.nbytes for outputs in self._references.values() for each in outputs.values())
        while held > _REFERENCE_BYTES and len(self._references) > 1:
            held -= sum(each.nbytes for each in self._references.popitem(last=False)[1].values())
        return found

    def _run(self, arithmetic: Arithmetic, part: int) -> tuple[Any, Any, int]:
        """Return what the model returns for one batch, the report of the emulation, and the multiply-adds."""
        torch = require("torch", "The workload", "torch")
        emulate = require("lowprec.torch", "The workload", "torch").emulate
        skip = [] if arithmetic is _REFERENCE else self.skip
        with _one_thread(torch), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.seed()  # another one for each run: what draws random numbers shows itself
            with emulate(arithmetic, skip=skip, unsupported=self.unsupported) as emulation:
                if arithmetic.needs_calibration:
                    self._call(len(self._batches) - 1)
                before = _macs(emulation.report)
                output = self._call(part)
        return output, emulation.report, _macs(emulation.report) - before

    def _call(self, index: int) -> Any:
        """Call the model with one batch."""
        batch = self._batches[index]
        given = batch if self.measure is None else batch[0]
        if isinstance(given, Mapping):
            return self.model(**given)
        if isinstance(given, (tuple, list)):
            return self.model(*given)
        return self.model(given)

    def _hash(self, torch: Any, module_hash: str) -> str:
        """Return the fingerprint."""
        digest = hashlib.sha256()
        count = len(self._batches) - self.apart
        words = (
            module_hash,
            f"torch {torch.__version__}",
            repr(self.model),
            self.unsupported,
            repr(self.skip),
            str(count),
        )
        digest.update("\n".join((self.name, *words, "version 1")).encode())
        kinds = {kind for module in self.model.modules() for kind in type(module).__mro__ if _is_users(kind)}
        own = {inspect.getsourcefile(kind) for kind in kinds}
        if inspect.isfunction(self.measure):
            own.add(inspect.getsourcefile(self.measure))
        for file in sorted(each for each in own if each is not None and Path(each).is_file()):
            digest.update(Path(file).read_bytes())
        state = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        for name, tensor in sorted(state.items()):
            digest.update(name.encode())
            _digest(tensor, digest)
        for batch in self._batches:
            _digest(batch, digest)
        return digest.hexdigest()


def _again(spelled: str, batches: Any, calibration: Any, seed: Any, skip: Any, unsupported: str) -> TorchWorkload:
    """Make a workload of what it was made of."""
    return TorchWorkload(
        spelled, batches=batches, calibration=calibration, seed=seed, skip=skip, unsupported=unsupported
    )


def _made(torch: Any, function: Any, spelled: str) -> tuple[Any, Iterable[Any], Any]:
    """Call the user's function and check what it returns."""
    needed = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if needed:
        msg = f"`workload` must name a function without arguments, got {spelled}, which needs {', '.join(needed)}."
        raise TypeError(msg)
    made = function()
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        size = f" of {len(made)}" if isinstance(made, tuple) else ""
        msg = f"`workload` must return {_PROTOCOL}; {spelled} returned a {type(made).__name__}{size}."
        raise TypeError(msg)
    model, batches, *more = made
    metric = more[0] if more else None
    if not isinstance(model, torch.nn.Module):
        msg = f"`workload` must return a torch.nn.Module first; {spelled} returned a {type(model).__name__}."
        raise TypeError(msg)
    if isinstance(batches, (torch.Tensor, str, Mapping)) or not isinstance(batches, Iterable):
        msg = f"`workload` must return an iterable of batches, such as [x]; {spelled} gave a {type(batches).__name__}."
        raise TypeError(msg)
    if metric is not None and not callable(metric):
        msg = f"`workload` must return a function metric(output, target) third, got a {type(metric).__name__}."
        raise TypeError(msg)
    where = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type != "cpu"}
    if where:
        msg = f"`workload` must return a model on the CPU, got one on {', '.join(sorted(where))}; call model.cpu()."
        raise ValueError(msg)
    return model, _pairs(batches, spelled) if metric is not None else batches, metric


def _pairs(batches: Iterable[Any], spelled: str) -> Iterator[Any]:
    """Check that batches have targets."""
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            msg = f"`workload` must return batches that are pairs (input, target) with a metric; {spelled} has others."
            raise TypeError(msg)
        yield batch


def _macs(report: Any) -> int:
    """Return the multiply-adds of a report."""
    return sum(row["macs"] for row in report.table)


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Let torch's own operators run in one thread, so that their sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arrays(output: Any, name: str = "output") -> dict[str, Array]:
    """Return all tensors of what a model returned, by name, as arrays."""
    found = _tensors(output, name)
    if not found:
        msg = f"`workload` must have a model that returns tensors, got a {type(output).__name__}."
        raise TypeError(msg)
    return found


def _tensors(output: Any, name: str) -> dict[str, Array]:
    """Return the tensors inside tuples, lists and dicts, named by their place."""
    if hasattr(output, "detach"):
        tensor = output.detach()
        wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor
        return {name: np.array(wide.numpy())}
    if isinstance(output, Mapping):
        places = [(str(key), value) for key, value in output.items()]
    elif isinstance(output, (tuple, list)):
        places = [(str(index), value) for index, value in enumerate(output)]
    else:
        return {}
    return {key: array for place, value in places for key, array in _tensors(value, f"{name} {place}").items()}


def _equal(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same bits."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _is_users(kind: type) -> bool:
    """Return whether a class is not torch's own and has a file."""
    if kind.__module__.partition(".")[0] == "torch":
        return False
    try:
        return inspect.getsourcefile(kind) is not None
    except TypeError:
        return False


def _digest(value: Any, digest: Any) -> None:
    """Add tensors, and what holds them, to a hash."""
    if hasattr(value, "detach"):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)};".encode())
        as_bytes = require("torch", "The workload", "torch").uint8
        digest.update(plain.reshape(-1).view(as_bytes).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, Mapping):
        for key in value:
            digest.update(f"{key!r}:".encode())
            _digest(value[key], digest)
    elif isinstance(value, (tuple, list)):
        digest.update(f"{type(value).__name__} {len(value)};".encode())
        for each in value:
            _digest(each, digest)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype} {value.shape};".encode() + value.tobytes())
    elif value is None or isinstance(value, (bool, int, float, str, bytes)):
        digest.update(f"{value!r};".encode())
    else:
        try:  # the repr of tables and of long arrays leaves out what is in the middle
            digest.update(pickle.dumps(value, protocol=5))
        except Exception:  # pickle raises of many kinds
            digest.update(f"{value!r};".encode())
