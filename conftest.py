"""What every test and every documented snippet shares."""

import os
import signal

import pytest

# Where tests run side by side, OpenMP's threads would wait for each other's cores for most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell script starts what it puts into the background (`pytest &`) with SIGINT ignored, and every process that a
# test starts would inherit that: no Ctrl-C would reach it. A handler, unlike an ignored signal, is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup does the same with SIGHUP.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

from descend.rules.registry import forgetting


def pytest_runtest_setup(item):
    """Without machine code there is nothing to see of it."""
    if item.get_closest_marker("machine_code") and os.environ.get("DESCEND_MACHINE_CODE") == "0":
        pytest.skip("DESCEND_MACHINE_CODE=0 switches machine code off")


@pytest.fixture(autouse=True)
def registry_as_it_was():
    """A rule that a test or a snippet defines is forgotten when it ends."""
    with forgetting():
        yield
