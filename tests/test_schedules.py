"""Schedules: step by step against torch.optim.lr_scheduler, at their edges, and as values."""

import dataclasses
import math
import pickle
import random

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

import descend
from descend import schedules
from descend.errors import ScheduleError

MADE = [
    pytest.param(schedules.Constant(0.1), id="constant"),
    pytest.param(schedules.StepDecay(0.1, every=7, gamma=0.5), id="step_decay"),
    pytest.param(schedules.Exponential(0.1, 0.97), id="exponential"),
    pytest.param(schedules.Cosine(0.1, steps=30, final=0.001), id="cosine"),
    pytest.param(schedules.LinearWarmup(0.1, steps=5, start=0.2), id="warmup"),
    pytest.param(schedules.LinearWarmup(schedules.Cosine(0.1, steps=25), steps=5), id="warmup_cosine"),
    pytest.param(schedules.OneCycle(0.1, steps=30), id="one_cycle"),
]


def torch_rates(make, lr, steps):
    """Learning rates that a torch scheduler sets for steps 0, 1, … of an optimizer that starts from `lr`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=lr)
    scheduler = make(optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def rates(schedule, steps):
    return [schedule(step) for step in range(steps)]


# ---- against torch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (7, 0.1), (30, 0.9), (500, 0.1)])
def test_step_decay_is_step_lr(every, gamma):
    """StepDecay drops at the steps at which torch's StepLR does, by as much."""
    expected = torch_rates(lambda o: lr_scheduler.StepLR(o, every, gamma), 0.3, 50)
    assert rates(schedules.StepDecay(0.3, every, gamma), 50) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("gamma", [0.5, 0.99, 1.0, 1.01])
def test_exponential_is_exponential_lr(gamma):
    """Exponential is torch's ExponentialLR, shrinking or growing."""
    expected = torch_rates(lambda o: lr_scheduler.ExponentialLR(o, gamma), 0.3, 200)
    assert rates(schedules.Exponential(0.3, gamma), 200) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 30, 200])
@pytest.mark.parametrize("final", [0.0, 0.01])
def test_cosine_is_cosine_annealing_lr(steps, final):
    """Cosine is torch's CosineAnnealingLR up to its end."""
    expected = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, eta_min=final), 0.3, steps + 1)
    assert rates(schedules.Cosine(0.3, steps, final), steps + 1) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("start", [0.001, 1 / 3, 1.0])
def test_linear_warmup_is_linear_lr(steps, start):
    """LinearWarmup to a number is torch's LinearLR, during the warm-up and after."""
    expected = torch_rates(lambda o: lr_scheduler.LinearLR(o, start_factor=start, total_iters=steps), 0.3, steps + 5)
    assert rates(schedules.LinearWarmup(0.3, steps, start), steps + 5) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize(("warm", "steps"), [(1, 10), (5, 30), (30, 1)])
def test_warmup_then_cosine_is_sequential_lr(warm, steps):
    """LinearWarmup followed by Cosine is torch's SequentialLR of LinearLR and CosineAnnealingLR, step by step."""

    def make(optimizer):
        line = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=warm)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.01)
        return lr_scheduler.SequentialLR(optimizer, [line, cosine], milestones=[warm])

    schedule = schedules.LinearWarmup(schedules.Cosine(0.3, steps, final=0.01), warm, start=0.1)
    expected = torch_rates(make, 0.3, warm + steps + 1)
    assert rates(schedule, warm + steps + 1) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("steps", "rise", "start_div", "final_div"),
    [
        (100, 0.3, 25.0, 1e4),
        (100, 0.25, 10.0, 1e2),
        (100, 0.3, 25.0, 1.0),
        (100, 0.3, 1.0, 1e4),
        (97, 0.5, 4.0, 7.0),
        (7, 0.9, 25.0, 1e4),
        (10, 1.0, 25.0, 1e4),
        (4, 0.3, 25.0, 1e4),
        # Fewer steps than the rise takes: torch starts past its top.
        (3, 0.3, 25.0, 1e4),
        (2, 0.3, 25.0, 1e4),
        (1, 0.3, 25.0, 1e4),
        (10, 0.05, 25.0, 1e4),
        (10, 0.0, 25.0, 1e4),
    ],
)
def test_one_cycle_is_one_cycle_lr(steps, rise, start_div, final_div):
    """OneCycle is torch's OneCycleLR at every step, from ``peak / start_div`` to ``peak / start_div / final_div``."""

    def make(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer,
            0.3,
            total_steps=steps,
            pct_start=rise,
            div_factor=start_div,
            final_div_factor=final_div,
            cycle_momentum=False,
        )

    schedule = schedules.OneCycle(0.3, steps, rise, start_div, final_div)
    expected = torch_rates(make, 0.3, steps)
    assert rates(schedule, steps) == pytest.approx(expected, rel=1e-12, abs=1e-12)


