"""What the documentation says is so: examples run and print what stands there, tables and data are up to date."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import inspect
import io
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lowprec as lp

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Numbers that NumPy prints may gain or lose a space or a line break between versions, never a digit.
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples(text: str, name: str) -> doctest.DocTest:
    """Make one test of all interactive examples in a page's Python blocks, so that a later one sees earlier names."""
    blocks = [match for match in FENCE.finditer(text) if ">>>" in match[1]]
    lines = [""] * (text.count("\n") + 1)
    for block in blocks:
        first = text.count("\n", 0, block.start(1))
        lines[first : first + block[1].count("\n")] = block[1].splitlines()
    return doctest.DocTestParser().get_doctest("\n".join(lines), {}, name, name, 0)


def failures(test: doctest.DocTest) -> str:
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=said.write)
    return said.getvalue()


def load(path: Path) -> ModuleType:
    """Import a script from its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_page(page: Path) -> None:
    if page.name == "torch.md":
        pytest.importorskip("torch", reason="torch is not installed; it comes with the extra `torch`")
    assert failures(examples(page.read_text(encoding="utf-8"), page.name)) == ""


def test_pages_have_examples() -> None:
    found = {page.name: len(examples(page.read_text(encoding="utf-8"), page.name).examples) for page in PAGES}
    assert (
        min(found[name] for name in ("README.md", "getting_started.md", "formats.md", "rounding.md", "matmul.md")) > 2
    )


def test_wrong_example_is_seen() -> None:
    page = "Text.\n```python\n>>> x = 2\n>>> x + 1\n3\n```\nText.\n```python\n>>> x\n3\n```\n"
    said = failures(examples(page, "page"))
    assert "line 9" in said
    assert failures(examples(page.replace(">>> x\n3", ">>> x\n2"), "page")) == ""


def modules() -> list[str]:
    """Name every module; `lowprec.torch` needs torch, and its examples are in test_torch_training.py."""
    found = ["lowprec"]
    for info in pkgutil.iter_modules(lp.__path__, "lowprec."):
        if info.name != "lowprec.torch":
            found.append(info.name)
            if info.ispkg:
                package = importlib.import_module(info.name)
                found += [each.name for each in pkgutil.walk_packages(package.__path__, f"{info.name}.")]
    return found


@pytest.mark.parametrize("name", modules())
def test_examples_of_module(name: str) -> None:
    module = importlib.import_module(name)
    said = [failures(test) for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert "".join(said) == ""


def test_public_callables_have_run_examples() -> None:
    """What the package exports is found where it is defined, so the test above has run it."""
    for name in lp.__all__:
        member = getattr(lp, name)
        if callable(member):
            home = importlib.import_module(inspect.unwrap(member).__module__)
            assert home.__name__ in modules(), name


def one_line_commands(text: str) -> list[str]:
    return re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)


def test_readme_has_the_two_commands() -> None:
    """One line each, that begins with nothing but Python; .ci/run takes them from here and runs them."""
    study, test = one_line_commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert study.endswith("lowprec study")
    assert ".venv/bin/pytest" in test


def test_readme_commands_name_real_extras() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"])
    used = {extra for group in re.findall(r'"\.\[([a-z,]+)\]"', text) for extra in group.split(",")}
    assert {"study", "test"} <= used <= set(project["optional-dependencies"])


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("generated/"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_reference_page_names_everything() -> None:
    text = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8").partition("## The study")[0]
    named = set(re.findall(r"auto(?:function|class):: (\w+)", text))
    packages = (lp.quantizers, lp.cost, lp.systolic)
    makers = {name for package in packages for name in dir(package)} - set(lp.__all__)
    assert named & makers >= {"gptq", "awq", "hqq"}
    modules = {name for name in lp.__all__ if inspect.ismodule(getattr(lp, name))}
    assert named - makers == set(lp.__all__) - {"__version__"} - modules


def test_format_table_has_every_format_and_true_numbers() -> None:
    tables = load(REPOSITORY / "docs" / "make_tables.py")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.formats_table().splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == [fmt.name for fmt in lp.formats()]
    for fmt, row in zip(lp.formats(), rows, strict=True):
        assert tables.number(fmt.max) == row[5]
        assert row[-1] == fmt.default_overflow


@pytest.mark.parametrize("fmt", [f for f in lp.formats() if f.bits <= 16], ids=str)
def test_table_numbers_are_exact(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    """What the tables write, read back, is the value itself."""
    from fractions import Fraction

    from lowprec import testing

    tables = load(REPOSITORY / "docs" / "make_tables.py")
    for value in testing.values(fmt)[:: max(1, 2**fmt.bits // 512)].tolist():
        if math.isfinite(value):
            text = tables.number(value)
            expression = re.sub(r"(?<![.\w^])(\d+)(?![\d.])", r"Fraction(\1)", text.replace("^", "**"))
            expression = re.sub(r"\*\*-Fraction\((\d+)\)", r"**-\1", expression)
            expression = re.sub(r"\*\*Fraction\((\d+)\)", r"**\1", expression)
            assert float(eval(expression, {"Fraction": Fraction})) == value, text


def conversions() -> tuple[ModuleType, dict[str, Any]]:
    script = load(REPOSITORY / "scripts" / "measure_conversions.py")
    return script, json.loads(script.KEPT.read_text(encoding="utf-8"))


def test_specials_agree_with_ml_dtypes() -> None:
    """The default of every format that ml_dtypes has is ml_dtypes' own, wherever that is a number or NaN."""
    script, kept = conversions()
    told = script.ask_ml_dtypes()["ml_dtypes"][""]
    assert told == kept["ml_dtypes"][""]
    for name, theirs in told.items():
        ours = script.answers(lp.round_to, name)
        if not lp.format(name).has_nan:
            assert ours.pop("NaN") == "ValueError"
        assert ours == {case: theirs[case] for case in ours}, name


