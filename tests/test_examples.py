"""The examples run as they stand, and those that define a problem can be compared from the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SLOW = {"plot_story"}
"""Longer than ten seconds; the docs' build runs them too."""


def run(*arguments, folder):
    """Run Python on something in an empty folder; its output, or a failure with all it said."""
    # One thread: the tests themselves run in parallel, and small tensors gain nothing from more.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(file.stem, marks=pytest.mark.slow if file.stem in SLOW else ())
        for file in sorted(EXAMPLES.glob("*.py"))
    ],
)
def test_an_example_runs(name, tmp_path):
    """It ends well, its assertions included, says something, and leaves no file behind."""
    assert run(EXAMPLES / f"{name}.py", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["own_problem", pytest.param("torch_problem", marks=pytest.mark.slow)])
def test_an_example_can_be_compared(name, tmp_path):
    """`descend compare FILE` takes what the file defines, and worker processes can run it."""
    small = ["--rules", "adam", "--lr", "0.01,0.1", "--budget", "2000", "--tuning-seeds", "1", "--final-seeds", "2"]
    small += ["--target", "none", "--no-untuned"]
    out = ["--jobs", "2", "--out", "out"]
    printed = run("-m", "descend.cli", "compare", EXAMPLES / f"{name}.py", *small, *out, folder=tmp_path)
    assert "Adam came out best" in " ".join(printed.split())
    assert (tmp_path / "out" / "report.html").stat().st_size > 0
