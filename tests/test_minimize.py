"""`descend.minimize`: the notebook's digits, every reason to stop, every source of gradients, every bad input."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import scipy.optimize
import torch

import descend
from descend import Reason
from descend.errors import GradientError, MethodError, ObjectiveError, OptionError, ParameterError, RuleError

ROSEN = dict(fun=scipy.optimize.rosen, jac=scipy.optimize.rosen_der)


def square(theta):
    return (theta - 3) ** 2


def slope(theta):
    return 2 * (theta - 3)


# ---- the notebook's digits --------------------------------------------------------------------------------------


def test_gradient_descent_reproduces_the_printed_digits():
    """(θ−3)² from 0, lr 0.1, 100 steps: the notebook's last digit, its 100 losses, and the loss after the last step."""
    theta, losses = 0.0, []
    for _ in range(100):
        losses.append((theta - 3) ** 2)
        theta = theta - 0.1 * (2 * (theta - 3))
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.1), max_steps=100)
    assert result.x == theta == 2.9999999993888893
    assert result.history.loss.tolist() == losses
    assert len(result.history.loss) == 100
    assert result.history.loss[0] == 9.0
    assert result.fun == (theta - 3) ** 2
    assert (result.nit, result.nfev, result.njev) == (100, 101, 101)


def test_adam_reproduces_the_printed_digits_in_float64():
    """Adam, lr 0.01, 100 steps on the same function."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.Adam(lr=0.01), max_steps=100)
    assert result.x == 0.9375536000235248


def test_adam_reproduces_the_printed_digits_in_float32():
    """In float32 to 1e-6 of what torch printed; the dtype of x0 is kept."""
    result = descend.minimize(square, np.float32(0), jac=slope, method=descend.Adam(lr=0.01), max_steps=100)
    assert result.x.dtype == np.float32
    assert abs(float(result.x) - 0.9375530481338501) < 1e-6


def test_adam_reproduces_the_printed_digits_through_torch():
    """The same through a PyTorch tensor, MSELoss and autograd, beside torch.optim.Adam itself."""
    loss_fn, goal = torch.nn.MSELoss(), torch.tensor([3.0])
    result = descend.minimize(
        lambda t: loss_fn(t, goal), torch.tensor([0.0]), method=descend.Adam(lr=0.01), max_steps=100
    )
    theta = torch.nn.Parameter(torch.tensor([0.0]))
    optimizer = torch.optim.Adam([theta], lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss_fn(theta, goal).backward()
        optimizer.step()
    assert isinstance(result.x, torch.Tensor)
    assert result.x.dtype == torch.float32
    assert abs(result.x.item() - 0.9375530481338501) < 1e-6
    assert abs(result.x.item() - theta.item()) < 1e-6


# ---- containers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x0",
    [
        1.5,
        np.float32(1.5),
        np.array(1.5),
        np.array([1.5, -2.0]),
        np.ones((2, 3), dtype=np.float32),
        {"w": np.ones(3), "b": 0.5},
        [np.ones(2), {"deep": (np.zeros(1), 2.0)}],
        (np.ones(2, dtype=np.float32), np.ones(3)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_result_is_built_as_x0_was(x0):
    """Any nesting of dicts, lists, tuples, arrays and numbers comes back with its types, shapes and dtypes."""
    import optree

    def fun(x):
        return sum(float(np.sum((np.asarray(leaf) - 1) ** 2)) for leaf in optree.tree_leaves(x))

    def jac(x):
        return optree.tree_map(lambda leaf: 2 * (np.asarray(leaf) - 1), x)

    result = descend.minimize(fun, x0, jac=jac, method=descend.GD(lr=0.2), gtol=1e-4)
    assert result.success
    assert optree.tree_structure(result.x) == optree.tree_structure(x0)
    for before, after in zip(optree.tree_leaves(x0), optree.tree_leaves(result.x), strict=True):
        assert np.shape(before) == np.shape(after)
        assert np.asarray(before).dtype == np.asarray(after).dtype
        assert np.allclose(after, 1, atol=1e-3)


def test_a_plain_list_of_numbers_is_an_array():
    """As in SciPy, the function is given an array for x0=[1.3, 0.7]."""
    result = descend.minimize(scipy.optimize.rosen, [1.3, 0.7], jac=scipy.optimize.rosen_der, max_steps=1)
    assert isinstance(result.x, np.ndarray)


def test_x0_is_left_alone_and_the_function_may_keep_its_argument():
    """The descent works on copies: neither x0 nor what the function has kept changes later."""
    x0, seen = np.array([2.0, 2.0]), []

    def fun(x):
        seen.append(x)
        x += 0.0
        return float(x @ x)

    descend.minimize(fun, x0, jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=3)
    assert x0.tolist() == [2.0, 2.0]
    assert [round(float(x[0]), 6) for x in seen] == [2.0, 1.6, 1.28, 1.024]


def test_args_reach_fun_and_jac():
    """args is a tuple, or one value, as in SciPy."""
    for args in ((3.0,), 3.0):
        result = descend.minimize(
            lambda x, a: (x - a) ** 2, 0.0, args, descend.GD(lr=0.1), lambda x, a: 2 * (x - a), max_steps=100
        )
        assert result.x == 2.9999999993888893


# ---- sources of gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs", None], ids=str)
def test_finite_differences_reach_the_minimum(jac):
    """SciPy's finite differences, the default when nothing is known of the function; every evaluation is counted."""
    calls = []

    def fun(x):
        calls.append(1)
        return (x[0] - 1) ** 2 + 3 * (x[1] + 2) ** 2

    result = descend.minimize(fun, np.zeros(2), jac=jac, method=descend.GD(lr=0.1), gtol=1e-4)
    assert result.success
    assert np.allclose(result.x, [1, -2], atol=1e-3)
    assert result.nfev == len(calls)
    assert result.njev == result.nit + 1