# ---- edges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "rise"), [(10, 0.1), (2, 0.5)])
def test_one_cycle_may_begin_at_its_peak(steps, rise):
    """A rise of exactly one step, where torch divides by zero, starts at the peak and falls to the end."""
    found = rates(schedules.OneCycle(0.5, steps, rise), steps)
    assert found[0] == 0.5
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.5 / 25 / 1e4, rel=1e-9)


def test_one_cycle_meets_its_three_numbers():
    """The peak is reached after the share `rise` of the steps; first and last step have the divided rates."""
    schedule = schedules.OneCycle(1.0, steps=100, rise=0.3, start_div=10.0, final_div=100.0)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(29) == max(rates(schedule, 100)) == 1.0
    assert schedule(99) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        pytest.param(schedules.Cosine(0.1, steps=10, final=0.02), 0.02, id="cosine"),
        pytest.param(schedules.OneCycle(0.1, steps=10, start_div=5.0, final_div=2.0), 0.01, id="one_cycle"),
        pytest.param(schedules.LinearWarmup(0.1, steps=10), 0.1, id="warmup"),
    ],
)
def test_after_its_end_a_schedule_stays(schedule, last):
    """A descent that is longer than its schedule goes on with the last number; nothing rises again."""
    assert [schedule(step) for step in (10, 11, 20, 10_000)] == pytest.approx([last] * 4, rel=1e-12)


