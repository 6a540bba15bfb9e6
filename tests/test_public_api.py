"""The public names: complete, documented section by section, with the signatures that were promised."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import lowprec as lp

REPOSITORY = Path(__file__).resolve().parents[1]
SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "Notes", "References", "See Also", "Examples")
MODES = ("rounding", "overflow", "subnormals", "rng", "random_bits")
PRODUCT = ("accumulator", "c", "out_dtype", *MODES, "out")
INTEGER_LAYER = ("x_scale", "x_zero_point", "w_scale", "w_zero_point", "out_scale", "out_zero_point", "out")
INTEGER_LAYER += ("runtime", "activation")
# What a caller may rely on: positional names, then keyword-only names.
SIGNATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "format": (("fmt",), ()),
    "formats": ((), ()),
    "encode": (("x", "fmt"), (*MODES, "out")),
    "decode": (("codes", "fmt"), ("dtype", "out")),
    "round_to": (("x", "fmt"), (*MODES, "out")),
    "cast": (("x", "fmt"), MODES),
    "pack": (("codes", "fmt"), ()),
    "unpack": (("data", "fmt", "count"), ()),
    "matmul": (("a", "b", "dtype"), PRODUCT),
    "vecdot": (("a", "b", "dtype"), PRODUCT),
    "linear": (("x", "w", "bias", "dtype"), PRODUCT),
    "conv2d": (("x", "w", "bias"), ("stride", "padding", "dilation", "groups", "dtype", *PRODUCT)),
    "QuantizedArray": (
        ("codes", "scale", "zero_point"),
        ("format", "axis", "block_size", "tensor_scale", "offset", "recipe"),
    ),
    "Sparse24": (("values", "indices"), ("pattern", "axis", "length", "recipe")),
    "quantize": (
        ("x", "fmt"),
        (
            *("axis", "block_size", "symmetric", "calibration", "scale_dtype", "scale_rule", "divisor", "scale"),
            *("zero_point", "tensor_scale", "rounding", "rng", "nonfinite"),
        ),
    ),
    "sparsify": (
        ("w", "pattern"),
        (
            *("axis", "criterion", "mask", "activations", "hessian", "transposable", "dtype", "damp", "columns"),
            "progress",
        ),
    ),
    "search_permutation": (
        ("w", "pattern"),
        ("axis", "method", "stripe", "scores", "escapes", "rng", "time_limit", "progress"),
    ),
    "ChannelPermutation": (("order", "pattern", "kept_before", "kept_after", "seconds", "finished"), ()),
    "sparsity_report": (
        ("w",),
        ("axis", "activations", "test_activations", "criteria", "permute", "formats"),
    ),
    "SparsityReport": (("shape", "table", "storage", "held_out", "seconds"), ()),
    "sparsity_mask": (
        ("w", "pattern"),
        ("axis", "criterion", "activations", "hessian", "transposable"),
    ),
    "save": (("path", "arrays"), ()),
    "load": (("path",), ()),
    "ggml_bytes": (("q",), ()),
    "from_ggml_bytes": (("data", "name", "shape"), ()),
    "block_format": (("name",), ()),
    "block_formats": ((), ()),
    "requantize": (("acc", "scale", "out"), ("zero_point", "method", "axis", "clip")),
    "quantize_multiplier": (("scale",), ()),
    "qlinear": (("x", "w", "bias"), INTEGER_LAYER),
    "qconv2d": (
        ("x", "w", "bias"),
        ("stride", "padding", "dilation", "groups", *INTEGER_LAYER, "layout", "depthwise"),
    ),
    "learn_codebook": (("x", "bits"), ("k", "weights", "iterations", "name")),
    "AbsMax": ((), ("axis",)),
    "MinMax": ((), ("axis",)),
    "MovingAverage": (("momentum",), ("axis",)),
    "Percentile": (("percentile",), ("bins", "symmetric", "axis")),
    "MSE": (("fmt",), ("bins", "symmetric", "divisor", "axis")),
    "Entropy": ((), ("bins", "levels", "symmetric", "axis")),
    "presets": ((), ()),
    "preset": (("name",), ()),
    "set_num_threads": (("n",), ()),
    "get_num_threads": ((), ()),
}
CALLABLES = [name for name in lp.__all__ if callable(getattr(lp, name)) and not inspect.ismodule(getattr(lp, name))]
FUNCTIONS = [name for name in CALLABLES if not inspect.isclass(getattr(lp, name))]


def sections(text: str) -> dict[str, str]:
    """Split a numpydoc docstring at its underlined headings; the summary is under the empty heading."""
    parts = re.split(rf"^({'|'.join(SECTIONS)})\n-+\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(text: str) -> list[str]:
    """Return the names on the unindented lines of a Parameters section, stars taken off."""
    heads = [line.split(":")[0] for line in text.splitlines() if line and not line[0].isspace()]
    return [name.strip(" *`") for head in heads for name in head.split(",")]


def faults(name: str, function: Callable[..., Any]) -> list[str]:
    """Say what a public callable's docstring lacks."""
    doc = sections(function.__doc__ or "")
    wrong = []
    summary = doc[""].strip().splitlines()[0] if doc[""].strip() else ""
    if not summary.endswith(".") or len(summary) > 115:
        wrong.append(f"{name}: the summary is one sentence on the first line, got {summary!r}")
    is_exception = isinstance(function, type) and issubclass(function, Exception)
    parameters = [] if is_exception else [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    needed = [*(["Parameters"] if parameters else []), "Raises", "Examples"]
    if not inspect.isclass(function) and inspect.signature(function).return_annotation not in (None, "None"):
        needed.append("Returns")
    wrong += [f"{name}: no section {section}" for section in needed if section not in doc]
    if parameters and sorted(documented(doc.get("Parameters", ""))) != sorted(parameters):
        wrong.append(f"{name}: documents {documented(doc.get('Parameters', ''))}, takes {parameters}")
    if ">>> " not in doc.get("Examples", ""):
        wrong.append(f"{name}: Examples has no example")
    return wrong


def test_all_is_sorted_and_exists() -> None:
    assert list(lp.__all__) == sorted(set(lp.__all__))
    for name in lp.__all__:
        assert getattr(lp, name) is not None


def test_all_is_every_public_name() -> None:
    """Whatever has no underscore is in __all__, submodules apart (they come and go with what was imported)."""
    public = {n for n in vars(lp) if not n.startswith("_") and not inspect.ismodule(vars(lp)[n])}
    modules = {n for n in lp.__all__ if inspect.ismodule(getattr(lp, n))}
    assert public | modules | {"__version__"} == set(lp.__all__)
    assert set(lp.__all__) <= set(dir(lp))


def test_contract_is_in_all() -> None:
    assert set(SIGNATURES) | {"FloatFormat", "IntFormat", "Rounding", "Overflow", "Subnormals"} <= set(lp.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    positional, keywords = SIGNATURES[name]
    parameters = inspect.signature(getattr(lp, name)).parameters.values()
    assert tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY) == positional
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(keywords)


def test_defaults_are_the_same_everywhere() -> None:
    """A keyword that several functions take has one default."""
    want = {"rounding": "nearest_even", "overflow": None, "subnormals": "keep", "rng": None, "random_bits": 32}
    want |= {"accumulator": None, "c": None, "out_dtype": None, "out": None}
    for name, (_, keywords) in SIGNATURES.items():
        parameters = inspect.signature(getattr(lp, name)).parameters
        got = {k: parameters[k].default for k in keywords if k in want and k in parameters}
        assert got == {k: want[k] for k in got}, name


@pytest.mark.parametrize("name", CALLABLES)
def test_docstring(name: str) -> None:
    if isinstance(getattr(lp, name), type) and issubclass(getattr(lp, name), Enum):
        assert all(member.__doc__ and member.__doc__ != getattr(lp, name).__doc__ for member in getattr(lp, name))
    else:
        assert faults(name, getattr(lp, name)) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_annotated(name: str) -> None:
    signature = inspect.signature(getattr(lp, name))
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


def test_testing_helpers_are_documented() -> None:
    testing = importlib.import_module("lowprec.testing")
    own = [n for n, f in vars(testing).items() if inspect.isfunction(f) and f.__module__ == testing.__name__]
    public = [n for n in own if not n.startswith("_")]
    assert public
    assert [fault for name in public for fault in faults(name, getattr(testing, name))] == []


def test_version_stands_in_one_place() -> None:
    number = re.escape(lp.__version__)
    files = [*(REPOSITORY / "lowprec").rglob("*.py"), REPOSITORY / "pyproject.toml"]
    holders = [f.name for f in files if re.search(rf"""["']{number}["']""", f.read_text(encoding="utf-8"))]
    assert holders == ["__init__.py"]


def test_installed_version() -> None:
    try:
        installed = metadata.version("lowprec")
    except metadata.PackageNotFoundError:
        pytest.skip("lowprec is on the path but not installed, so there is no second place to compare with")
    assert installed == lp.__version__


def test_changelog_knows_the_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(lp.__version__)}\b", text, re.MULTILINE)