def test_value_and_gradient_together():
    """jac=True: fun returns both, and is called once a point."""
    result = descend.minimize(lambda x: (square(x), slope(x)), 0.0, jac=True, method=descend.GD(lr=0.1), max_steps=100)
    assert result.x == 2.9999999993888893
    assert result.nfev == 101


def test_gradient_of_a_jax_function():
    """Autodiff by JAX, in float64 for a float64 start, in the container of x0."""
    import jax.numpy as jnp

    result = descend.minimize(
        lambda p: jnp.sum((p["a"] - 3.0) ** 2) + p["b"] ** 2,
        {"a": np.zeros(2), "b": 1.0},
        jac="jax",
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert result.x["a"].tolist() == [2.9999999993888893] * 2


def test_a_jax_start_needs_no_jac():
    """x0 of JAX arrays: autodiff, and JAX arrays back."""
    import jax
    import jax.numpy as jnp

    result = descend.minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2), method=descend.GD(lr=0.1), max_steps=60)
    assert isinstance(result.x, jax.Array)
    assert np.allclose(np.asarray(result.x), 3.0, atol=1e-4)


def test_torch_autodiff_of_a_numpy_start():
    """jac='torch' with a dict of arrays: the function is given tensors; unused parameters have gradient zero."""
    result = descend.minimize(
        lambda p: ((p["a"] - 3.0) ** 2).sum(),
        {"a": np.zeros(2), "unused": 5.0},
        jac="torch",
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert result.x["a"].tolist() == [2.9999999993888893] * 2
    assert result.x["unused"] == 5.0


def test_a_right_gradient_passes_the_check():
    """check_gradient=True on Rosenbrock's true gradient descends as without it."""
    options = dict(**ROSEN, x0=np.array([-1.2, 1.0]), method=descend.GD(lr=1e-3), max_steps=5)
    checked, unchecked = descend.minimize(**options, check_gradient=True), descend.minimize(**options)
    assert checked.x.tolist() == unchecked.x.tolist()
    assert checked.nfev == unchecked.nfev


def test_a_wrong_gradient_is_named_by_its_worst_entry():
    """The check names the entry, what was given and what finite differences say."""

    def jac(p):
        return {"w": 2 * p["w"] + np.array([0.0, 0.5, 0.0]), "b": 2 * p["b"]}

    with pytest.raises(GradientError, match=r"x0\['w'\]\[1\], given 2\.5, finite differences 2"):
        descend.minimize(
            lambda p: float(p["w"] @ p["w"] + p["b"] ** 2), {"b": 1.0, "w": np.ones(3)}, jac=jac, check_gradient=True
        )


def test_a_check_without_a_gradient_is_refused():
    """There is nothing to compare finite differences with but themselves."""
    with pytest.raises(OptionError, match="no gradient to check"):
        descend.minimize(square, 0.0, check_gradient=True)


def test_finite_differences_see_the_coarsest_number():
    """Leaves of float32 beside float64, and functions that answer in float32, still give a gradient."""
    import jax.numpy as jnp

    mixed = descend.minimize(
        lambda p: (float(p["a"][0]) - 1) ** 2 + (p["b"][0] - 1) ** 2,
        {"a": np.zeros(1, np.float32), "b": np.zeros(1)},
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert float(mixed.x["a"][0]) == pytest.approx(1, abs=1e-3)
    assert float(mixed.x["b"][0]) == pytest.approx(1, abs=1e-3)
    for fun in (lambda x: jnp.sum((jnp.asarray(x) - 1) ** 2), lambda x: np.float32(np.sum((x - 1) ** 2))):
        result = descend.minimize(fun, np.zeros(2), jac="2-point", method=descend.GD(lr=0.1), max_steps=100)
        assert np.allclose(result.x, 1, atol=1e-3)


def test_complex_steps_need_a_complex_function():
    """A function that drops the imaginary part has no gradient by complex steps, and is told so."""
    with pytest.raises(ObjectiveError, match=r"for a complex x: .*use jac='3-point'"):
        descend.minimize(lambda x: abs(x - 3) ** 2, 0.0, jac="cs")


def test_an_error_in_torchs_backward_keeps_the_descent():
    """A function whose gradient cannot be taken: one line, with the result so far."""

    def broken(x):
        y = torch.sqrt(x)
        z = y * y
        y.zero_()
        return z.sum()

    with pytest.raises(ObjectiveError, match="its gradient raised RuntimeError") as caught:
        descend.minimize(broken, torch.ones(2))
    assert caught.value.result is not None


# ---- reasons to stop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(gtol=1e-3), Reason.GRADIENT),
        (dict(tol=1e-3), Reason.GRADIENT),
        (dict(ftol=1e-6), Reason.VALUE),
        (dict(xtol=1e-4), Reason.STEP),
        (dict(target=0.01), Reason.TARGET),
        (dict(max_steps=7), Reason.MAX_STEPS),
        (dict(max_evals=7), Reason.MAX_EVALS),
        (dict(max_seconds=0.05, gtol=0.0), Reason.MAX_SECONDS),
        (dict(callback=lambda p: p.nit == 4), Reason.CALLBACK),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else None,
)
def test_each_criterion_ends_a_descent(options, reason):
    """Each criterion ends it alone, is named, and only those that say something about the minimum are a success."""
    result = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.01), **options
    )
    assert result.reason is reason
    assert result.success == (reason in (Reason.GRADIENT, Reason.VALUE, Reason.STEP, Reason.TARGET))
    assert result["success"] == result.success
    assert (result.status == 0) == result.success
    assert result.message.startswith("Converged" if result.success else "Stopped")