def test_warmup_starts_from_zero_and_arrives():
    """By default the line runs from 0 at step 0 to the full number at step `steps`, never beyond."""
    assert rates(schedules.LinearWarmup(0.5, steps=4), 6) == [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert rates(schedules.LinearWarmup(0.5, steps=1), 3) == [0.0, 0.5, 0.5]


def test_warmup_hands_over_at_step_zero_of_the_next():
    """What follows a warm-up starts counting where the warm-up ends, and the line aims at its first value."""
    asked = []

    def then(step):
        asked.append(step)
        return 8.0 - step

    schedule = schedules.LinearWarmup(then, steps=4)
    assert rates(schedule, 7) == [0.0, 2.0, 4.0, 6.0, 8.0, 7.0, 6.0]
    assert asked == [0, 0, 0, 0, 0, 1, 2]


def test_warmups_nest():
    """A schedule of schedules is a schedule: a warm-up of a warm-up of a cosine."""
    inner = schedules.LinearWarmup(schedules.Cosine(1.0, steps=10), steps=4, start=0.5)
    outer = schedules.LinearWarmup(inner, steps=2, start=0.0)
    assert rates(outer, 3) == [0.0, 0.25, 0.5]
    assert [outer(2 + step) for step in range(15)] == rates(inner, 15)


def test_constant_is_constant():
    """Constant answers with its value at every step."""
    assert rates(schedules.Constant(0.25), 3) == [0.25, 0.25, 0.25]


def test_first_step_of_a_rule_is_step_zero_of_its_schedule():
    """Rules count steps from 1, schedules from 0, as torch's: the first step has the first rate."""
    schedule = schedules.StepDecay(0.4, every=2, gamma=0.5)
    assert [descend.GD(lr=schedule).at(t).lr for t in (1, 2, 3, 4, 5)] == [0.4, 0.4, 0.2, 0.2, 0.1]


def test_integers_of_numpy_are_whole_numbers():
    """A number of steps that comes from NumPy is taken."""
    assert schedules.Cosine(1.0, steps=np.int64(2))(np.int64(1)) == pytest.approx(0.5)


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (schedules.Constant, "Constant(value={}): a finite number is needed"),
        (lambda v: schedules.StepDecay(v, every=2), "StepDecay(value={}): a finite number is needed"),
        (lambda v: schedules.StepDecay(1.0, every=2, gamma=v), "StepDecay(gamma={}): a finite number is needed"),
        (lambda v: schedules.Exponential(1.0, gamma=v), "Exponential(gamma={}): a finite number is needed"),
        (lambda v: schedules.Cosine(1.0, 5, final=v), "Cosine(final={}): a finite number is needed"),
        (lambda v: schedules.LinearWarmup(1.0, 5, start=v), "LinearWarmup(start={}): a finite number is needed"),
        (lambda v: schedules.LinearWarmup(v, 5), "LinearWarmup(then={}): a finite number is needed"),
        (lambda v: schedules.OneCycle(v, 5), "OneCycle(peak={}): a finite number is needed"),
    ],
    ids=lambda v: v.partition("{")[0].replace("(", "-").rstrip("=") if isinstance(v, str) else "",
)
@pytest.mark.parametrize("value", [math.nan, math.inf, "0.1", None, True, 1j], ids=str)
def test_a_value_that_is_no_number_is_refused(make, says, value):
    """The message names schedule, argument, value and what it must be, when the schedule is made."""
    with pytest.raises(ScheduleError) as caught:
        make(value)
    assert str(caught.value).startswith(says.format(repr(value)))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        pytest.param(lambda v: schedules.StepDecay(0.1, every=v), "StepDecay(every={})", id="step_decay"),
        pytest.param(lambda v: schedules.Cosine(0.1, steps=v), "Cosine(steps={})", id="cosine"),
        pytest.param(lambda v: schedules.LinearWarmup(0.1, steps=v), "LinearWarmup(steps={})", id="warmup"),
        pytest.param(lambda v: schedules.OneCycle(0.1, steps=v), "OneCycle(steps={})", id="one_cycle"),
    ],
)
@pytest.mark.parametrize("value", [0, -3, 2.5, 10.0, True, "10", None], ids=str)
def test_a_number_of_steps_that_is_not_whole_is_refused(make, argument, value):
    """Steps are whole and at least one; the message says so and names the value."""
    with pytest.raises(ScheduleError) as caught:
        make(value)
    assert str(caught.value).startswith(argument.format(repr(value)))
    assert "a whole number of steps ≥ 1 is needed" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rise": 1.5}, "OneCycle(rise=1.5): a number from 0 to 1 is needed"),
        ({"rise": -0.1}, "OneCycle(rise=-0.1): a number from 0 to 1 is needed"),
        ({"start_div": 0.0}, "OneCycle(start_div=0.0): a number > 0 is needed"),
        ({"final_div": -1.0}, "OneCycle(final_div=-1.0): a number > 0 is needed"),
    ],
    ids=["rise_above", "rise_below", "start_div", "final_div"],
)
def test_one_cycle_out_of_range_is_refused(changes, message):
    """OneCycle's shares and divisors have ranges; the message names value and range."""
    with pytest.raises(ScheduleError) as caught:
        schedules.OneCycle(0.1, 10, **changes)
    assert str(caught.value).startswith(message)


def test_schedule_errors_are_value_errors():
    """Code that catches ValueError catches a wrong schedule."""
    with pytest.raises(ValueError, match="steps=0"):
        schedules.Cosine(0.1, steps=0)


# ---- schedules are values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", MADE)
def test_schedules_are_pure(schedule):
    """The number of a step depends on the step alone: asked twice, in any order, it is the same, and a float."""
    forward = rates(schedule, 40)
    order = list(range(40)) * 2
    random.Random(0).shuffle(order)
    assert [schedule(step) for step in order] == [forward[step] for step in order]
    assert {type(v) for v in forward} == {float}


@pytest.mark.parametrize("schedule", MADE)
def test_schedules_pickle_and_compare(schedule):
    """A schedule that went through pickle equals and hashes as the one that was sent, and gives its numbers."""
    other = pickle.loads(pickle.dumps(schedule))
    assert other == schedule
    assert hash(other) == hash(schedule)
    assert rates(other, 40) == rates(schedule, 40)


@pytest.mark.parametrize("schedule", MADE)
def test_schedules_are_frozen(schedule):
    """A schedule cannot be changed once it is made; one with another number is not equal to it."""
    first = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, first, 0.5)
    assert dataclasses.replace(schedule, **{first: 0.5}) != schedule
