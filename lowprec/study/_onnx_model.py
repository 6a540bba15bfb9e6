"""An ONNX file, read and checked before anything runs: its inputs, its constants, and its products."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowprec._extras import require

EMULATED = ("MatMul", "Gemm", "Conv", "ConvTranspose")
"""Operators whose products an arithmetic computes."""

PRODUCTS = (
    *("Attention", "CausalConvWithState", "ConvInteger", "DeformConv", "Einsum", "GRU", "LSTM"),
    *("LinearAttention", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN"),
)
"""Operators that form products as well and are run as onnx.reference runs them."""

_DRAWN = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_FIRST_BATCH_NORMALIZATION = 7


@dataclass(frozen=True)
class Input:
    """One input of a model: what it takes.

    Parameters
    ----------
    name : str
        Its name.
    dtype : numpy.dtype
        Of its elements.
    shape : tuple of int, str or None, or None
        Its axes: a length, the name of a length that is open, or None for one without a name; None altogether where
        the file does not say.
    """

    name: str
    dtype: Any
    shape: tuple[int | str | None, ...] | None

    @property
    def spelled(self) -> str:
        """The shape in words, such as ``(batch, 3, 48, ?)``."""
        if self.shape is None:
            return "of any shape"
        return f"({', '.join('?' if length is None else str(length) for length in self.shape)})"


@dataclass(frozen=True, eq=False)
class Model:
    """A model that can be run.

    Parameters
    ----------
    path : str
        Where the file is.
    sha256 : str
        Of the file and of the files that hold its large tensors, in hexadecimal.
    proto : onnx.ModelProto
        With all tensors, and the model's own functions put in place of their calls.
    inputs : tuple of Input
        What has to be given.
    outputs : tuple of str
        Names.
    constants : frozenset of str
        Values that depend on no input: weights, where they are an operand of a product.
    products : dict of str to int
        How many nodes of each operator are emulated.
    untouched : dict of str to int
        How many nodes form products and are not emulated.
    metadata : dict of str to str
        What the file says about itself.
    """

    path: str
    sha256: str
    proto: Any
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    constants: frozenset[str]
    products: dict[str, int]
    untouched: dict[str, int]
    metadata: dict[str, str]


def load(path: Any) -> Model:
    """Read an ONNX file and check that it can be run.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Model
        Ready to run.

    Raises
    ------
    FileNotFoundError
        If the file, or one that holds its large tensors, is not there.
    ValueError
        If it is not an ONNX file, is cut short, breaks ONNX's rules, is of an opset that the installed onnx does not
        know, has operators that onnx.reference cannot run (all are named), or no product that can be emulated.
    ImportError
        If onnx is missing; ``pip install "lowprec[onnx]"`` installs it.

    Examples
    --------
    >>> from lowprec.study._onnx_model import load
    >>> load("nothing.onnx")
    Traceback (most recent call last):
        ...
    FileNotFoundError: `workload` must name an ONNX file, got 'nothing.onnx', which is not there.
    """
    file = Path(path)
    if not file.is_file():
        what = "which is a folder" if file.is_dir() else "which is not there"
        msg = f"`workload` must name an ONNX file, got {str(path)!r}, {what}."
        raise FileNotFoundError(msg)
    onnx = require("onnx", "A model in an ONNX file", "onnx")
    content = file.read_bytes()
    proto = _parse(onnx, content, file)
    digest = hashlib.sha256(content)
    _load_external(onnx, proto, file, digest)
    _check_opsets(onnx, proto, file)
    if proto.functions:
        proto = require("onnx.inliner", "A model in an ONNX file", "onnx").inline_local_functions(proto)
    _check_operators(onnx, proto, file)
    counts = Counter(node.op_type for node in walk(proto.graph) if node.domain in ("", "ai.onnx"))
    products = {name: counts[name] for name in EMULATED if counts[name]}
    untouched = {name: counts[name] for name in PRODUCTS if counts[name]}
    if not products:
        msg = (
            f"`workload` must be a model with at least one of {', '.join(EMULATED)}, which are emulated; {file.name!r} "
            f"has {', '.join(sorted(counts)) or 'no operators'}."
        )
        raise ValueError(msg)
    held = {each.name for each in (*proto.graph.initializer,)} | {
        each.values.name for each in proto.graph.sparse_initializer
    }
    inputs = tuple(_input(onnx, each, file) for each in proto.graph.input if each.name not in held)
    return Model(
        str(file),
        digest.hexdigest(),
        proto,
        inputs,
        tuple(each.name for each in proto.graph.output),
        _constants(proto.graph, held),
        products,
        untouched,
        {each.key: each.value for each in proto.metadata_props},
    )


def walk(graph: Any) -> Iterator[Any]:
    """Yield every node of a graph and of the graphs inside its nodes.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph.

    Yields
    ------
    onnx.NodeProto
        In the order of the file, a node before those inside it.

    Raises
    ------
    Nothing.
    """
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ((attribute.g,) if attribute.HasField("g") else ()) + tuple(attribute.graphs):
                yield from walk(inner)


def _parse(onnx: Any, content: bytes, file: Path) -> Any:
    """Return the model of a file's bytes."""
    decode_error = require("google.protobuf.message", "A model in an ONNX file", "onnx").DecodeError
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (decode_error, ValueError):
        why = "it is empty" if not content else "it is of another kind or cut short"
        msg = f"`workload` must name an ONNX file, got {str(file)!r}, which cannot be read as one: {why}."
        raise ValueError(msg) from None
    if not (proto.ir_version and proto.opset_import and proto.graph.node):
        lacks = "operator sets" if proto.graph.node else "a graph"
        msg = f"`workload` must name an ONNX file, got {str(file)!r}, which holds no model: it lacks {lacks}."
        raise ValueError(msg)
    return proto


