"""ONNX models as workloads: products equal to lowprec's own, the rest to onnxruntime's, errors before anything runs."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import workload

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx", reason='needs onnx; pip install "lowprec[onnx]"')

from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(20)
BF16 = Arithmetic("bf16", "bf16", scales="none")
FP32 = Arithmetic("fp32", scales="none")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def save(
    folder: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    held: Mapping[str, Array],
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 13,
    dtype: int = TensorProto.FLOAT,
) -> str:
    """Write a model and return its path."""
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    shapes = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()]
    given = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", shapes, given, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def one(folder: Path, operator: str, x: Sequence[Array], held: Mapping[str, Array], **attributes: Any) -> Any:
    """Return the workload of one node whose inputs are arrays, then weights."""
    names = [f"x{index}" for index in range(len(x))]
    opset = attributes.pop("opset", 13)
    order = attributes.pop("order", [*names, *held])
    node = helper.make_node(operator, order, ["y"], **attributes)
    path = save(folder, [node], {n: a.shape for n, a in zip(names, x, strict=True)}, held, opset=opset)
    return workload(f"onnx:{path}", inputs=[dict(zip(names, x, strict=True))])


def same(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert found.tobytes() == np.ascontiguousarray(wanted).tobytes()


def by_onnxruntime(path: str, feed: Mapping[str, Array]) -> list[Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(3)
    return list(ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(feed)))


# ------------------------------------------------------------------------------------------------------------ products
def product(a: Array, b: Array) -> Array:
    return np.asarray(lp.matmul(a, b, "bf16", accumulator="bf16"))


MATMULS = [  # shapes of the inputs, shape of the weight, and where it stands
    ([(5, 7)], (7, 3), 1),
    ([(2, 3, 5, 7)], (7, 4), 1),
    ([(7,)], (7, 4), 1),
    ([(4, 7)], (7,), 1),
    ([(7, 3)], (5, 7), 0),
    ([(2, 7, 3)], (5, 7), 0),
    ([(2, 3, 4, 7)], (3, 7, 5), 1),
    ([(4, 7)], (2, 7, 5), 1),
    ([(4, 7), (7, 3)], None, 0),
    ([(2, 4, 7), (7, 3)], None, 0),
    ([(7,), (7,)], None, 0),
    ([(0, 7)], (7, 3), 1),
]


@pytest.mark.parametrize(("shapes", "weight", "place"), MATMULS)
def test_matmul_has_the_bits_of_lowprec(
    shapes: list[tuple[int, ...]], weight: tuple[int, ...] | None, place: int, tmp_path: Path
) -> None:
    x = [normal(*shape) for shape in shapes]
    held = {} if weight is None else {"w": normal(*weight)}
    order = [f"x{index}" for index in range(len(x))]
    operands = list(x)
    if weight is not None:
        order.insert(place, "w")
        operands.insert(place, held["w"])
    study = one(tmp_path, "MatMul", x, held, order=order)
    same(study.run(BF16, 0)["y"], product(*operands))


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.3), (0.7, 0.0)])
@pytest.mark.parametrize("added", [None, (3,), (5, 3), (1,)])
def test_gemm(turned: tuple[int, int], factors: tuple[float, float], added: Any, tmp_path: Path) -> None:
    a, w = normal(5, 7), normal(7, 3)
    held = {"w": np.ascontiguousarray(w.T) if turned[1] else w}
    if added is not None:
        held["c"] = normal(*added)
    given = np.ascontiguousarray(a.T) if turned[0] else a
    alpha, beta = (np.float32(each) for each in factors)
    study = one(
        tmp_path, "Gemm", [given], held, transA=turned[0], transB=turned[1], alpha=float(alpha), beta=float(beta)
    )
    found = study.run(BF16, 0)["y"]
    if added == (3,) and alpha == 1 and beta:
        same(found, np.asarray(lp.linear(a, w.T, held["c"] * beta, "bf16", accumulator="bf16")))
    else:
        wanted = product(a, w) * alpha
        same(found, wanted if added is None or not beta else wanted + held["c"] * beta)


# fmt: off
CONVOLUTIONS = [  # shapes of images and weights, attributes, and the same for conv2d
    ((2, 4, 9, 8), (6, 4, 3, 3), {}, {}),
    ((1, 4, 9, 8), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}, {"groups": 2, "padding": 1}),
    ((1, 4, 9, 8), (4, 1, 3, 3), {"group": 4}, {"groups": 4}),
    ((1, 3, 9, 8), (5, 3, 3, 2), {"pads": [0, 1, 2, 3], "strides": [2, 3]},
     {"padding": ((0, 2), (1, 3)), "stride": (2, 3)}),
    ((1, 3, 9, 8), (5, 3, 2, 3), {"dilations": [3, 2]}, {"dilation": (3, 2)}),
    ((1, 3, 9, 8), (5, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
     {"padding": ((1, 1), (0, 1)), "stride": 2}),
    ((1, 3, 9, 8), (5, 3, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
     {"padding": ((1, 1), (1, 0)), "stride": 2}),
    ((1, 3, 9, 8), (5, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}, {"stride": 2}),
]
# fmt: on


@pytest.mark.parametrize(("x", "w", "attributes", "how"), CONVOLUTIONS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_conv(x: Any, w: Any, attributes: dict[str, Any], how: dict[str, Any], with_bias: bool, tmp_path: Path) -> None:
    images, held = normal(*x), {"w": normal(*w)}
    if with_bias:
        held["b"] = normal(w[0])
    study = one(tmp_path, "Conv", [images], held, **attributes)
    wanted = lp.conv2d(images, held["w"], held.get("b"), dtype="bf16", accumulator="bf16", **how)
    same(study.run(BF16, 0)["y"], np.asarray(wanted))
    if not with_bias:
        (other,) = by_onnxruntime(study.model.path, {"x0": images})
        np.testing.assert_allclose(study.run(FP32, 0)["y"], other, rtol=1e-5, atol=1e-5)


def test_convolutions_of_one_axis(tmp_path: Path) -> None:
    x, w = normal(2, 4, 11), normal(6, 2, 3)
    study = one(tmp_path, "Conv", [x], {"w": w}, group=2, strides=[2], pads=[1, 2])
    wanted = lp.conv2d(
        x[:, :, None],
        w[:, :, None],
        groups=2,
        stride=(1, 2),
        padding=((0, 0), (1, 2)),
        dtype="bf16",
        accumulator="bf16",
    )
    same(study.run(BF16, 0)["y"], np.asarray(wanted)[:, :, 0])


TRANSPOSED = [
    {"strides": [2, 3]},
    {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "output_shape": [9, 8]},
    {"dilations": [2, 1], "group": 2},
]


@pytest.mark.parametrize("attributes", TRANSPOSED)
def test_transposed_convolutions(attributes: dict[str, Any], tmp_path: Path) -> None:
    x, w = normal(1, 4, 4, 4), normal(4, 3, 3, 3)
    study = one(tmp_path, "ConvTranspose", [x], {"w": w, "b": normal(3 * attributes.get("group", 1))}, **attributes)
    (other,) = by_onnxruntime(study.model.path, {"x0": x})
    np.testing.assert_allclose(study.run(FP32, 0)["y"], other, rtol=1e-5, atol=1e-5)


def test_patches_are_what_a_convolution_multiplies() -> None:
    from lowprec.study._onnx_convolution import patches, window

    x, w = normal(2, 4, 9, 8), normal(6, 2, 3, 2)
    where = window(x.shape, w.shape, group=2, pads=[0, 1, 2, 3], strides=[2, 1], dilations=[1, 2])
    rows = patches(x, (3, 2), where)
    found = [rows[g] @ w[g * 3 : (g + 1) * 3].reshape(3, -1).T for g in range(2)]
    how = {"groups": 2, "padding": ((0, 2), (1, 3)), "stride": (2, 1), "dilation": (1, 2), "dtype": "fp32"}
    wanted = np.moveaxis(np.asarray(lp.conv2d(x, w, **how)), 1, -1).reshape(-1, 6)
    np.testing.assert_allclose(np.concatenate(found, axis=-1), wanted, rtol=1e-5, atol=1e-5)


def test_weights_are_what_depends_on_no_input(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["h"]),
        helper.make_node("Transpose", ["h"], ["u"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "u"], ["y"]),
    ]
    x, w = normal(4, 8), normal(5, 8)
    path = save(tmp_path, nodes, {"x": (4, 8)}, {"w": w})
    how = Arithmetic("bf16", weights="int4/8")
    found = workload(f"onnx:{path}", inputs=[{"x": x}]).run(how, 0)["y"]
    hidden = how.linear(x, w)
    same(found, how.matmul(hidden, hidden.T))
    # A rule of weights that is applied to activations as well would give other bits.
    assert found.tobytes() != how.linear(hidden, hidden).tobytes()


def test_integers_stay_exact_and_halves_stay_halves(tmp_path: Path) -> None:
    path = save(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 8)},
                {"w": normal(8, 3).astype(np.float16)}, dtype=TensorProto.FLOAT16)  # fmt: skip
    x = normal(2, 8).astype(np.float16)
    study = workload(f"onnx:{path}", inputs=[{"x": x}])
    wanted = np.asarray(lp.matmul(x.astype(np.float32), normal(8, 3).astype(np.float16).astype(np.float32), "bf16"))
    same(study.run(Arithmetic("bf16"), 0)["y"], wanted.astype(np.float16))


# ---------------------------------------------------------------------------------------------- what is not a product
@pytest.mark.parametrize("opset", [7, 9, 12, 13, 14, 15])
def test_batch_normalization_is_of_inference(opset: int, tmp_path: Path) -> None:
    held = {name: normal(3) for name in ("s", "b", "m")} | {"v": np.abs(normal(3)) + 1}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
    ]
    x = normal(2, 3, 4, 5)
    path = save(tmp_path, nodes, {"x": x.shape}, held | {"w": normal(5, 5)}, opset=opset)
    found = workload(f"onnx:{path}", inputs=[{"x": x}]).run(FP32, 0)["y"]
    np.testing.assert_allclose(found, by_onnxruntime(path, {"x": x})[0], rtol=1e-5, atol=1e-5)
    if opset in (9, 12, 13):  # the planted bug is onnx.reference's own
        from onnx.reference import ReferenceEvaluator

        bare = ReferenceEvaluator(path).run(None, {"x": x})[0]
        assert np.abs(bare - found).max() > 0.05


@pytest.mark.parametrize("operator", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize(
    "how",
    [
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 2], "strides": [3, 2]},
        {"kernel_shape": [5, 5], "strides": [2, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
)
def test_pooling_is_that_of_the_reference(operator: str, how: dict[str, Any], tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(operator, ["h"], ["y"], **how)]
    x, w = normal(2, 3, 9, 8), np.eye(8, dtype=np.float32)
    path = save(tmp_path, nodes, {"x": x.shape}, {"w": w}, opset=12)
    same(workload(f"onnx:{path}", inputs=[{"x": x}]).run(FP32, 0)["y"], ReferenceEvaluator(path).run(None, {"x": x})[0])


# ----------------------------------------------------------------------------------------------------------- workloads
@pytest.fixture
def network(tmp_path: Path) -> str:
    """Write a model with an open batch, two products and two outputs."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"], transB=1),
        helper.make_node("Softmax", ["y"], ["p"]),
    ]
    held = {"w": normal(16, 32), "v": normal(10, 32), "c": normal(10)}
    return save(tmp_path, nodes, {"x": ("batch", 16)}, held, outputs=("y", "p"))


