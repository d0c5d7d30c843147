"""The documentation says what is there: lists are generated from the code or compared with it.

``python tests/test_docs.py`` writes the generated parts of the pages anew.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import descend
from descend import problems, rules
from descend.cli.app import app
from descend.cli.parameters import Argument
from descend.comparison.options import EFFORTS, CompareOptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = Path(descend.__file__).parent
COMMANDS = app.list_commands(None)


# ---- the generated parts ----------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def rules_table() -> list[str]:
    """Every rule of the package, with what `descend rules` says of it."""
    own = [rule for rule in rules.all().values() if getattr(descend, rule.__name__, None) is rule]
    rows = []
    for rule in own:
        found = rules.describe(rule)
        state = ", ".join(
            f"`{s}`" + (f" (with `{rule.state_if[s]}`)" if s in rule.state_if else "") for s in found.state
        )
        rows.append([f"`descend.{rule.__name__}`", f"`{found.name}`", found.summary, state])
    return table(["class", "name", "what it does", "state"], rows)


def shared_table() -> list[str]:
    """The hyperparameters that every rule inherits."""
    fields = [f for f in dataclasses.fields(descend.Rule) if f.name != "lr"]
    return table(
        ["argument", "default", "what it is"], [[f"`{f.name}`", repr(f.default), f.metadata["doc"]] for f in fields]
    )


def problems_table() -> list[str]:
    """Every built-in problem, with what `descend problems` says of it."""
    rows = []
    for name in problems.BUILT_IN:
        summary, settings = problems.describe(name)
        rows.append([f"`{name}`", summary, ", ".join(f"`{k}={v:g}`" for k, v in settings.items())])
    return table(["name", "what it is", "settings"], rows)


def reasons_table() -> list[str]:
    """Every reason to stop."""
    rows = [[f"`{r.code}`", r.kind, r.sentence, r.advice] for r in descend.Reason]
    return table(["reason", "kind", "sentence", "advice"], rows)


def cli_reference() -> list[str]:
    """Every command with its arguments and options, as the command line itself knows them."""
    lines = ["`descend --version` prints the version, `descend --help` and `descend COMMAND --help` what is below."]
    for name in COMMANDS:
        command = app.get_command(None, name)
        arguments = [p for p in command.params if isinstance(p, Argument)]
        options = [p for p in command.params if not isinstance(p, Argument)]
        shown = {p.name: p.metavar or p.name.upper() for p in arguments}
        usage = " ".join(shown[p.name] if p.required else f"[{shown[p.name]}]" for p in arguments)
        lines += ["", f"## `descend {name}`", "", "```console", f"$ descend {name} {usage} [OPTIONS]", "```", ""]
        lines += [" ".join(paragraph.split()) for paragraph in _spaced(inspect.cleandoc(command.help).split("\n\n"))]
        rows = [[f"`{shown[p.name]}`", p.about] for p in arguments]
        rows += [[", ".join(f"`{o}`" for o in p.opts), p.help] for p in options]
        lines += ["", *table(["argument or option", "what it is"], rows)]
    return lines


def _spaced(paragraphs: list[str]) -> list[str]:
    return [line for paragraph in paragraphs for line in (paragraph, "")][:-1]


OTHERWISE_CALLED = {
    "learning_rates": ["--lr"], "space": ["--tune"], "effort": ["--quick", "--thorough"], "untuned": ["--no-untuned"],
    "timed": ["--time"], "executor": ["--dask"],
}  # fmt: skip
"""The options of the command line whose names are not those of `descend.compare`."""


def compare_table() -> list[str]:
    """Every option of a comparison: on the command line, by default, and as the docstring of `descend.compare` says."""
    text = inspect.getdoc(descend.compare).partition("Parameters\n----------\n")[2].partition("\n\nReturns\n")[0]
    said = {}
    for names, about in re.findall(r"^(\w.*)\n((?:    .*\n?)+)", text, flags=re.MULTILINE):
        said |= dict.fromkeys(names.split(", "), " ".join(about.split()))
    known = {option for p in app.get_command(None, "compare").params for option in p.opts}
    usual = dataclasses.asdict(EFFORTS[CompareOptions.effort])
    rows = []
    for field in dataclasses.fields(CompareOptions):
        typed = OTHERWISE_CALLED.get(field.name, [f"--{field.name.replace('_', '-')}"])
        default = usual.get(field.name, field.default)
        shown = ", ".join(f"`{option}`" for option in typed if option in known)
        by_default = "" if default is None else f"`{default!r}`"
        rows.append([f"`{field.name}`", shown, by_default, said[field.name].replace("``", "`")])
    return table(["argument", "on the command line", "default", "what it is"], rows)


def layers_table() -> list[str]:
    """The layers of the package, as import-linter holds them: a folder may import those of the rows below it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [
        contract["layers"] for contract in contracts if contract["type"] == "layers" and "containers" not in contract
    ]
    rows = []
    for layer in layers:
        names = [name.strip().removeprefix("descend.") for name in layer.split("|")]
        paths = [PACKAGE / name.replace(".", "/") for name in names]
        shown = [f"`{name}/`" if path.is_dir() else f"`{name}.py`" for name, path in zip(names, paths, strict=True)]
        files = [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths]
        rows += [[place, _summary(file)] for place, file in zip(shown, files, strict=True)]
    return table(["layer", "what it is"], rows)