def test_tolerances_hold_where_they_are_claimed():
    """At the end of each: the largest gradient entry, the last change, the last step are within what was asked."""
    path = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.1), gtol=1e-3, history="path"
    )
    assert max(abs(path.jac)) <= 1e-3 < max(abs(2 * path.history.path[-1]))
    value = descend.minimize(
        lambda x: float(x @ x), np.ones(3), jac=lambda x: 2 * x, method=descend.GD(lr=0.1), ftol=1e-3
    )
    assert value.history.loss[-1] - value.fun <= 1e-3 < value.history.loss[-2] - value.history.loss[-1]


def test_a_budget_alone_is_spent_to_the_last_step():
    """max_steps without a tolerance: exactly that many, however small the gradient has become; the message says so."""
    result = descend.minimize(square, 3.0, jac=slope, method=descend.GD(lr=0.1), max_steps=100)
    assert result.nit == len(result.history.loss) == 100
    assert "no tolerance" in result.message


def test_without_any_criterion_it_stops_when_converged():
    """The default is a gradient tolerance of 1e-5."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.1))
    assert result.reason is Reason.GRADIENT
    assert abs(result.jac) <= 1e-5


def test_max_evals_is_never_exceeded():
    """Also where one gradient by finite differences takes several evaluations."""
    for budget in range(4, 30):
        calls = []

        def fun(x, calls=calls):
            calls.append(1)
            return float(x @ x)

        result = descend.minimize(fun, np.ones(3), method=descend.GD(lr=0.1), max_evals=budget)
        assert len(calls) == result.nfev <= budget
        assert budget - result.nfev < 4


def test_zero_steps_evaluate_the_start():
    """max_steps=0 is an evaluation of x0 and nothing else."""
    result = descend.minimize(square, 1.0, jac=slope, max_steps=0)
    assert (result.x, result.fun, result.nit, result.nfev) == (1.0, 4.0, 0, 1)


def test_a_divergent_descent_says_so_and_returns_its_best_point():
    """lr 1.1 on (θ−3)² overshoots for ever: reason, advice, and the start as the best point."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=1.1), max_steps=10_000)
    assert result.reason is Reason.DIVERGED
    assert (result.x, result.fun) == (0.0, 9.0)
    assert "learning rate" in result.message
    assert len(result.history.loss) == result.nit


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_a_value_that_is_not_finite_is_a_named_reason(bad):
    """The best finite point is kept, the message tells value and step."""
    result = descend.minimize(
        lambda x: bad if x < 0.5 else x**2, 1.0, jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=50
    )
    assert result.reason is Reason.NON_FINITE
    assert not result.success
    assert 0.5 < result.x < 0.7
    assert math.isfinite(result.fun)
    assert f"{bad} at step 4" in result.message


