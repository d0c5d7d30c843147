"""Ctrl-C ends a descent with the result so far."""

import signal
import subprocess
import sys
import textwrap
import threading

from tests.objectives.functions import slope, square
from tests.processes import PATIENCE

import descend
from descend import Reason


def test_ctrl_c_gives_back_the_result_so_far():
    """A real SIGINT in a real process: the step at hand is finished, the result and its reason are returned."""
    script = textwrap.dedent("""
        import time, descend
        seen = []
        def fun(x):
            time.sleep(0.01)
            seen.append(x)
            if len(seen) == 5:  # under way, with all machine code made
                print("ready", flush=True)
            return (x - 3) ** 2
        r = descend.minimize(fun, 0.0, jac=lambda x: 2 * (x - 3), method=descend.GD(lr=0.01), max_steps=10**6)
        print(r.reason, r.nit > 0, len(r.history.loss) == r.nit, r.x > 0)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert out == "interrupted True True True\n"
    assert "Ctrl-C again" in err
    assert process.returncode == 0


def test_the_interrupt_handler_is_put_back():
    """After a descent, Ctrl-C does what it did before."""
    before = signal.getsignal(signal.SIGINT)
    descend.minimize(square, 0.0, jac=slope, max_steps=2)
    assert signal.getsignal(signal.SIGINT) is before


def test_keyboard_interrupt_from_the_function_is_taken_as_ctrl_c():
    """Where the handler is not ours (a notebook, a thread), the exception itself ends the descent with its result."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return square(x)

    result = descend.minimize(fun, 0.0, jac=slope, method="adam", max_steps=100)
    assert result.reason is Reason.INTERRUPTED
    assert len(result.history.loss) == 4


def test_it_runs_in_any_thread():
    """Signals belong to the main thread; a descent elsewhere leaves them alone."""
    found = []
    thread = threading.Thread(
        target=lambda: found.append(descend.minimize(square, 0.0, method="gd", jac=slope, max_steps=3).nit)
    )
    thread.start()
    thread.join()
    assert found == [3]