def _load_external(onnx: Any, proto: Any, file: Path, digest: Any) -> None:
    """Read the tensors that lie in files of their own, and say which are missing."""
    helper = require("onnx.external_data_helper", "A model in an ONNX file", "onnx")
    tensors = [each for each in helper._get_all_tensors(proto) if helper.uses_external_data(each)]
    places = sorted({helper.ExternalDataInfo(each).location for each in tensors})
    for place in places:
        beside = file.parent / place
        if not beside.is_file():
            msg = f"`workload` must have its tensors beside it: {str(file)!r} keeps some in {place!r}, not there."
            raise FileNotFoundError(msg)
        with beside.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    for tensor in tensors:
        try:
            helper.load_external_data_for_tensor(tensor, str(file.parent))
            onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # onnx raises of many kinds for files that are short or lie elsewhere
            msg = f"`workload` has a tensor {tensor.name!r} in another file that cannot be read: {_line(error)}."
            raise ValueError(msg) from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _check_opsets(onnx: Any, proto: Any, file: Path) -> None:
    """Refuse operator sets that the installed onnx does not know, and files that break ONNX's rules."""
    newest = onnx.defs.onnx_opset_version()
    for each in proto.opset_import:
        if each.domain in ("", "ai.onnx") and not 1 <= each.version <= newest:
            msg = (
                f"`workload` must be of opset 1 to {newest}, which the installed onnx {onnx.__version__} knows; "
                f"{file.name!r} is of opset {each.version}."
            )
            raise ValueError(msg)
    for each in proto.graph.output:
        if each.type.HasField("tensor_type"):
            each.type.tensor_type.shape.SetInParent()  # onnx.checker wants one, which nothing here needs
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, or what protobuf raises of models over two gigabytes
        if not isinstance(error, onnx.checker.ValidationError):
            return
        msg = f"`workload` must follow ONNX's rules; of {file.name!r} onnx.checker says: {_line(error)}"
        raise ValueError(msg) from None


def _check_operators(onnx: Any, proto: Any, file: Path) -> None:
    """Refuse operators that onnx.reference cannot run, all of them at once."""
    find = require("onnx.reference.ops", "A model in an ONNX file", "onnx").load_op
    undecided = require("onnx.reference.op_run", "A model in an ONNX file", "onnx").RuntimeContextError
    versions = {each.domain: each.version for each in proto.opset_import}
    missing: dict[str, int] = {}
    for node in walk(proto.graph):
        word = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        if node.domain in ("ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"):
            continue
        if word in EMULATED:
            continue
        if word in _DRAWN and not any(each.name == "seed" for each in node.attribute):
            msg = (
                f"`workload` must give the same numbers twice; {file.name!r} draws random ones in {word} without a "
                "`seed`; export the model for inference, or give the operator a seed."
            )
            raise ValueError(msg)
        if word == "BatchNormalization" and versions.get("", 1) < _FIRST_BATCH_NORMALIZATION:
            missing[f"{word} of opset {versions.get('', 1)}"] = 1
            continue
        try:
            find(node.domain, node.op_type, versions.get(node.domain, versions.get("", 1)))
        except undecided:
            continue
        except Exception:  # load_op raises of many kinds for what it has not
            missing[word] = missing.get(word, 0) + 1
    if missing:
        msg = (
            f"`workload` must have operators that onnx.reference runs; {file.name!r} has "
            f"{', '.join(sorted(missing))}, which it cannot. Emulated are {', '.join(EMULATED)}; export the model "
            "without fused or custom operators."
        )
        raise ValueError(msg)


def _input(onnx: Any, value: Any, file: Path) -> Input:
    """Return what an input takes."""
    if not value.type.HasField("tensor_type"):
        msg = f"`workload` must take tensors alone; input {value.name!r} of {file.name!r} is of another type."
        raise ValueError(msg)
    tensor = value.type.tensor_type
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        # Exporters write 0, -1 or "?" for a length that is open.
        shape = tuple(
            each.dim_value if each.dim_value > 0 else (each.dim_param if each.dim_param.strip("? ") else None)
            for each in tensor.shape.dim
        )
    return Input(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)


def _constants(graph: Any, held: set[str]) -> frozenset[str]:
    """Return the values of a graph that depend on no input; those inside its inner graphs too."""
    known = set(held)

    def look(inner: Any) -> None:
        known.update(each.name for each in inner.initializer)
        for node in inner.node:
            graphs = [each for each in node.attribute if each.HasField("g") or each.graphs]
            for attribute in graphs:
                for one in ((attribute.g,) if attribute.HasField("g") else ()) + tuple(attribute.graphs):
                    look(one)
            if not graphs and node.op_type not in _DRAWN and all(name in known for name in node.input if name):
                known.update(node.output)

    look(graph)
    return frozenset(known)


def close(name: str, known: Any) -> str:
    """Return a hint at the names that are close to one that is unknown, empty if there are none.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        Those that are known.

    Returns
    -------
    str
        Such as ``"; did you mean 'x'?"``.

    Raises
    ------
    Nothing.
    """
    near = difflib.get_close_matches(name, list(known), 3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _line(error: Exception) -> str:
    """Return an error of another library as one line."""
    return " ".join(str(error).split()) or type(error).__name__
