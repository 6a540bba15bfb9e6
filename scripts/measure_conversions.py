"""Ask other software what it makes of special float32 values, and keep the answers in docs/conversions.json.

Whatever is installed is asked again, the rest keeps its old answers: ml_dtypes and NumPy, torch, the reference
implementation of ONNX, and CUDA's headers (``--cuda-include`` names the directory of cuda_fp8.h; they convert on the
host, so a C++ compiler will do and no GPU is needed). The page on rounding and special values shows the answers
beside this package's own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import lowprec as lp
from lowprec import reference

KEPT = Path(__file__).resolve().parents[1] / "docs" / "conversions.json"
CASES = ("NaN", "inf", "-inf", "above", "below", "-0", "-tiny")
NUMPY_FORMATS = [fmt.name for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat) and fmt.bits <= 16]
TORCH_FORMATS = ("bfloat16", "float16", *(name for name in NUMPY_FORMATS if name.startswith("float8")))
ONNX_FORMATS = {
    "bfloat16": "BFLOAT16",
    "float16": "FLOAT16",
    "float8_e4m3fn": "FLOAT8E4M3FN",
    "float8_e4m3fnuz": "FLOAT8E4M3FNUZ",
    "float8_e5m2": "FLOAT8E5M2",
    "float8_e5m2fnuz": "FLOAT8E5M2FNUZ",
    "float8_e8m0fnu": "FLOAT8E8M0",
    "float6_e2m3fn": "FLOAT6E2M3",
    "float6_e3m2fn": "FLOAT6E3M2",
    "float4_e2m1fn": "FLOAT4E2M1",
}
CUDA_CALLS = {
    ("bfloat16", ""): "__bfloat16_as_ushort(__float2bfloat16(x))",
    ("float16", ""): "__half_as_ushort(__float2half(x))",
    ("float8_e4m3fn", "SATFINITE"): "__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3)",
    ("float8_e4m3fn", "NOSAT"): "__nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E4M3)",
    ("float8_e5m2", "SATFINITE"): "__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2)",
    ("float8_e5m2", "NOSAT"): "__nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E5M2)",
    ("float8_e8m0fnu", "SATFINITE"): "__nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf)",
    ("float8_e8m0fnu", "NOSAT"): "__nv_cvt_float_to_e8m0(x, __NV_NOSAT, cudaRoundPosInf)",
    ("float6_e2m3fn", ""): "__nv_cvt_float_to_fp6(x, __NV_E2M3, cudaRoundNearest)",
    ("float6_e3m2fn", ""): "__nv_cvt_float_to_fp6(x, __NV_E3M2, cudaRoundNearest)",
    ("float4_e2m1fn", ""): "__nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest)",
}
Convert = Callable[[np.ndarray, str], Any]


def sources(fmt: lp.FloatFormat) -> np.ndarray:
    """Return the float32 that stands for each of `CASES`: twice the largest value, or float32's largest, is above."""
    above = min(2 * fmt.max, float(np.finfo(np.float32).max))
    tiny = max(fmt.smallest_subnormal / 4, float(np.finfo(np.float32).smallest_subnormal))
    return np.array([math.nan, math.inf, -math.inf, above, -above, -0.0, -tiny], np.float32)


def word(value: float, fmt: lp.FloatFormat) -> str:
    """Name a result: NaN, inf, max, least (of a format without zero), or the number itself."""
    sign = "-" if math.copysign(1, value) < 0 and not math.isnan(value) else ""
    if math.isnan(value):
        return "NaN"
    names = {math.inf: "inf", fmt.max: "max", 0.0: "0", fmt.smallest_subnormal: "least"}
    return sign + names.get(abs(value), f"{abs(value):g}")


def answers(convert: Convert, name: str) -> dict[str, str]:
    """Convert one source at a time, so that a refusal of one is not a refusal of all."""
    fmt = lp.format(name)
    told = {}
    for case, x in zip(CASES, sources(fmt), strict=True):
        try:
            told[case] = word(float(np.asarray(convert(x[None], name))[0]), fmt)
        except (ValueError, OverflowError, TypeError) as error:
            told[case] = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return told