def modules_table() -> list[str]:
    """Every module of the package with the first line of its docstring."""
    files = sorted(f for f in PACKAGE.rglob("*.py") if f.name not in ("__init__.py", "__main__.py"))
    return table(["module", "what it is"], [[f"`{f.relative_to(PACKAGE).as_posix()}`", _summary(f)] for f in files])


def _summary(file: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    paragraph = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).partition("\n\n")[0]
    return " ".join(paragraph.split())


GENERATED = {
    ("architecture.md", "layers"): layers_table,
    ("architecture.md", "modules"): modules_table,
    ("rules.md", "rules"): rules_table,
    ("rules.md", "shared"): shared_table,
    ("problems.md", "problems"): problems_table,
    ("errors.md", "reasons"): reasons_table,
    ("cli.md", "cli"): cli_reference,
    ("comparing.md", "options"): compare_table,
}


def with_generated(page: str, part: str) -> str:
    """The page's text with one part generated anew."""
    text = (DOCS / page).read_text(encoding="utf-8")
    new = "\n".join(GENERATED[page, part]())
    pattern = rf"(<!-- generated: {part} -->\n)(.*?)(<!-- end -->)"
    found, count = re.subn(pattern, lambda m: f"{m[1]}\n{new}\n\n{m[3]}", text, flags=re.DOTALL)
    assert count == 1, f"docs/{page} has no place for {part}"
    return found


@pytest.mark.parametrize(("page", "part"), GENERATED)
def test_what_is_generated_is_up_to_date(page, part):
    """Rules, problems, reasons and the command line are documented as the code has them."""
    expected, text = with_generated(page, part), (DOCS / page).read_text(encoding="utf-8")
    assert text == expected, f"docs/{page} is out of date: run python tests/test_docs.py"


# ---- lists written by hand, compared with the code ----------------------------------------------------------------


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_real_help_has_the_options_of_the_page(command):
    """What ``--help`` prints and what the page lists are the same options."""
    run = [sys.executable, "-m", "descend.cli", command, "--help"]
    printed = subprocess.run(
        run, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    ).stdout
    section = re.split(r"^## ", read("cli.md"), flags=re.MULTILINE)
    (page,) = [s for s in section if s.startswith(f"`descend {command}`")]
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    assert set(option.findall(printed)) - {"--help"} == set(option.findall(page))


def test_the_page_names_every_exit_status():
    """0, 1, 2, 130 and 143 are what the command line may end with."""
    assert re.findall(r"^\| (\d+) \|", read("cli.md"), flags=re.MULTILINE) == ["0", "1", "2", "130", "143"]


def test_every_error_is_explained():
    """The tree on the page is the one in the module, and has every class."""
    page = read("errors.md")
    for name in descend.errors.__all__:
        assert re.search(rf"\b{name}\b", page), name
    tree = re.search(r"^    DescendError\n(?:    .*\n)+", descend.errors.__doc__, flags=re.MULTILINE)
    assert inspect.cleandoc(tree[0]) in page


def test_every_schedule_is_explained():
    """Each schedule has a line in the guide."""
    for name in set(descend.schedules.__all__) - {"Schedule"}:
        assert f"`{name}(" in read("fitting.md"), name


def test_every_option_of_the_doors_is_in_a_guide():
    """Each argument of minimize, fit, compare and Problem is named in the page about it."""
    pages = {
        descend.minimize: "minimizing.md",
        descend.least_squares: "least_squares.md",
        descend.fit: "fitting.md",
        descend.compare: "comparing.md",
        descend.Problem: "problems.md",
        descend.TorchProblem: "problems.md",
    }
    spelled_out = {"fun", "x0", "args", "progress", "announce", "rule", "problem", "name", "summary", "options"}
    for function, page in pages.items():
        for name in set(inspect.signature(function).parameters) - spelled_out:
            assert re.search(rf"\b{name}\b", read(page)), f"{page}: {name}"