def test_measures(network: str) -> None:
    x = normal(6, 16)
    study = workload(f"onnx:{network}", inputs={"x": x}, batch=3, outputs="y")
    assert study.parts == ("samples 0 to 2", "samples 3 to 5")
    how = Arithmetic("e4m3fn")
    record = study.summarise([study.evaluate(how, part) for part in range(2)])
    exact, found = (np.concatenate([study.run(each, part)["y"] for part in range(2)]) for each in (FP32, how))
    noise = np.sum((found.astype(np.float64) - exact) ** 2)
    assert record["sqnr_db"] == pytest.approx(10 * np.log10(np.sum(exact.astype(np.float64) ** 2) / noise), rel=1e-9)
    assert record["largest_error"] == pytest.approx(np.abs(found - exact).max(), rel=1e-6)
    assert record["top1_agreement"] == np.mean(found.argmax(-1) == exact.argmax(-1))
    assert record["macs"] == 6 * (16 * 32 + 32 * 10)
    assert record["emulated"] == "MatMul 1, Gemm 1"
    assert record["sqnr_db_low"] <= record["sqnr_db"] <= record["sqnr_db_high"]
    itself = study.summarise([study.evaluate(FP32, part) for part in range(2)])
    assert itself["sqnr_db"] == np.inf
    assert itself["largest_error"] == 0