def ask_ml_dtypes() -> dict[str, Any]:
    def convert(x: np.ndarray, name: str) -> np.ndarray:
        with np.errstate(all="ignore"):
            return x.astype(np.dtype(getattr(ml_dtypes, name, name))).astype(np.float32)

    return {"ml_dtypes": {"version": ml_dtypes.__version__, "": {n: answers(convert, n) for n in NUMPY_FORMATS}}}


def ask_torch() -> dict[str, Any]:
    import torch

    def convert(x: np.ndarray, name: str) -> np.ndarray:
        return torch.from_numpy(x).to(getattr(torch, name)).to(torch.float32).numpy()

    names = [name for name in TORCH_FORMATS if hasattr(torch, name)]
    version = torch.__version__.split("+")[0]
    return {"torch": {"version": version, "": {name: answers(convert, name) for name in names}}}


def ask_onnx() -> dict[str, Any]:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    def made(saturate: int) -> Convert:
        def convert(x: np.ndarray, name: str) -> np.ndarray:
            kind = getattr(TensorProto, ONNX_FORMATS[name])
            nodes = [
                helper.make_node("Cast", ["x"], ["y"], to=kind, saturate=saturate),
                helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
            ]
            ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [None]) for end in "xz"]
            model = helper.make_model(helper.make_graph(nodes, "cast", ends[:1], ends[1:]))
            with np.errstate(all="ignore"):
                return ReferenceEvaluator(model).run(None, {"x": x})[0]

        return convert

    names = [name for name in ONNX_FORMATS if hasattr(TensorProto, ONNX_FORMATS[name])]
    told: dict[str, Any] = {"version": importlib.metadata.version("onnx")}
    for saturate in (1, 0):
        told[f"saturate={saturate}"] = {name: answers(made(saturate), name) for name in names}
    return {"ONNX": told}


def ask_cuda(include: Path) -> dict[str, Any]:
    lines = ["#include <cstdio>"] + [f'#include "cuda_{h}.h"' for h in ("fp16", "bf16", "fp8", "fp6", "fp4")]
    lines += ["int main() {", 'printf("%d\\n", CUDART_VERSION);', "unsigned u; float x;"]
    for (name, _), call in CUDA_CALLS.items():
        for bits in sources(lp.format(name)).view(np.uint32):
            lines.append(f'u = {bits}u; __builtin_memcpy(&x, &u, 4); printf("%u\\n", (unsigned)({call}));')
    lines.append("}")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "ask.cpp"), Path(folder, "ask")
        source.write_text("#include <cuda_runtime_api.h>\n" + "\n".join(lines))
        subprocess.run(["c++", "-std=c++17", "-I", include, source, "-o", program], check=True)
        version, *codes = map(int, subprocess.run([program], check=True, capture_output=True, text=True).stdout.split())
    told: dict[str, Any] = {"version": f"{version // 1000}.{version % 1000 // 10}"}
    for (name, policy), row in zip(CUDA_CALLS, np.reshape(codes, (-1, len(CASES))), strict=True):
        fmt = lp.format(name)
        values = [reference.decode(int(code), fmt) for code in row]
        told.setdefault(policy, {})[name] = {c: word(v, fmt) for c, v in zip(CASES, values, strict=True)}
    return {"CUDA": told}


def measure(cuda: Path | None = None) -> dict[str, Any]:
    """Return what every peer that is there answers."""
    told = ask_ml_dtypes()
    if importlib.util.find_spec("torch"):
        told |= ask_torch()
    if importlib.util.find_spec("onnx"):
        told |= ask_onnx()
    if cuda:
        told |= ask_cuda(cuda)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda-include", type=Path, help="directory of cuda_fp8.h")
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    told = measure(parser.parse_args().cuda_include)
    KEPT.write_text(json.dumps(kept | told, indent=1) + "\n", encoding="utf-8")
    print("asked", ", ".join(f"{peer} {answer['version']}" for peer, answer in told.items()))


if __name__ == "__main__":
    main()
