"""Exact integer products against torch and onnxruntime."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from test_integer_matmul import array

import lowprec as lp
from lowprec._integer_product import product

pytestmark = pytest.mark.oracles


def test_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    for number, (m, k, n) in enumerate([(17, 8, 8), (33, 72, 40), (64, 1040, 48)]):
        for kind in ("any", "low", "high", "ends"):
            a, b = array("int8", (m, k), number, kind), array("int8", (k, n), number + 5, kind)
            want = torch._int_mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()
            assert np.array_equal(lp.matmul(a, b), want)


def run_onnx(feeds: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Run one MatMulInteger."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx = pytest.importorskip("onnx")
        runtime = pytest.importorskip("onnxruntime")
    kinds = {np.dtype(np.int8): onnx.TensorProto.INT8, np.dtype(np.uint8): onnx.TensorProto.UINT8}
    inputs = [onnx.helper.make_tensor_value_info(name, kinds[x.dtype], x.shape) for name, x in feeds.items()]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)
    node = onnx.helper.make_node("MatMulInteger", list(feeds), ["y"])
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("pair", ["uint8 uint8", "int8 int8", "uint8 int8", "int8 uint8"])
def test_onnxruntime(pair: str) -> None:
    """uint8 x int8 with 7 bits on the right: with 8, onnxruntime's kernel for AVX2 saturates sums of two at 16 bits."""
    one, other = pair.split()
    for number, (m, k, n) in enumerate([(1, 3, 5), (20, 65, 33), (7, 1030, 16)]):
        a, b = array(one, (m, k), number), array(other, (k, n), number + 5)
        b = b // 2 if pair == "uint8 int8" else b
        zero_a, zero_b = array(one, (1,), number), array(other, (n,), number + 9) // 2
        feeds = {"a": a, "b": b, "za": zero_a.reshape(()), "zb": zero_b}
        assert np.array_equal(product(a, b, zero_a=zero_a[0], zero_b=zero_b), run_onnx(feeds)), (m, k, n)