def test_overflow_is_measured_and_not_raised(network: str) -> None:
    study = workload(f"onnx:{network}", inputs={"x": normal(1, 16) * np.float32(1e6)}, outputs="y")
    record = study.summarise([study.evaluate(Arithmetic("fp16", "fp16", scales="none"), 0)])
    assert np.isnan(record["sqnr_db"]) or record["sqnr_db"] == -np.inf


def test_a_study(network: str) -> None:
    how: dict[str, Any] = {"dtypes": ["fp32", "bf16", "int8"], "shapes": "batch=2", "cache": False, "progress": False}
    rows = lp.study(f"onnx:{network}", **how).table
    assert [row["sqnr_db"] > 30 for row in rows] == [True, True, True]
    assert rows[0]["sqnr_db"] > rows[1]["sqnr_db"]


def test_fingerprints(network: str, tmp_path: Path) -> None:
    def measure(outputs: Any, inputs: Any, samples: Any) -> float:
        return float(outputs["y"].sum() + inputs["x"].sum() + len(samples))

    def print_of(**options: Any) -> str:
        return str(workload(f"onnx:{network}", **options).fingerprint())

    first = print_of()
    assert first == print_of()
    others = [print_of(seed=1), print_of(samples=3), print_of(outputs="p"), print_of(metric=measure)]
    others.append(print_of(inputs={"x": normal(4, 16)}))
    content = Path(network).read_bytes()
    Path(network).write_bytes(content.replace(b"test", b"tesT"))
    others.append(print_of())
    assert len({first, *others}) == len(others) + 1


