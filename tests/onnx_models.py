"""One-operator ONNX models and their results in onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]


def load() -> tuple[Any, Any]:
    """Return onnx and onnxruntime, which talk while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx
        import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    return onnx, onnxruntime


def session(model: Any) -> Any:
    """Return a session that runs the model as it is written."""
    _, onnxruntime = load()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[str],
    *,
    domain: str = "",
    **attributes: Any,
) -> list[Array]:
    """Run one operator on constants; ``outputs`` are the dtypes of its results, int4 and uint4 among them."""
    onnx, _ = load()
    helper, numbers = onnx.helper, onnx.numpy_helper
    names = [f"i{k}" if given is not None else "" for k, given in enumerate(inputs)]
    constants = [numbers.from_array(np.asarray(x), n) for x, n in zip(inputs, names, strict=True) if n]
    made = [f"o{k}" for k in range(len(outputs))]
    nodes = [helper.make_node(name, names, made, domain=domain, **attributes)]
    results = []
    for k, dtype in enumerate(outputs):
        small = dtype in ("int4", "uint4")  # which the Python binding cannot hand over
        if small:
            nodes.append(helper.make_node("Cast", [made[k]], [f"c{k}"], to=onnx.TensorProto.INT8))
        kind = onnx.TensorProto.INT8 if small else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        results.append(helper.make_tensor_value_info(f"c{k}" if small else made[k], kind, None))
    graph = helper.make_graph(nodes, "one", [], results, constants)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    found = session(helper.make_model(graph, opset_imports=domains, ir_version=10)).run(None, {})
    types = [getattr(ml_dtypes, dtype, None) or dtype for dtype in outputs]
    return [np.asarray(x).astype(t) for x, t in zip(found, types, strict=True)]
