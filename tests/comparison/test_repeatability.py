"""Whether a seed is a seed: what draws where no seed reaches is found, and the report says that pairing is broken."""

import dataclasses
import os
import time

import numpy as np
import pytest
import torch
from tests.comparison.comparing import SMALL, line, run_of
from tests.problems.lines import net

import descend
from descend.comparison.running.repeatability import same_starts, unrepeatable

GLOBAL = np.random
OWN = np.random.default_rng(0)


def squares(w, X, y):
    return float(np.mean((X @ w - y) ** 2))


def slope(w, X, y):
    return 2 * X.T @ (X @ w - y) / len(y)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, ""),
        ({"start": lambda rng: GLOBAL.randn(4)}, ""),  # the global generator, which is seeded
        ({"start": lambda rng: np.random.default_rng().normal(size=4)}, "start"),
        ({"start": lambda rng: OWN.normal(size=4)}, "start"),
        ({"start": lambda rng: np.random.default_rng(time.perf_counter_ns()).normal(size=4)}, "start"),
        ({"start": lambda rng: np.frombuffer(os.urandom(4), np.uint8) / 255}, "start"),
        ({"loss": lambda w, X, y: squares(w, X, y) + OWN.random()}, "loss"),
        ({"jac": lambda w, X, y: slope(w, X, y) + OWN.normal(size=4)}, "gradient"),
        ({"metric": lambda w, X, y: squares(w, X, y) + OWN.random(), "metric_name": "error"}, "evaluation"),
        ({"loss": lambda w, X, y: squares(w, X, y) * (1 + 1e-9 * OWN.random())}, ""),  # no more than rounding
    ],
    ids=range(10),
)
def test_one_seed_run_twice_finds_what_it_does_not_repeat(options, what):
    """A generator of one's own, the time, the system; in the start, the loss, the gradient or the metric."""
    assert unrepeatable(line(**options), 0) == what


def test_a_module_of_random_weights_is_found():
    """PyTorch's own generator object, which no seed reaches; its global one is seeded."""
    own = torch.Generator()

    def model():
        made = torch.nn.Linear(3, 1)
        torch.nn.init.normal_(made.weight, generator=own)
        return made

    assert unrepeatable(net(model), 0) == "start"
    assert unrepeatable(net(), 0) == ""


def test_the_report_says_that_pairing_is_broken(tmp_path):
    """Before the first run, and as the first note; a comparison whose seeds are seeds says nothing of the kind."""
    said = []
    problem = line(start=lambda rng: np.random.default_rng().normal(size=4))
    found = descend.compare(problem, ["gd", "adam"], **SMALL, announce=said.append)
    assert found.notes[0].startswith("Pairing is broken: the same seed gave another start when it ran again.")
    assert found.notes[0] in said
    assert not found.paired
    assert found.to_dict()["paired"] is False
    page = found.save_report(tmp_path / "report.html").read_text()
    assert "Pairing is broken" in page
    assert "gave every technique the same start" not in page
    other = descend.compare(line(), ["gd", "adam"], **SMALL)
    assert other.paired
    assert not any("Pairing" in note for note in other.notes)


def test_runs_from_one_seed_that_start_elsewhere_are_found():
    """What differs from process to process alone is seen by the runs: before a step, all of a seed have one loss."""
    curve = [[0, 2.0, 0.5], [10, 1.0, 0.6]]
    runs = [run_of(entry, seed, 0.5, curve=curve) for entry in (0, 1) for seed in (1000, 1001)]
    assert same_starts(runs)
    assert same_starts([*runs, run_of(2, 1000, None), run_of(2, 1002, 0.5, curve=[[0, 3.0, 0.5]])])
    assert same_starts([*runs, run_of(2, 1000, 0.5, curve=[[0, 2.0 + 1e-7, 0.5]])])
    assert not same_starts([*runs, run_of(2, 1000, 0.5, curve=[[0, 2.1, 0.5]])])
    assert same_starts([dataclasses.replace(runs[0], curve=[[0, None, None]]), runs[1], runs[2]])


def test_a_comparison_of_a_problem_that_draws_globally_repeats():
    """The same figures each time, though weights come from NumPy's global generator and noise from Python's."""
    problem = line(start=lambda rng: GLOBAL.randn(4))
    figures = [[row.test for row in descend.compare(problem, ["gd", "adam"], **SMALL).rows] for _ in range(2)]
    assert figures[0] == figures[1]
