"""Imports flow one way, in the order of the list in docs/design.md; one file compiles; users' input meets no assert.

Imports inside functions count. Imports for annotations alone (``if TYPE_CHECKING:``) do not: nothing runs by them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "lowprec"
COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil", "generated_jit", "jitclass"}
MAY_COMPILE = {"_jit"}
MAY_ASSERT = {"testing"}  # its asserts are what it is for


def read_order(page: str) -> dict[str, bool]:
    """Return the modules of the list in docs/design.md in order, with whether each is built."""
    found = re.search(r"<!-- layers.*?-->\s*```text\nlowprec/\n(.*?)```", page, re.DOTALL)
    assert found, "docs/design.md has no list of layers"
    order: dict[str, bool] = {}
    package = ""
    for line in found[1].splitlines():
        indent, name, note = re.fullmatch(r"( +)(\S+)(.*)", line).groups()
        if len(indent) == 2:
            package = name.removesuffix("/") if name.endswith("/") else ""
        module = name.removesuffix(".py").removesuffix("/")
        order[module if len(indent) == 2 else f"{package}.{module}"] = "(later)" not in note
    return order


def read_modules(root: Path) -> dict[str, ast.Module]:
    """Return every module below ``root``, named from there (``kernels.tile``, ``kernels.__init__``)."""
    files = sorted(root.rglob("*.py"))
    return {".".join(f.relative_to(root).with_suffix("").parts): ast.parse(f.read_text(), str(f)) for f in files}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, the bodies of ``if TYPE_CHECKING:`` apart."""
    yield tree
    for field, children in ast.iter_fields(tree):
        if isinstance(tree, ast.If) and field == "body" and ast.unparse(tree.test).endswith("TYPE_CHECKING"):
            continue
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child, ast.AST):
                yield from running(child)


def imported(module: str, tree: ast.Module, modules: dict[str, ast.Module]) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every module of the package that ``module`` imports, wherever in the file."""

    def own(words: list[str]) -> str:
        """Return the longest part of a dotted name that is a module of the package."""
        for end in range(len(words), 0, -1):
            name = ".".join(words[:end])
            if name in modules:
                return name
            if f"{name}.__init__" in modules:
                return f"{name}.__init__"
        return "__init__"

    for node in running(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == "lowprec":
                    yield node.lineno, own(rest)
        elif isinstance(node, ast.ImportFrom):
            words = (node.module or "").split(".") if node.module else []
            if node.level:
                here = ["lowprec", *module.split(".")]
                words = here[: len(here) - node.level] + words
            if words and words[0] == "lowprec":
                for alias in node.names:
                    yield node.lineno, own([*words[1:], alias.name])


def rank(module: str, order: list[str]) -> float | None:
    """Return where a module stands: at its own line, or at its package's if the list stops there."""
    if module in order:
        return order.index(module)
    package = module.rpartition(".")[0]
    if package not in order:
        return None
    inside = [place for place, name in enumerate(order) if name.startswith(f"{package}.")]
    if module == f"{package}.__init__":
        return max([order.index(package), *inside]) + 0.5
    return None if inside else order.index(package)


def wrong_imports(root: Path, order: list[str]) -> list[str]:
    """Say which imports below ``root`` do not point upward in ``order``, and which files it forgets."""
    modules = read_modules(root)
    wrong = []
    for module, tree in modules.items():
        own = rank(module, order)
        if own is None:
            wrong.append(f"{module}: not in the list of docs/design.md")
            continue
        for line, target in imported(module, tree, modules):
            other = rank(target, order)
            same_package = target.rpartition(".")[0] == module.rpartition(".")[0] != ""
            if other is None or other > own or (other == own and not same_package):
                wrong.append(f"{module}:{line} imports {target}, which is not above it")
    return wrong