def test_a_gradient_that_is_not_finite_names_its_entry():
    """NaN in one entry of the gradient, in a container."""
    result = descend.minimize(
        lambda p: float(p["w"] @ p["w"]),
        {"w": np.ones(3)},
        jac=lambda p: {"w": np.array([1.0, np.nan, 1.0])},
        max_steps=5,
    )
    assert result.reason is Reason.NON_FINITE
    assert "x0['w'][1] is nan" in result.message


def test_a_large_finite_gradient_is_no_failure():
    """Entries whose squares overflow are finite all the same."""
    result = descend.minimize(
        lambda x: float(np.abs(x).sum()),
        np.ones(2),
        jac=lambda x: np.full(2, 1e200),
        method=descend.GD(lr=1e-202),
        max_steps=3,
    )
    assert result.reason is Reason.MAX_STEPS
    assert result.history.gradient_norm[0] == pytest.approx(math.sqrt(2) * 1e200)


def test_maximize_climbs_and_returns_the_highest_point():
    """A rule with maximize=True: the best point is the highest, a target is reached from below."""
    result = descend.minimize(
        lambda x: -square(x), 0.0, jac=lambda x: -slope(x), method=descend.GD(lr=0.1, maximize=True), target=-1e-6
    )
    assert result.reason is Reason.TARGET
    assert result.fun >= -1e-6