def test_workloads_travel(network: str) -> None:
    study = workload(f"onnx:{network}", samples=1)
    first = study.evaluate(Arithmetic("int8"), 0)
    again = pickle.loads(pickle.dumps(study))
    assert again.fingerprint() == study.fingerprint()
    assert again.evaluate(Arithmetic("int8"), 0) == first


def test_a_measure_of_the_user(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_measure.py").write_text(
        "def largest(outputs, inputs, samples):\n    return float(outputs['y'].max()) + samples.start\n"
    )
    monkeypatch.chdir(tmp_path)
    study = workload(f"onnx:{network}", metric="own_measure:largest", samples=2)
    record = study.summarise([study.evaluate(FP32, part) for part in range(2)])
    values = [study.reference(part)["y"].max() + part for part in range(2)]
    assert record["largest"] == pytest.approx(np.mean(values))
    assert study.metrics[0].name == "largest"


def test_measures_of_one_file_are_told_apart(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two_measures.py").write_text("def one(o, i, s):\n    return 1\ndef two(o, i, s):\n    return 2\n")
    monkeypatch.chdir(tmp_path)

    def constant(number: Any) -> Any:
        def found(outputs: Any, inputs: Any, samples: Any) -> Any:
            return number

        return found

    measures = ("two_measures:one", "two_measures:two", constant(1), constant(2), lambda o, i, s: 1, lambda o, i, s: 2)
    studies = [workload(f"onnx:{network}", metric=each, samples=1) for each in measures]
    assert len({study.fingerprint() for study in studies}) == len(measures)
    assert workload(f"onnx:{network}", metric=constant(2), samples=1).fingerprint() == studies[3].fingerprint()
    refused(ValueError, "attribute `key`", lambda: workload(f"onnx:{network}", metric=constant(object()), samples=1))
    named = constant(object())
    named.key = "an object"
    assert workload(f"onnx:{network}", metric=named, samples=1).metrics[0].name == "found"


def test_samples_of_a_model_of_whole_batches(tmp_path: Path) -> None:
    path = save(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (4, 8)}, {"w": normal(8, 3)})
    study = workload(f"onnx:{path}", inputs={"x": normal(16, 8)}, samples=8)
    assert study.parts == ("samples 0 to 3", "samples 4 to 7")


