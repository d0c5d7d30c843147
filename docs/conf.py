"""Sphinx configuration. Build with ``sphinx-build -W --keep-going -b html docs docs/_build/html``; needs no network."""

from __future__ import annotations

import dataclasses
from typing import Any

import descend

project = "descend"
author = "The descend maintainers"
copyright = "The descend maintainers"
version = release = descend.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
# `name` in a docstring is a link where there is such an object, else plain code.
default_role = "py:obj"

# ---- docstrings ---------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_custom_sections = ["Formula", "Hyperparameters", "State", "Paper"]
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# ---- Markdown -----------------------------------------------------------------------------------------------------

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# ---- HTML ---------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"descend {version}"
html_static_path = ["_static"]
html_css_files = ["descend.css"]
html_copy_source = False
html_show_sphinx = False
# What is copied from a doctest are the lines to type, without prompts and output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- examples, run at every build ---------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "reset_modules": (),
    "image_scrapers": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
    "remove_config_comments": True,
}


def show_figures(_app: Any) -> None:
    """Show the figures of the examples as divs that use the page's own plotly.js."""
    import plotly.io as pio
    from plotly.io._base_renderers import MimetypeRenderer

    class Div(MimetypeRenderer):
        def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, str]:
            return {"text/html": pio.to_html(fig_dict, full_html=False, include_plotlyjs=False, validate=False)}

    pio.renderers["descend_docs"] = Div()
    pio.renderers.default = "descend_docs"


def trim_code(_app: Any, doctree: Any) -> None:
    """Take away the empty line that doctest needs before a closing fence."""
    from docutils import nodes

    for block in doctree.findall(nodes.literal_block):
        if block.rawsource == block.astext():
            block.rawsource = block.astext().rstrip()
            block[:] = [nodes.Text(block.rawsource)]


def add_plotly(_app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Give a page that shows figures the plotly.js that Python's plotly brings along, before the figures."""
    if "plotly-graph-div" in context.get("body", ""):
        path = context["pathto"]("_static/plotly.min.js", 1)
        context["metatags"] = context.get("metatags", "") + f'<script src="{path}"></script>'


def copy_plotly(app: Any, error: Exception | None) -> None:
    """Put plotly.js beside the pages."""
    if error is None and app.builder.format == "html":
        from pathlib import Path

        from plotly.offline import get_plotlyjs

        (Path(app.outdir) / "_static" / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")


def keep_colons(app: Any) -> None:
    """Let the text of an attribute have a colon: napoleon would take what stands before it for a type."""
    as_written: dict[str, list[str]] = {}

    def keep(_app: Any, what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            as_written[name] = list(lines)

    def put_back(_app: Any, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        lines[:] = as_written.pop(name, lines)

    app.connect("autodoc-process-docstring", keep, priority=100)
    app.connect("autodoc-process-docstring", put_back, priority=900)


def keep_bars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Let |x| be an absolute value: reStructuredText would look for a substitution of that name."""
    lines[:] = [line if "``" in line or line.startswith("    ") else line.replace("|", "\\|") for line in lines]


def describe_rule(_app: Any, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Append to a rule's docstring what its class says in code: hyperparameters, state, paper."""
    if what != "class" or not issubclass(obj, descend.Rule) or obj is descend.Rule:
        return
    found = descend.rules.describe(obj)
    at = next((i for i, line in enumerate(lines) if line in ("Notes", "Examples")), len(lines))
    added = ["Hyperparameters", "---------------"]
    for field, h in zip(dataclasses.fields(obj), found.hyperparameters, strict=True):
        added += [f"* ``{field.name}={h.default!r}``: {h.doc} ({h.allowed})"]
    added += ["", "State", "-----"]
    added += [", ".join(f"``{s}``" + _condition(obj, s) for s in found.state) or "none", ""]
    added += ["Paper", "-----", found.paper, ""]
    lines[at:at] = added


def _condition(rule: type[descend.Rule], state: str) -> str:
    return f" (kept only with ``{rule.state_if[state]}``)" if state in rule.state_if else ""


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("builder-inited", show_figures, priority=100)  # before the gallery runs the examples
    keep_colons(app)
    app.connect("autodoc-process-docstring", keep_bars, priority=901)
    app.connect("autodoc-process-docstring", describe_rule, priority=100)  # before napoleon reads it
    app.connect("doctree-read", trim_code)
    app.connect("html-page-context", add_plotly)
    app.connect("build-finished", copy_plotly)
