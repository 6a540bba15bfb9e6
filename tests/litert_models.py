"""One-operator LiteRT models, built by hand, and their results on each of the interpreter's resolvers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RESOLVERS = {
    "reference": "BUILTIN_REF",
    "ruy": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "xnnpack": "BUILTIN",
}
TYPES = {"float32": "FLOAT32", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32", "int64": "INT64"}


@dataclass
class Tensor:
    """A tensor of a model: an input or the result (no data), or a constant."""

    shape: Sequence[int]
    dtype: str
    scale: Any = None  # one, or one for each index of `axis`
    zero_point: int = 0
    axis: int = 0
    data: Array | None = None


def build(schema: Any, op: str, version: int, inputs: Sequence[Tensor], result: Tensor, options: Any = None) -> bytes:
    """Return the file of a model with one operator, whose inputs without data are the model's own."""
    import flatbuffers

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode = code.builtinCode
    code.version = version
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors = []
    for number, given in enumerate([*inputs, result]):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{number}", list(given.shape)
        tensor.type = getattr(schema.TensorType, TYPES[given.dtype])
        if given.scale is not None:
            scales = np.atleast_1d(np.asarray(given.scale, np.float32))
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(scales.size, given.zero_point, np.int64)
            tensor.quantization.quantizedDimension = given.axis
        if given.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(given.data, given.dtype).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex = 0
    step.inputs, step.outputs = list(range(len(inputs))), [len(inputs)]
    if options is not None:
        step.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        step.builtinOptions = options
    graph.operators = [step]
    graph.inputs = [number for number, given in enumerate(inputs) if given.data is None]
    graph.outputs = [len(inputs)]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def run(model: bytes, resolver: str, x: Array) -> Array:
    """Return what the interpreter makes of one input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_litert import interpreter as litert

        kind = getattr(litert.OpResolverType, RESOLVERS[resolver])
        interpreter = litert.Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