def test_the_best_point_is_returned_when_the_last_is_worse():
    """A rule that overshoots: x is the best point seen, x_last where the last step led."""
    result = descend.minimize(square, 0.0, jac=slope, method=descend.Momentum(lr=0.1), max_steps=8)
    losses = [*result.history.loss, square(result.x_last)]
    assert result.fun == min(losses) < losses[-1]
    assert result.fun == square(result.x)


def test_a_claim_of_convergence_holds_at_the_point_returned():
    """Where the gradient vanishes far from the best point: x is the point the claim is about, and the message tells."""
    bump = lambda x: -np.exp(-50 * x**2)  # noqa: E731
    result = descend.minimize(bump, 0.1, jac=lambda x: -100 * x * bump(x), method=descend.GD(lr=1.0), gtol=1e-6)
    assert result.success
    assert abs(result.jac) <= 1e-6
    assert result.x == result.x_last
    assert "better loss" in result.message


def test_a_schedule_or_rule_that_fails_keeps_the_descent():
    """A schedule that leaves its range at step 5, a callback that raises: the result so far is on the exception."""
    with pytest.raises(ObjectiveError, match=r"cannot make step 6: RuleError: GD\(lr=-1\.0\)") as caught:
        descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=lambda t: 0.1 if t < 5 else -1.0), max_steps=9)
    assert len(caught.value.result.history.loss) == 6
    with pytest.raises(ObjectiveError, match="callback raised ZeroDivisionError") as caught:
        descend.minimize(square, 0.0, jac=slope, method="gd", callback=lambda p: 0 // (3 - p.nit), max_steps=9)
    assert caught.value.result.nit == 3


# ---- callback, history ------------------------------------------------------------------------------------------


def test_the_callback_sees_every_point():
    """x, fun, jac, norm and counts at the start and after each step; its copies are its own."""
    points = []
    descend.minimize(
        lambda x: float(x @ x),
        np.array([1.0, 0.0]),
        jac=lambda x: 2 * x,
        method=descend.GD(lr=0.25),
        max_steps=3,
        callback=points.append,
    )
    assert [p.nit for p in points] == [0, 1, 2, 3]
    assert [float(p.x[0]) for p in points] == [1.0, 0.5, 0.25, 0.125]
    assert [p.fun for p in points] == [1.0, 0.25, 0.0625, 0.015625]
    assert [p.gradient_norm for p in points] == [2.0, 1.0, 0.5, 0.25]
    assert [p.nfev for p in points] == [1, 2, 3, 4]


def test_stop_iteration_in_the_callback_stops():
    """As in SciPy."""

    def callback(point):
        if point.nit == 2:
            raise StopIteration

    result = descend.minimize(square, 0.0, jac=slope, callback=callback, max_steps=10)
    assert result.reason is Reason.CALLBACK
    assert result.nit == 2


def test_history_is_bounded_by_thinning():
    """25,000 steps: at most 10,000 records, evenly spaced, with the right losses; the first is kept."""
    result = descend.minimize(lambda x: x, 0.0, jac=lambda x: 1.0, method=descend.GD(lr=1e-3), max_steps=25_000)
    history = result.history
    assert 5_000 <= len(history) <= 10_000
    assert history.stride == 4
    assert history.step.tolist() == list(range(0, 25_000, 4))
    assert np.allclose(history.loss, -1e-3 * history.step)


def test_history_can_be_switched_off_or_keep_the_path():
    """False keeps nothing; "path" keeps the parameters of each record, as x0 was built."""
    off = descend.minimize(square, 0.0, jac=slope, max_steps=3, history=False)
    assert off.history is None
    on = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.5), max_steps=2, history="path")
    assert on.history.path == [0.0, 3.0]


