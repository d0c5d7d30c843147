"""What tests of rules share."""

import pytest

from descend.rules import rule as base


@pytest.fixture
def registry():
    """The registry, put back afterwards as it was."""
    known = base.registry()
    before = dict(known)
    yield known
    known.clear()
    known.update(before)