def test_typed() -> None:
    assert (Path(lp.__file__).parent / "py.typed").exists()


# ---------------------------------------------------------------------------------- the check of docstrings can fail
def good(x: int) -> int:
    """Return x.

    Parameters
    ----------
    x : int
        A number.

    Returns
    -------
    int
        The number.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> good(1)
    1
    """
    return x


def test_planted_docstring_faults_are_seen() -> None:
    assert faults("good", good) == []
    for old, new in (
        ("Return x.", "Return x"),
        ("x : int", "y : int"),
        ("Returns\n", "Return\n"),
        ("Raises\n", "Raise\n"),
        (">>> good(1)", "good(1)"),
    ):

        def bad(x: int) -> int:
            return x

        bad.__doc__ = good.__doc__.replace(old, new)
        assert faults("bad", bad), (old, new)


NAMESPACES = ("cost", "rtl", "systolic")
INSIDE = [
    f"{namespace}.{name}"
    for namespace in NAMESPACES
    for name in getattr(lp, namespace).__all__
    if callable(getattr(getattr(lp, namespace), name))
]


@pytest.mark.parametrize("name", INSIDE)
def test_docstring_in_namespace(name: str) -> None:
    namespace, _, inner = name.partition(".")
    what = getattr(getattr(lp, namespace), inner)
    found = faults(name, what)
    if inspect.isclass(what):  # results, which the functions' examples show
        found = [each for each in found if "xample" not in each]
    assert found == []


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_namespace_is_complete(namespace: str) -> None:
    module = getattr(lp, namespace)
    assert list(module.__all__) == sorted(set(module.__all__))
    public = {n for n in vars(module) if not n.startswith("_") and not inspect.ismodule(vars(module)[n])}
    assert public <= set(module.__all__) | {"annotations"}


CONTRACT = {
    "cost.multiplier": ("n_or_format", "kind"),
    "cost.mac": ("fmt", "accumulator"),
    "cost.dot": ("fmt", "lanes"),
    "cost.accumulator_bits": ("fmt", "k"),
    "cost.systolic": ("rows", "cols", "dtype"),
    "cost.traffic": ("fmt",),
    "cost.roofline": ("M", "K", "N", "dtype"),
    "cost.energy": ("M", "K", "N", "dtype"),
    "cost.pareto": ("x", "w", "formats", "metric", "cost"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_signature_in_namespace(name: str) -> None:
    namespace, _, inner = name.partition(".")
    parameters = inspect.signature(getattr(getattr(lp, namespace), inner)).parameters
    assert tuple(parameters)[: len(CONTRACT[name])] == CONTRACT[name]