# ---- interruption -----------------------------------------------------------------------------------------------


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
    out, err = process.communicate(timeout=30)
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


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x0", "match"),
    [
        (np.array([1.0, np.nan]), r"x0\[1\] is nan: a start must be finite"),
        (math.inf, "x0 is inf"),
        (np.array([]), r"x0 is empty \(shape \(0,\)\)"),
        ([], "holds no parameter"),
        ({}, "holds no parameter"),
        (0, r"x0=0 has the integer type int64: .*pass floats, such as 0\.0"),
        (np.array([1, 2]), "integer type int64"),
        ([1, 2], "integer type"),
        (True, "integer type bool"),
        (1j, "complex"),
        (np.array([1j]), "complex"),
        ("0.0", r"x0='0\.0' is not a number"),
        (None, "x0=None is not a number"),
        ({"w": np.ones(2), "b": None}, r"x0\['b'\]=None"),
        ({"w": object()}, r"x0\['w'\]"),
        (np.float16(1), "float16: float32 and float64"),
        ({"w": [np.ones(2), np.array([np.inf])]}, r"x0\['w'\]\[1\]\[0\] is inf"),
    ],
    ids=[
        "nan",
        "inf",
        "empty",
        "empty list",
        "empty dict",
        "int",
        "int array",
        "int list",
        "bool",
        "complex",
        "complex array",
        "string",
        "None",
        "None in dict",
        "object",
        "float16",
        "inf in nest",
    ],
)
def test_a_bad_start_is_refused_by_name(x0, match):
    """The leaf, its value and what to do, in one line, before anything is run."""
    calls = []
    with pytest.raises(ParameterError, match=match) as caught:
        descend.minimize(lambda x: calls.append(1) or 0.0, x0)
    assert not calls
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "returned None: .*return"),
        (np.ones(3), r"array of shape \(3,\).*sum or mean"),
        ("nine", "'nine'"),
        (1j, "1j"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (True, "True"),
    ],
    ids=["None", "array", "string", "complex", "list", "bool"],
)
def test_a_function_that_returns_no_number_is_told_so(value, match):
    """What it returned, and what is needed."""
    with pytest.raises(ObjectiveError, match=match) as caught:
        descend.minimize(lambda x: value, 0.0, jac=slope, max_steps=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [np.array([4.0]), np.float32(4), torch.tensor(4.0), 4], ids=["1-array", "f32", "torch", "int"]
)
def test_numbers_of_any_kind_are_accepted(value):
    """Arrays of one number, NumPy and torch scalars, integers."""
    assert descend.minimize(lambda x: value, 0.0, jac=lambda x: 0.0, max_steps=1).fun == 4.0


