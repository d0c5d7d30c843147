"""Nonlinear regressions whose answers NIST has certified: found, known to be found, and left soon."""

import statistics

import numpy as np
import pytest
from tests.oracles.nist import regression, regressions

import descend


class Seen:
    """A loss that counts its evaluations, and remembers which of them was the last to lower it beyond rounding."""

    def __init__(self, loss):
        self.loss, self.count, self.last, self.lowest = loss, 0, 0, np.inf

    def __call__(self, b):
        found = self.loss(b)
        f = found[0] if isinstance(found, tuple) else found
        self.count += 1
        if f < self.lowest * (1 - 1e-15):
            self.lowest, self.last = f, self.count
        return found


def fitted(problem, start, *, exact, **how):
    """The digits found, whether it was called a success, and what was seen."""
    loss = Seen(problem.loss_and_gradient if exact else problem.loss)
    result = descend.minimize(loss, start, jac=True if exact else None, history=False, **how)
    return problem.digits(result.x), result.success, loss


EASY = ["Misra1a", "Chwirut2", "DanWood", "Kirby2", "Thurber", "Rat42"]


@pytest.mark.parametrize("name", EASY)
def test_found(name):
    """From NIST's second start the certified answer is found, by exact gradients and by differences."""
    problem = regression(name)
    digits, success, loss = fitted(problem, problem.starts[1], exact=True)
    assert digits >= 6
    assert success
    assert loss.count <= 200
    digits, _, loss = fitted(problem, problem.starts[1], exact=False)
    assert digits >= 4
    assert loss.count <= 200 * (len(problem.certified) + 1)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_found_in_any_unit_of_the_loss(unit):
    """A loss in other units takes as many evaluations, and is known to be lowest."""
    problem = regression("DanWood")
    scaled = Seen(lambda b: tuple(unit * np.asarray(part) for part in problem.loss_and_gradient(b)))
    result = descend.minimize(scaled, problem.starts[1], jac=True)
    assert result.success
    assert problem.digits(result.x) >= 4
    assert scaled.count < 100


@pytest.mark.slow
def test_all_by_exact_gradients():
    """At least 48 of 54 to 4 digits, at most 2 called a success that are not, and nobody lingers."""
    found = [fitted(p, start, exact=True) for p in regressions() for start in p.starts]
    assert sum(digits >= 4 for digits, _, _ in found) >= 48
    assert sum(success and digits < 4 for digits, success, _ in found) <= 2
    assert statistics.median(loss.count for _, _, loss in found) <= 100
    assert max(loss.count - loss.last for _, _, loss in found) <= 2000


@pytest.mark.slow
def test_all_by_differences():
    """At least 30 of 54 to 4 digits, at most 2 called a success that are not, and nobody lingers."""
    found = [fitted(p, start, exact=False) for p in regressions() for start in p.starts]
    assert sum(digits >= 4 for digits, _, _ in found) >= 30
    assert sum(success and digits < 4 for digits, success, _ in found) <= 2
    assert max(loss.count - loss.last for _, _, loss in found) <= 2000