def test_calibration_hears_what_goes_into_a_weight(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], group=2),
        helper.make_node("Flatten", ["h"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    w, v = normal(4, 2, 3, 3), normal(64, 8)
    path = save(tmp_path, nodes, {"x": ("batch", 4, 6, 6)}, {"w": w, "v": v})
    x = normal(6, 4, 6, 6)
    how = Arithmetic("bf16", weights="gptq:int4/32")
    assert "calibration=" in str(workload(f"onnx:{path}", inputs={"x": x}).refuses(how))
    study = workload(f"onnx:{path}", inputs={"x": x}, calibration=4)
    assert study.refuses(how) is None
    assert len(study.parts) == 2
    hidden = np.asarray(lp.conv2d(x[2:], w, groups=2, dtype="fp32")).reshape(4, -1)
    np.testing.assert_array_equal(study._calibrate("MatMul y"), hidden)
    assert study._calibrate("Conv h").shape == (2, 4 * 16, 18)
    assert np.isfinite(study.evaluate(how, 0)["agreement"]["y"]).all()


# ----------------------------------------------------------------------------------------------------------- bad input
def refused(kind: type[Exception], words: str, make: Callable[[], Any]) -> None:
    with pytest.raises(kind, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models(tmp_path: Path, network: str) -> None:
    content = Path(network).read_bytes()
    for name, data, words in (
        ("text.onnx", b"this is not a model" * 20, "cannot be read|holds no model"),
        ("empty.onnx", b"", "empty|holds no model"),
        ("short.onnx", content[: len(content) // 2], "cut short"),
    ):
        (tmp_path / name).write_bytes(data)
        refused(ValueError, words, lambda name=name: workload(f"onnx:{tmp_path / name}"))
    refused(FileNotFoundError, "not there", lambda: workload(f"onnx:{tmp_path / 'nothing.onnx'}"))
    refused(FileNotFoundError, "a folder", lambda: workload(f"onnx:{tmp_path}"))


def test_models_that_cannot_run(tmp_path: Path) -> None:
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    held = {"w": normal(4, 4)}
    path = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": (4, 4)}, {})
    refused(ValueError, "at least one of MatMul, Gemm, Conv, ConvTranspose.*Relu", lambda: workload(f"onnx:{path}"))
    path = save(tmp_path, [matmul], {"x": (4, 4)}, held, opset=99)
    refused(ValueError, "opset 99", lambda: workload(f"onnx:{path}"))
    path = save(tmp_path, [helper.make_node("MatMul", ["x", "q"], ["y"])], {"x": (4, 4)}, held)
    refused(ValueError, "onnx.checker", lambda: workload(f"onnx:{path}"))
    strange = helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")
    graph = helper.make_graph([strange], "g", [helper.make_tensor_value_info("x", 1, (4, 4))],
                              [helper.make_tensor_value_info("y", 1, None)],
                              [numpy_helper.from_array(held["w"], "w")])  # fmt: skip
    ids = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    Path(path).write_bytes(helper.make_model(graph, opset_imports=ids, ir_version=8).SerializeToString())
    refused(ValueError, r"com\.microsoft\.FusedMatMul.*Emulated are MatMul", lambda: workload(f"onnx:{path}"))
    drawn = helper.make_node("RandomNormalLike", ["x"], ["r"])
    path = save(tmp_path, [drawn, helper.make_node("MatMul", ["r", "w"], ["y"])], {"x": (4, 4)}, held)
    refused(ValueError, "RandomNormalLike.*seed", lambda: workload(f"onnx:{path}"))


def test_tensors_in_other_files(tmp_path: Path) -> None:
    graph = onnx.load(save(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (4, 64)},
                           {"w": normal(64, 64)}))  # fmt: skip
    path = tmp_path / "apart.onnx"
    onnx.save_model(graph, str(path), save_as_external_data=True, location="apart.bin", size_threshold=16)
    study = workload(f"onnx:{path}", inputs=[{"x": normal(4, 64)}])
    same(study.run(BF16, 0)["y"], product(normal(4, 64), normal(64, 64)))
    first = study.fingerprint()
    data = bytearray((tmp_path / "apart.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "apart.bin").write_bytes(data)
    assert workload(f"onnx:{path}", inputs=[{"x": normal(4, 64)}]).fingerprint() != first
    (tmp_path / "apart.bin").write_bytes(data[:100])
    refused(ValueError, "'w' in another file", lambda: workload(f"onnx:{path}"))
    (tmp_path / "apart.bin").unlink()
    refused(FileNotFoundError, r"apart\.bin", lambda: workload(f"onnx:{path}"))


def test_inputs_that_do_not_fit(network: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", x=normal(4, 16))
    assert len(workload(f"onnx:{network}", inputs=str(tmp_path / "good.npz")).parts) == 4
    np.save(tmp_path / "one.npy", normal(4, 16))
    (tmp_path / "bad.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:50])
    x = normal(4, 16)
    for kind, words, options in (
        (ValueError, "'x', got 'X' as well", {"inputs": {"X": x}}),
        (ValueError, "missing: 'x'", {"inputs": {}}),
        (TypeError, "dtype float32.*got float64", {"inputs": {"x": x.astype(np.float64)}}),
        (ValueError, r"shape \(batch, 16\)", {"inputs": {"x": normal(4, 15)}}),
        (ValueError, "multiple of 3", {"inputs": {"x": x}, "batch": 3}),
        (FileNotFoundError, "not there", {"inputs": str(tmp_path / "nothing.npz")}),
        (ValueError, "cannot be read", {"inputs": str(tmp_path / "bad.npz")}),
        (TypeError, "got one array", {"inputs": str(tmp_path / "one.npy")}),
        (TypeError, "got a int", {"inputs": 3}),
        (ValueError, "enough samples", {"inputs": {"x": x}, "calibration": 4}),
        (ValueError, "left out", {"inputs": {"x": x}, "shapes": "x=1x16"}),
        (ValueError, "open lengths.*'bach'; did you mean 'batch'", {"shapes": "bach=2"}),
        (ValueError, r"must fit \(batch, 16\)", {"shapes": "x=1x17"}),
        (ValueError, "samples", {"samples": 0}),
        (TypeError, "seed", {"seed": 1.5}),
        (ValueError, "'z'", {"outputs": "z"}),
        (ValueError, "module:function", {"metric": "nothing"}),
        (ValueError, "nothing_like_it", {"metric": "nothing_like_it:f"}),
        (ValueError, "bach", {"bach": 3}),
    ):
        refused(kind, words, lambda options=options: workload(f"onnx:{network}", **options))


def test_lengths_and_ranges_that_have_to_be_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    held = {"table": normal(10, 8), "w": normal(8, 8)}
    path = save(tmp_path, nodes, {"ids": ("batch", "length")}, held, dtype=TensorProto.INT64)
    refused(ValueError, r"shapes=ids=1x\?", lambda: workload(f"onnx:{path}"))
    refused(ValueError, "ranges=ids=0:1000", lambda: workload(f"onnx:{path}", shapes="length=5"))
    refused(ValueError, "go up", lambda: workload(f"onnx:{path}", shapes="length=5", ranges="ids=4:2"))
    study = workload(f"onnx:{path}", shapes="length=5", ranges={"ids": (0, 10)}, batch=2, samples=4)
    assert study.feeds.every[0]["ids"].shape == (2, 5)
    assert len(study.parts) == 2
    assert study.feeds.every[0]["ids"].max() < 10


def test_errors_name_the_node(tmp_path: Path) -> None:
    path = save(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ("a", "b")}, {"w": normal(7, 4)})
    study = workload(f"onnx:{path}", inputs=[{"x": normal(4, 6)}])
    with pytest.raises(ValueError, match="node 'MatMul y'"):
        study.run(BF16, 0)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first block of docs/models.md is a script; its output is four columns for each of three formats."""
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    script = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))
    exec(compile(script, "models.md", "exec"), {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["bf16", "e4m3fn", "int8"]
    assert all(row[3:] == ["MatMul", "1,", "Gemm", "1"] for row in rows)