def wrong_compilers(root: Path) -> list[str]:
    """Say where Numba compiles outside the one file that may call it."""
    wrong = []
    for module, tree in read_modules(root).items():
        if module in MAY_COMPILE:
            continue
        aliases = {"numba"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                aliases |= {alias.asname for alias in node.names if alias.name == "numba" and alias.asname}
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in aliases:
                names = [node.attr]
            wrong += [f"{module}:{node.lineno} uses numba's {name}" for name in names if name in COMPILERS]
    return wrong


def asserts(root: Path) -> list[str]:
    """Say where an assert stands in code that users call."""
    return [
        f"{module}:{node.lineno} asserts"
        for module, tree in read_modules(root).items()
        if module not in MAY_ASSERT
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]


@pytest.fixture(scope="module")
def order() -> dict[str, bool]:
    return read_order((REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8"))


def test_imports_flow_one_way(order: dict[str, bool]) -> None:
    assert wrong_imports(PACKAGE, list(order)) == []


def test_list_names_what_exists(order: dict[str, bool]) -> None:
    there = {
        name: any((PACKAGE / name.replace(".", "/")).with_suffix(s).exists() for s in ("", ".py")) for name in order
    }
    assert order == there, "docs/design.md: a line is marked later and is there, or is not there and not so marked"


def test_only_one_file_compiles() -> None:
    assert wrong_compilers(PACKAGE) == []


def test_no_assert_on_user_input() -> None:
    assert asserts(PACKAGE) == []


def test_reference_depends_on_facts_alone() -> None:
    """The specification shares no code with what it checks: no kernels, no NumPy, no Numba."""
    modules = read_modules(PACKAGE)
    for module in (name for name in modules if name.startswith("reference.")):
        own = {name for _, name in imported(module, modules[module], modules)}
        assert {n.split(".")[0] for n in own} <= {"accumulators", "formats", "reference", "rounding"}, module
        roots = {
            (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
            for node in ast.walk(modules[module])
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        allowed = {"__future__", "lowprec", "math", "fractions", "collections", "typing", "enum", "struct"}
        assert roots <= allowed | {"dataclasses", "functools", "itertools"}, module


def test_kernels_check_nothing_and_know_no_policy() -> None:
    modules = read_modules(PACKAGE)
    for module, tree in modules.items():
        if module.startswith("kernels."):
            own = {name for _, name in imported(module, tree, modules)}
            assert {name for name in own if not name.startswith("kernels.")} <= {"_jit"}, module


# ------------------------------------------------------------------------------------ the checks can fail: planted bugs
ORDER = ["low", "middle", "kernels", "kernels.tile", "high", "__init__", "cli"]
CLEAN = {
    "low": "import math\n",
    "middle": "from lowprec.low import x\n",
    "kernels/tile": "from lowprec import low\nimport lowprec.middle\n",
    "high": "from lowprec.kernels import tile\ndef f():\n    import lowprec.low\n",
    "kernels/__init__": "if TYPE_CHECKING:\n    from lowprec.high import f\n",
    "__init__": "from lowprec.high import f\n",
    "cli": "import lowprec as lp\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in {**CLEAN, **files}.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_clean_tree_passes(tmp_path: Path) -> None:
    root = plant(tmp_path, {})
    assert wrong_imports(root, ORDER) + wrong_compilers(root) + asserts(root) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("low", "from lowprec.middle import x\n"),
        ("low", "import lowprec.high\n"),
        ("low", "from lowprec import high\n"),
        ("low", "def f():\n    from lowprec import middle\n"),
        ("low", "from .middle import x\n"),
        ("low", "if TYPE_CHECKING:\n    import math\nelse:\n    from lowprec.high import f\n"),
        ("low", "import lowprec\n"),
        ("middle", "from lowprec.kernels.tile import t\n"),
        ("kernels/tile", "from ..high import f\n"),
        ("kernels/tile", "import lowprec.kernels\n"),
        ("high", "from lowprec import something\n"),
        ("kernels/stray", ""),
        ("stray", ""),
    ],
)
def test_planted_import_is_seen(tmp_path: Path, module: str, text: str) -> None:
    wrong = wrong_imports(plant(tmp_path, {module: text}), ORDER)
    assert [line.split(":")[0] for line in wrong] == [module.replace("/", ".")]


@pytest.mark.parametrize(
    "text",
    [
        "from numba import njit\n",
        "import numba\nf = numba.jit\n",
        "import numba as nb\n@nb.cfunc('i4()')\ndef f(): ...\n",
    ],
)
def test_planted_compiler_is_seen(tmp_path: Path, text: str) -> None:
    assert len(wrong_compilers(plant(tmp_path, {"middle": text}))) == 1
    assert wrong_compilers(plant(tmp_path, {"middle": "", "_jit": text})) == []


def test_planted_assert_is_seen(tmp_path: Path) -> None:
    assert asserts(plant(tmp_path, {"middle": "def f(x):\n    assert x > 0\n"})) == ["middle:2 asserts"]