def test_a_function_that_raises_loses_nothing():
    """Raising in step 57: the history of the 57 steps, the best point and the cause are on the exception."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 58:
            raise ZeroDivisionError("boom")
        return square(x)

    with pytest.raises(ObjectiveError, match=r"ZeroDivisionError: boom \(at step 57\)") as caught:
        descend.minimize(fun, 0.0, jac=slope, method=descend.GD(lr=0.01), max_steps=100)
    result = caught.value.result
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert result.reason is Reason.FUNCTION_RAISED
    assert len(result.history.loss) == result.nit == 57
    assert result.fun == result.history.loss[-1]
    assert result.x == pytest.approx(3 - 3 * 0.98**56)


@pytest.mark.parametrize(
    ("jac", "match"),
    [
        (lambda x: np.ones(3), r"jac gave shape \(3,\) for x0, which has shape \(2,\)"),
        (lambda x: np.ones((2, 1)), r"shape \(2, 1\)"),
        (lambda x: None, "jac gave None for x0"),
        (lambda x: "up", "jac gave 'up'"),
        (lambda x: {"w": x}, "jac gave"),
        (lambda x: 1 / 0, "jac raised ZeroDivisionError"),
    ],
    ids=["longer", "column", "None", "string", "dict", "raises"],
)
def test_a_bad_gradient_is_refused_by_name(jac, match):
    """Shape, type, structure: what was given and what is needed."""
    with pytest.raises(ObjectiveError, match=match):
        descend.minimize(lambda x: float(x @ x), np.ones(2), jac=jac, max_steps=3)


def test_a_gradient_of_another_structure_is_refused():
    """A missing key in a container."""
    with pytest.raises(ObjectiveError, match="not built like the parameters"):
        descend.minimize(lambda p: 0.0, {"w": 1.0, "b": 1.0}, jac=lambda p: {"w": 1.0}, max_steps=3)


def test_jac_true_needs_a_pair():
    """jac=True with a function that returns a number alone."""
    with pytest.raises(ObjectiveError, match=r"must return \(value, gradient\)"):
        descend.minimize(square, 0.0, jac=True)


def test_torch_loss_that_left_the_graph_is_explained():
    """A loss turned into a plain number has no gradient."""
    with pytest.raises(ObjectiveError, match=r"without \.item\(\)"):
        descend.minimize(lambda t: ((t - 3) ** 2).item(), torch.tensor(0.0))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (dict(method="adm"), MethodError, "unknown method or rule 'adm': did you mean 'adam'"),
        (dict(method=3), MethodError, "method=3 is neither a method nor a rule: pass one such as descend.LBFGS"),
        (dict(method=None), MethodError, "method=None is neither"),
        (dict(method=descend.methods.Method), MethodError, "is neither a method nor a rule"),
        (dict(gtol=-1.0), OptionError, r"gtol=-1\.0: a finite number ≥ 0"),
        (dict(ftol=math.nan), OptionError, "ftol=nan"),
        (dict(xtol="small"), OptionError, "xtol='small'"),
        (dict(tol=1e-3, gtol=1e-3), OptionError, "tol is another name for gtol"),
        (dict(max_steps=-1), OptionError, "max_steps=-1: a whole number ≥ 0"),
        (dict(max_steps=1.5), OptionError, r"max_steps=1\.5"),
        (dict(max_evals=0), OptionError, "max_evals=0"),
        (dict(max_seconds=0), OptionError, "max_seconds=0"),
        (dict(target=math.nan), OptionError, "target=nan"),
        (dict(jac="4-point"), OptionError, "jac='4-point'.*'2-point'"),
        (dict(history="all"), OptionError, "history='all'"),
        (dict(callback=3), OptionError, "callback=3"),
    ],
    ids=lambda v: "-".join(f"{k}={w}" for k, w in v.items()) if isinstance(v, dict) else None,
)
def test_a_bad_option_is_refused_by_name(options, error, match):
    """Option, value, what is allowed."""
    with pytest.raises(error, match=match):
        descend.minimize(square, 0.0, **options)


def test_a_budget_below_one_gradient_is_refused():
    """max_evals that does not pay for one gradient by finite differences."""
    with pytest.raises(OptionError, match="max_evals=3 does not pay for one gradient, which takes 4"):
        descend.minimize(lambda x: float(x @ x), np.ones(3), max_evals=3)


def test_fun_must_be_callable():
    """A value in place of the function."""
    with pytest.raises(OptionError, match=r"fun=9\.0 is not a function"):
        descend.minimize(9.0, 0.0)


def test_errors_are_value_errors_for_those_who_catch_these():
    """ParameterError and its siblings are ValueErrors; all are DescendErrors."""
    for error in (ParameterError, OptionError, RuleError, GradientError):
        assert issubclass(error, ValueError)
        assert issubclass(error, descend.DescendError)
    assert issubclass(ObjectiveError, descend.DescendError)


def test_torch_missing_is_said_in_one_line():
    """jac='torch' where torch is not installed names the extra to install."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import descend\n"
        "try: descend.minimize(lambda x: x, 0.0, jac='torch')\n"
        "except descend.errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout == "jac='torch' needs torch, which is not installed: pip install 'descend[torch]'\n"