@pytest.mark.oracles
@pytest.mark.parametrize("peer", ["torch", "onnx"])
def test_kept_answers_are_the_peers_own(peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed; it comes with the extra `oracles`")
    script, kept = conversions()
    told = {"torch": script.ask_torch, "onnx": script.ask_onnx}[peer]()
    for name, answers in told.items():
        same_version = answers.pop("version") == kept[name].pop("version")
        assert same_version is False or answers == kept[name]
        # A format or a policy may be new in another version, but what was kept must still be true of the pinned torch.
        if peer == "torch":
            assert same_version, "the extra `oracles` pins the version that docs/conversions.json holds"


def test_performance_page_is_made_from_the_results() -> None:
    script = load(REPOSITORY / "scripts" / "make_performance_page.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(script.read_results())


def test_tables_of_the_documentation_can_be_made(tmp_path: Path) -> None:
    tables = load(REPOSITORY / "docs" / "make_tables.py")
    tables.write(tmp_path)
    included = set()
    for page in PAGES:
        included |= set(re.findall(r"generated/([\w.]+)", page.read_text(encoding="utf-8"))) - {"rounding_modes.svg"}
    assert included == {path.name for path in tmp_path.iterdir()}
    assert all(path.read_text(encoding="utf-8").strip() for path in tmp_path.iterdir())


def test_rounding_plot_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it comes with the extra `study`")
    load(REPOSITORY / "docs" / "make_rounding_plot.py").draw(tmp_path / "rounding.svg")
    text = (tmp_path / "rounding.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {mode} " in text or f"<!-- {mode}" in text for mode in lp.Rounding)


def test_examples_leave_no_thread_limit_behind() -> None:
    """Examples that set the number of threads put it back."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        before = lp.get_num_threads()
        test_examples_of_module("lowprec._threads")
    assert lp.get_num_threads() == before


def test_benchmarks_can_be_imported() -> None:
    """They run in .ci/run; here a wrong name in one is seen early."""
    code = "import importlib, pathlib\n"
    code += "[importlib.import_module('benchmarks.' + p.stem) for p in pathlib.Path('benchmarks').glob('*.py')]\n"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = dict(os.environ, PYTHONPATH=path, LOWPREC_BENCHMARK_QUICK="1")
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, check=True, timeout=120)
