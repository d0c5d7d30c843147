"""What all tests of `descend.optim` run in."""

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other cost more than networks of this size, and most where other work goes on."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
