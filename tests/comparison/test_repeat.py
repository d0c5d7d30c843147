"""How to make a comparison again: the command and the call in Python that a report shows."""

import dataclasses
import json
import shlex

import pytest
from click.testing import CliRunner
from tests.comparison.reports import (
    OPTIONS,
    plan_of,
    read,
)

import descend
from descend import Entry
from descend.cli import compare as command_line
from descend.cli.app import app
from descend.comparison.options import CompareOptions
from descend.comparison.planning.make_plan import make_plan
from descend.comparison.reporting.repeat import repeat
from descend.comparison.reporting.wording import duration


def test_the_command_repeats_it(booth, tmp_path):
    """The command in the report, given to the command line, makes a comparison of the same plan."""
    command, _ = repeat(booth)
    assert (
        command == "descend compare booth --rules gd,adam --lr 0.01,0.1 --budget 100 --tuning-seeds 1 --final-seeds 6 "
        "--no-untuned"
    )
    assert command in read(booth, tmp_path).text
    arguments = [*command.split()[1:], "--out", str(tmp_path / "again"), "--jobs", "1"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    again = json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert again["plan"]["hash"] == booth.plan.hash


@pytest.mark.parametrize(
    "options",
    [
        "--tune momentum=0.5..0.99 --tune batch_size=16,32 --trials 4 --target 0.9 --studies 2 --time",
        "--tune lr=0.001..1.0:log --tune nesterov=False --rules gd,momentum",
        "--target -0.5 --no-untuned --batch-size 16",
        "--target none --thorough",
        "--quick --target 1e-05",
    ],
)
def test_the_command_makes_the_same_plan(booth, options):
    """Whatever was asked for, the command in the report asks for the same: both make one plan."""
    plans = []

    def stop(problem, rules=None, **wanted):
        plans.append(make_plan(descend.problems.load(problem), rules, CompareOptions(**wanted), problem))
        raise KeyboardInterrupt

    def run(command):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_line, "compare", stop)
            CliRunner().invoke(app, shlex.split(command)[1:])
        return plans[-1]

    first = run(f"descend compare breast-cancer {options}")
    found = dataclasses.replace(booth, plan=first, source="breast-cancer", shape={"train": first.examples})
    command, python = repeat(found)
    assert command is not None
    again = run(command)
    assert len(plans) == 2
    assert again.hash == first.hash
    plans.clear()
    with pytest.raises(KeyboardInterrupt):
        eval(python.partition("\n\n")[2].replace("descend.compare", "stop"), {"descend": descend, "stop": stop})
    assert plans[0].hash == first.hash


def test_the_shortest_command():
    """What is at its default is not repeated."""
    problem = descend.problems.load("breast-cancer")
    found = descend.compare(
        "breast-cancer", learning_rates=[0.1], budget=problem.size, tuning_seeds=1, final_seeds=1, jobs=1
    )
    command, _ = repeat(found)
    assert command == f"descend compare breast-cancer --lr 0.1 --budget {problem.size} --tuning-seeds 1 --final-seeds 1"
    default = plan_of(
        found,
        learning_rates=None,
        trials=16,
        budget=20 * problem.size,
        tuning_seeds=(0, 1, 2),
        final_seeds=tuple(range(1000, 1010)),
    )
    assert repeat(default)[0] == "descend compare breast-cancer"
    batched = [
        dataclasses.replace(e, batch_size=16 if e.batch_size == 32 else e.batch_size) for e in found.plan.entries
    ]
    assert repeat(plan_of(default, entries=tuple(batched)))[0] == "descend compare breast-cancer --batch-size 16"


def test_python_where_the_command_line_has_no_words(scored, tmp_path):
    """Entries with names and batch sizes of their own are repeated in Python, and the code makes the same plan."""
    command, python = repeat(scored)
    assert command is None
    assert "descend.Entry('one by one', descend.GD(), 1)" in python
    assert "problem," in python
    found = descend.compare("booth", [Entry("mine", descend.Adam(betas=(0.8, 0.99)))], **OPTIONS)
    command, python = repeat(found)
    assert command is None
    assert "Adam(betas=(0.8, 0.99))" in read(found, tmp_path).text
    again = eval(python.partition("\n\n")[2], {"descend": descend})
    assert again.plan.hash == found.plan.hash


def test_where_the_problem_came_from(booth):
    """A problem from a file is repeated with its path; one that was made in Python can only be repeated there."""
    found = dataclasses.replace(booth)
    found = dataclasses.replace(found, source="my problems/booth.py")
    command, python = repeat(found)
    assert command.startswith("descend compare 'my problems/booth.py' --rules gd,adam")
    assert "'my problems/booth.py'," in python
    found = dataclasses.replace(found, source=None)
    command, python = repeat(found)
    assert command is None
    assert "    problem,\n" in python


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "under 1 ms"),
        (0.0123, "0.012 s"),
        (9.87, "9.9 s"),
        (61.4, "61 s"),
        (133.2, "2 min 13 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_durations(seconds, text):
    """A duration is as exact as a reader needs it."""
    assert duration(seconds) == text
