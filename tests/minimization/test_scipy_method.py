"""Rules and methods as a `method` of `scipy.optimize.minimize`."""

import pickle

import numpy as np
import pytest
import scipy.optimize
from tests.methods.cases import METHODS, RULES
from tests.objectives.functions import ROSEN, bowl, corner

import descend
from descend.errors import DescendError, MethodError, OptionError


@pytest.mark.parametrize("method", [*METHODS.values(), *RULES.values()], ids=[*METHODS, *RULES])
def test_scipy_takes_each_method_and_rule(method):
    """scipy.optimize.minimize(…, method=…) ends where descend.minimize does, with SciPy's fields."""
    options = {"gtol": 1e-6, "maxiter": 3_000}
    through = scipy.optimize.minimize(bowl, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, options=options)
    ours = descend.minimize(bowl, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, gtol=1e-6, max_steps=3_000)
    assert isinstance(through, scipy.optimize.OptimizeResult)
    assert np.array_equal(through.x, ours.x)
    assert (through.success, through.nit, through.status) == (ours.success, ours.nit, ours.status)


@pytest.mark.parametrize("method", [descend.LBFGS, descend.Adam])
def test_scipy_takes_a_class(method):
    """It stands for its defaults, as in descend.minimize."""
    through, ours = (
        scipy.optimize.minimize(bowl, np.zeros(4), jac=True, method=one, options={"maxiter": 5})
        for one in (method, method())
    )
    assert np.array_equal(through.x, ours.x)


def test_scipys_options_callbacks_and_bounds():
    """args, tol, both kinds of callbacks, bounds, disp; what is not known is named."""
    points, results = [], []
    scipy.optimize.minimize(
        lambda x, a: float(np.sum((x - a) ** 2)), [0.0, 3.0], args=(2.0,), jac=lambda x, a: 2 * (x - a),
        method=descend.LBFGS(), callback=points.append, tol=1e-8,
    )  # fmt: skip
    assert points[-1] == pytest.approx(2.0)

    def whole(intermediate_result):
        results.append(intermediate_result)
        if intermediate_result.nit == 2:
            raise StopIteration

    stopped = scipy.optimize.minimize(**ROSEN, x0=[-1.2, 1.0], method=descend.BFGS(), callback=whole)
    assert (stopped.nit, str(stopped.reason), len(results)) == (2, "callback", 2)
    bounded = scipy.optimize.minimize(
        corner, np.zeros(3), jac=True, method=descend.BarzilaiBorwein(), bounds=[(0, 1)] * 3
    )
    assert bounded.x == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)
    with pytest.raises(OptionError, match="option 'maxiters' is not known; did you mean 'maxiter'"):
        scipy.optimize.minimize(**ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), options={"maxiters": 5})
    with pytest.raises(MethodError, match=r"LBFGS knows no constraints but bounds; write .*'SLSQP'"):
        scipy.optimize.minimize(
            **ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), constraints={"type": "eq", "fun": lambda x: x[0]}
        )


def test_scipys_budgets_do_not_end_tolerances():
    """As SciPy's own methods, ours stop where they have converged within a budget that is given alone."""
    for bounds in (None, [(0, 0.5)] * 4):
        options = dict(x0=np.zeros(4), bounds=bounds, options={"maxiter": 500})
        found = scipy.optimize.minimize(**ROSEN, method=descend.LBFGS(), **options)
        assert found.success
        assert found.nit < 100


def test_disp_prints_the_message(capsys):
    scipy.optimize.minimize(**ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), options={"disp": True})
    assert "Converged: no lower point can be told" in capsys.readouterr().out


@pytest.mark.parametrize("method", [descend.Adam(lr=0.1), descend.LBFGS(memory=3)], ids=["rule", "method"])
def test_what_was_pickled_is_still_a_method(method):
    """In another process, too: the adapter belongs to the package and not to the object."""
    again = pickle.loads(pickle.dumps(method))
    found = scipy.optimize.minimize(bowl, np.zeros(4), jac=True, method=again, options={"maxiter": 3})
    assert again == method
    assert found.nit == 3


def test_without_minimize_a_rule_says_what_is_missing(monkeypatch):
    """A rule can be called before the layer that descends is there; ``import descend`` brings it."""
    monkeypatch.setattr("descend.rules.scipy_method._adapter", None)
    with pytest.raises(DescendError, match="import descend first"):
        descend.Adam()(bowl, np.zeros(4))


def test_scipy_keeps_the_points_on_the_way():
    """return_all: as `allvecs`, from the start to the end, as SciPy's BFGS has them."""
    found = scipy.optimize.minimize(**ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), options={"return_all": True})
    assert len(found.allvecs) == found.nit + 1
    assert found.allvecs[0].tolist() == [0.0, 0.0]
    assert np.array_equal(found.allvecs[-1], found.x)


def test_scipys_global_searches_take_a_method_for_their_local_ones():
    """basinhopping and dual_annealing hand their start, bounds and options to it."""

    def waves(x):
        return float(np.sum(x**2 + 10 * np.cos(2 * x)))

    box, lowest = [(-4.0, 4.0)] * 2, descend.minimize(waves, [1.4, 1.4]).fun
    kwargs = {"method": descend.LBFGS()}
    hopped = scipy.optimize.basinhopping(waves, [4.0, 3.0], minimizer_kwargs=kwargs, niter=20, stepsize=3.0, rng=0)
    assert hopped.fun == pytest.approx(lowest)
    local = {"method": descend.LBFGS(), "bounds": box}
    annealed = scipy.optimize.dual_annealing(waves, box, minimizer_kwargs=local, maxiter=20, rng=0)
    assert annealed.fun == pytest.approx(lowest)