def fields(part: str) -> set[str]:
    """The names in the first column of a table of JSON fields."""
    text = read("comparing.md").partition(f"<!-- fields: {part} -->\n")[2].partition("\n\n")[0]
    return {name for row in text.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_field_of_the_json_is_documented():
    """The tables of fields have what a comparison's JSON has, and nothing else."""
    entries = ["gd", "adam"]
    found = descend.compare("booth", entries, learning_rates=[0.1], budget=10, tuning_seeds=1, final_seeds=6, jobs=1)
    whole = found.to_dict()
    assert fields("top") == {*whole, "report", "table"}
    assert fields("problem") == set(whole["problem"])
    assert fields("plan") == set(whole["plan"])
    assert fields("target") == set(whole["target"])
    assert fields("standing") == set(whole["rows"][0]["test"]) == set(whole["rows"][0]["to_target"])
    for part in ("rows", "sensitivity", "runs"):
        assert fields(part) == set(whole[part][0]), part
    suite = descend.compare_all(["booth"], entries, learning_rates=[0.1], budget=10, final_seeds=6, jobs=1)
    for name in (*whole["problem"]["examples"], *whole["plan"]["entries"][0], *suite.to_dict()):
        assert f"`{name}`" in read("comparing.md"), name
    assert f"version of this schema: {whole['schema']}" in read("comparing.md")


# ---- the reference ------------------------------------------------------------------------------------------------


def documented() -> dict[str, object]:
    """Whatever the reference pages document: full name → object."""
    found: dict[str, object] = {}
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = ""
        text = page.read_text(encoding="utf-8")
        for directive, name, options in re.findall(r"^\.\. (\w+):: ([\w.]+)\n((?: {3}:.*\n)*)", text, re.MULTILINE):
            if directive == "currentmodule":
                module = name
            elif directive == "automodule":
                loaded = importlib.import_module(name)
                found[name] = loaded
                members = re.search(r":members:(.*)", options)
                listed = [] if members is None else members[1].replace(",", " ").split() or loaded.__all__
                found.update({f"{name}.{member}": getattr(loaded, member) for member in listed})
            else:
                full = name if name.startswith("descend.") else f"{module}.{name}"
                owner, _, last = full.rpartition(".")
                found[full] = getattr(importlib.import_module(owner), last)
    return found


def test_the_reference_has_every_public_name():
    """What `descend.__all__` promises is documented, and what is documented at the top is promised."""
    found = documented()
    for name in descend.__all__:
        assert any(getattr(descend, name) is thing for thing in found.values()), f"descend.{name} is not documented"
    top = {full.removeprefix("descend.") for full in found if re.fullmatch(r"descend\.\w+", full)}
    assert top <= set(descend.__all__)


@pytest.mark.parametrize(
    "module", ["rules", "methods", "problems", "schedules", "objectives", "engines", "plots", "errors"]
)
def test_the_reference_has_every_name_of_its_modules(module):
    """Each class and function that a public module lists is documented somewhere."""
    loaded = importlib.import_module(f"descend.{module}")
    things = list(documented().values())
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and name not in INTERNAL:
            assert any(thing is other for other in things), f"descend.{module}.{name} is not documented"


INTERNAL = {"Objective", "as_loss"}
"""Listed for the package's own use."""

WITHOUT_EXAMPLE = {
    # What a call returns, shown by the call's own example.
    *("Comparison", "Evaluation", "FitResult", "History", "Reason", "Result", "Suite"),
    # Shown in the docstring of their module, or where they are used.
    *("Armijo", "DescendError", "Entry", "Method", "Rule", "Wolfe", "hyper"),
}


def test_public_names_have_an_example():
    """Every function, rule and problem class at the top shows itself at work."""
    for name in descend.__all__:
        thing = getattr(descend, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and name not in WITHOUT_EXAMPLE:
            assert ">>>" in inspect.getdoc(thing), f"descend.{name} has no example"
    assert set(descend.__all__) >= WITHOUT_EXAMPLE


# ---- links between pages, examples and README ---------------------------------------------------------------------


def test_links_to_examples_lead_somewhere():
    """An example that a page links to is a file in examples/, and each file is linked to."""
    linked = {name for page in DOCS.glob("*.md") for name in re.findall(r"\(auto_examples/(\w+)\)", read(page.name))}
    assert linked == {f.stem for f in (ROOT / "examples").glob("*.py")}


def test_lines_end_in_time():
    """No line of a page is longer than 120 characters, but for tables and what is generated."""
    long = []
    for page in [*DOCS.glob("*.md"), *(DOCS / "reference").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"<!-- generated.*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        long += [(page.name, line) for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_the_readme_has_its_two_commands():
    """One fenced command runs the tests, one compares optimizers; CI and readers copy them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert any("pytest" in block for block in blocks)
    assert any("descend compare" in block for block in blocks)


if __name__ == "__main__":
    for page, part in GENERATED:
        (DOCS / page).write_text(with_generated(page, part), encoding="utf-8")
