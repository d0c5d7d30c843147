"""Every check of the project. `nox` runs them all in the environment it is started from; `nox -s NAME` one of them.

The environment: pip install -c constraints.txt -e '.[dev]'
"""

import nox

nox.options.default_venv_backend = "none"
nox.options.stop_on_first_error = False


@nox.session
def tests(session: nox.Session) -> None:
    """The default tests: the README's second command runs the same."""
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def switched_off(session: nox.Session) -> None:
    """The default tests without machine code, but for those that never step by it themselves."""
    # The example of `Fused`, which is nothing else; commands, tables, pictures and files, which are of the same figures
    # whatever has computed them. A whole comparison stays: tests/comparison/test_experiment.py and test_suite.py.
    same = ["src/descend/engines/native/engine.py", "tests/architecture", "tests/cli", "tests/plots"]
    same += [f"tests/test_{name}.py" for name in ("benchmarks", "code_hash", "data_hash", "docs", "neighbours")]
    names = "bootstrap bundles frames judging misses notes options owner range_ends repeat report_page report_tables"
    names += " shapes spaces store store_file target workers"
    same += [f"tests/comparison/test_{name}.py" for name in names.split()]
    ignored = [f"--ignore={path}" for path in same]
    session.run("pytest", "-n", "auto", *ignored, *session.posargs, env={"DESCEND_MACHINE_CODE": "0"})


@nox.session(venv_backend="uv", default=False)
def lowest(session: nox.Session) -> None:
    """The default tests with the lowest versions that pyproject.toml declares, in an environment of its own."""
    session.install("--resolution", "lowest-direct", "-e", ".[dask,frames,mnist,test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests left out by default: whole comparisons, killed processes, a real browser, the built wheel."""
    # Tables of rules and engines fill all cores; the others measure, kill, or use all cores themselves.
    tables = ["tests/engines", "tests/rules"]
    session.run("pytest", "-m", "slow", "-n", "auto", *tables)
    session.run("pytest", "-m", "slow", *(f"--ignore={folder}" for folder in tables), *session.posargs)
