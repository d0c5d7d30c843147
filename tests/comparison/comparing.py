"""What tests of comparisons share: a small problem, and plans and runs made by hand."""

import numpy as np

import descend
from descend import Entry, Problem
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.spaces import LEARNING_RATES
from descend.comparison.running.runs import Run

RNG = np.random.default_rng(7)
X = RNG.normal(size=(100, 4))
Y = X @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.3 * RNG.normal(size=100)

SMALL = {
    "learning_rates": [0.01, 0.1], "budget": 240, "tuning_seeds": 2, "final_seeds": 6, "untuned": False,
    "target": "none", "jobs": 1,
}  # fmt: skip
"""Options of a comparison that is soon over, at given learning rates."""

TRIALS = {"budget": 240, "trials": 4, "tuning_seeds": 1, "final_seeds": 6, "untuned": False, "jobs": 1}
"""Options of a comparison that is soon over, at points of the search spaces, with a target from reference runs."""


def line(**options):
    """A small linear problem; quick to compare on."""
    settings = {
        "start": lambda rng: rng.normal(size=4),
        "loss": lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        "jac": lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        "data": (X, Y),
        "name": "line",
    }
    return Problem(**{**settings, **options})


def plan_of(
    entries=2, rates=(0.01, 0.1, 1.0), higher=True, finals=12, studies=1, examples=None, target="none", rules=None
):
    """A plan of which only the figures are looked at."""
    made = tuple(
        Entry(f"e{i}", (rules or [descend.GD()] * entries)[i], space={"lr": LEARNING_RATES}) for i in range(entries)
    )
    return Plan(
        problem="p", metric="accuracy", higher_is_better=higher, examples=examples, entries=made, reference=(),
        target=target, learning_rates=rates, trials=len(rates), studies=studies, budget=100, evaluate_every=10,
        tuning_seeds=tuple(range(3 * studies)), final_seeds=tuple(range(1000, 1000 + finals)), untuned=False,
        timed=False, fingerprint="f",
    )  # fmt: skip


def run_of(entry, seed, value, *, rate=0.1, phase="final", loss=0.0, study=0, curve=()):
    """A run that ended with this figure on validation data and, if it may read them, on test data; None: a miss."""
    miss = value is None
    return Run(
        entry=entry, hyperparameters={"lr": rate}, seed=seed, phase=phase, study=study, reason="max_steps", message="",
        miss=miss, examples=100, seconds=0.0, validation=value, validation_loss=None if miss else loss,
        test=None if phase in ("tuning", "reference") else value, curve=[list(look) for look in curve],
    )  # fmt: skip


def lr(rate=0.1):
    """What a single study chose, as `rows` takes it."""
    return ({"lr": rate},)
