"""Configuration of Sphinx. Tables and the plot of the rounding modes are made anew at every build."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import make_rounding_plot  # noqa: E402
import make_tables  # noqa: E402

import lowprec  # noqa: E402

make_tables.write(HERE / "generated")
make_rounding_plot.draw(HERE / "generated" / "rounding_modes.svg")

project = "lowprec"
author = "The lowprec developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name
release = version = lowprec.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
autosummary_generate = False
exclude_patterns = ["_build", "generated/*.md"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"  # numpydoc's Parameters say them
autodoc_member_order = "bysource"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
default_role = "code"
html_theme = "furo"
html_title = f"lowprec {release}"
nitpicky = False
suppress_warnings = ["myst.xref_missing"]  # CHANGELOG and CONTRIBUTING link to files of the repository
