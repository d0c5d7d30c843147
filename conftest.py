"""What every test and every documented snippet shares."""

import pytest

from descend.rules import base


@pytest.fixture(autouse=True)
def registry_as_it_was():
    """A rule that a test or a snippet defines is forgotten when it ends."""
    before = dict(base._REGISTRY)
    yield
    base._REGISTRY.clear()
    base._REGISTRY.update(before)
