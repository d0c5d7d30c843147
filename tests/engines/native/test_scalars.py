"""The row that a kernel reads: written anew as far as it changes, and only once it is whole."""

import pytest

import descend
from descend.engines.native.scalars import Scalars


class Unsteady(descend.Rule, register=False):
    """Scalars whose order changes, and that raise when they are told to."""

    lr: float = 0.1
    broken = False

    def scalars(self, t):
        if type(self).broken:
            raise LookupError("not today")
        return {"one": float(t), "two": -float(t)} if t % 2 else {"two": -float(t), "one": float(t)}

    def constant_from(self):
        return 3.0

    @staticmethod
    def update(p, g, s):
        return p - s.lr * (s.one * g + s.two)


NUMBERS = ("one", "lr", "two")


def test_scalars_go_by_their_names():
    """In whatever order a step returns them."""
    row = [0.0] * 3
    scalars = Scalars(Unsteady(), row, NUMBERS)
    for t in (1, 2):
        scalars.fill(t, {})
        assert row == [t, 0.1, -t]


@pytest.mark.parametrize("steps", [0, 2])
def test_scalars_that_raise_are_asked_again(steps):
    """From where on they are constant they are written once; an error is not that once."""
    row = [0.0] * 3
    scalars = Scalars(Unsteady(), row, NUMBERS)
    for t in range(1, steps + 1):
        scalars.fill(t, {})
    Unsteady.broken = True
    try:
        with pytest.raises(LookupError):
            scalars.fill(3, {})
        with pytest.raises(LookupError):
            scalars.fill(3, {})
    finally:
        Unsteady.broken = False
    scalars.fill(3, {})
    assert row == [3.0, 0.1, -3.0]
    scalars.fill(4, {})
    assert row == [3.0, 0.1, -3.0]
