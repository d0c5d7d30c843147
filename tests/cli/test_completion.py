"""Completion: what a shell is told, and the scripts that make it ask."""

import os
import shutil
import subprocess

import pytest
from click.shell_completion import ShellComplete
from tests.cli.commands import command

from descend import problems, rules
from descend.cli.app import app
from descend.cli.completion import SHELLS, script


def completions(*words):
    """The completions of the last word, each with its kind."""
    *before, last = words
    asked = ShellComplete(app, {}, "descend", "_DESCEND_COMPLETE")
    return [(item.type, item.value) for item in asked.get_completions(before, last)]


def names(*words):
    """The words that are offered."""
    return [value for kind, value in completions(*words) if kind == "plain"]


def test_commands_and_options():
    """The beginnings of both."""
    assert names("") == ["compare", "completion", "find-lr", "problems", "rules"]
    assert names("comp") == ["compare", "completion"]
    assert names("compare", "booth", "--t") == [
        "--tune",
        "--trials",
        "--target",
        "--tuning-seeds",
        "--thorough",
        "--time",
    ]
    assert names("completion", "") == list(SHELLS)


def test_problems_and_files():
    """Built-in problems by their beginnings, and files where none begins so."""
    assert names("compare", "di") == [name for name in problems.BUILT_IN if name.startswith("di")] != []
    assert names("compare", "") == list(problems.BUILT_IN)
    assert names("compare", "booth", "bea") == ["beale"]
    for words in (["compare", "./mi"], ["find-lr", "mine.p"], ["problems", "mine.p"]):
        assert completions(*words) == [("file", words[-1])]


def test_rules_by_name():
    """One rule, or the last of several between commas."""
    assert names("rules", "ada") == [name for name in rules.all() if name.startswith("ada")] != []
    assert names("find-lr", "digits", "--rule", "mom") == ["momentum"]
    assert names("compare", "digits", "--rules", "adam,mom") == ["adam,momentum"]
    assert names("compare", "digits", "--rules", "gd,momentum,Lio") == ["gd,momentum,lion"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_its_script(shell, run):
    """`descend completion SHELL` prints what the shell has to run, which asks by our variable."""
    status, out, _ = run("completion", shell)
    assert status == 0
    assert out.strip() == script(app, shell).strip()
    assert "_DESCEND_COMPLETE" in out
    assert run("completion", "tcsh")[0] == 2


def test_bash_completes(tmp_path):
    """The script in a real bash, which asks the real command."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    place = tmp_path / "descend"
    place.write_text("#!/bin/sh\nexec " + " ".join(command()) + ' "$@"\n')
    place.chmod(0o755)
    asked = 'eval "$(descend completion bash)"; COMP_WORDS=(descend compare --rules ada); COMP_CWORD=3; '
    asked += '_descend_completion descend; printf "%s\\n" "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", asked], capture_output=True, text=True, check=True, env=environment)
    assert "adam" in done.stdout.split()
    assert done.stderr == ""
