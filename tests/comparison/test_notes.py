"""Notes: warnings beside a table."""

import dataclasses

from tests.comparison.comparing import SMALL, line, lr, plan_of, run_of

import descend
from descend.comparison.judging.notes import notes
from descend.comparison.judging.results import entry_results


def test_notes_protect_the_reader():
    """A best rate at the edge, too few seeds, batch GD's few steps."""
    found = descend.compare(line(), ["gd"], **{**SMALL, "learning_rates": [1e-5, 1e-4], "final_seeds": 3})
    assert any("edge of the range 1e-05 … 0.0001" in note for note in found.notes)
    assert any("3 final seeds are too few for a verdict on 1 technique: use at least 6" in note for note in found.notes)
    assert found.rows[0].at_edge
    assert found.rows[0].test.low is None
    full = descend.compare(line(), **SMALL)
    assert any("one step for each pass over the data, so only 4 steps" in note for note in full.notes)


def test_an_adaptive_rule_far_behind_a_momentum_is_suspected():
    """“Under-tuned?”, where the gap is wider than the intervals; not where it is small, and not the other way round."""
    rules = [descend.Momentum(), descend.Adam()]
    plan = plan_of(rules=rules, examples=50, finals=10)

    def told(momentum, adam):
        runs = [run_of(0, s, momentum + 1e-4 * i) for i, s in enumerate(plan.final_seeds)]
        runs += [run_of(1, s, adam + 1e-4 * i) for i, s in enumerate(plan.final_seeds)]
        return [n for n in notes(plan, entry_results(plan, runs, [lr()] * 2), None) if "seldom is" in n]

    assert "e1 is far behind e0" in told(0.95, 0.80)[0]
    assert not told(0.95, 0.9499)
    assert not told(0.80, 0.95)


def test_validation_and_test_that_disagree_are_told():
    """The best on validation data, clearly worse on test data."""
    plan = plan_of(examples=50, finals=10)
    runs = [dataclasses.replace(run_of(0, s, 0.9), test=0.5 + 0.001 * i) for i, s in enumerate(plan.final_seeds)]
    runs += [dataclasses.replace(run_of(1, s, 0.8), test=0.8 + 0.001 * i) for i, s in enumerate(plan.final_seeds)]
    found = notes(plan, entry_results(plan, runs, [lr()] * 2), None)
    assert any("e0 is best on validation data and clearly worse than e1 on test data" in n for n in found)


def test_studies_that_choose_far_apart_are_told():
    """A factor of more than ten between the learning rates of the studies."""
    plan = plan_of(examples=50, studies=2, finals=12)
    runs = [run_of(e, s, 0.9, study=int(s >= 1006)) for e in (0, 1) for s in plan.final_seeds]
    chosen = [({"lr": 0.01}, {"lr": 0.5}), ({"lr": 0.01}, {"lr": 0.03})]
    found = notes(plan, entry_results(plan, runs, chosen), None)
    assert any("for e0 that are more than a factor of ten apart" in n for n in found)


def test_a_direction_that_the_name_contradicts_is_told():
    """An accuracy of which less is said to be better; not where name and direction agree."""
    told = [n for n in notes(plan_of(higher=False), [], None) if "higher_is_better" in n]
    assert told == [
        "A lower accuracy counts as better here, though by that name a higher one is: see that higher_is_better is "
        "right."
    ]
    assert not [n for n in notes(plan_of(), [], None) if "higher_is_better" in n]
