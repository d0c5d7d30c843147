"""What all tests run in."""

import pytest

from descend.descent import interrupts


@pytest.fixture(autouse=True)
def presses_apart():
    """Each test, and each descent in it, is pressed in anew: a press is no second one after that of another descent."""
    before, interrupts.AGAIN = interrupts.AGAIN, 0.0
    yield
    interrupts.AGAIN = before
