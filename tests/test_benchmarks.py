"""The benchmarks run, and say what they measured. How long anything takes is not tested."""

import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from tests.oracles.nist import MODELS, regression

import descend

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name, *arguments, folder):
    """Run a benchmark in an empty folder; what it printed."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def step_report(monkeypatch):
    """The module of that name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("step_report")


def measured(**medians):
    """What step.py finds for one rule at one size, with these times."""
    times = {name.replace("_", " "): {"median": m, "low": m, "high": m, "rounds": [m]} for name, m in medians.items()}
    return {"parameters": 1000, "tensors": 1, "bytes_per_parameter": 12, "microseconds": times}


def test_ratios(step_report):
    """Others' times in units of descend's; the fastest of torch's ways and of all; bytes over time."""
    found = step_report.ratios(measured(descend=2.0, torch=8.0, torch_fused=3.0, Optax=1.0, copy=1.0, add=4.0))
    assert found["torch"] == 4.0
    assert (found["fastest torch"], found["fastest torch is"]) == (1.5, "torch fused")
    assert (found["fastest peer"], found["fastest peer is"]) == (0.5, "Optax")
    assert (found["GB/s"], found["copy GB/s"], found["of copy"]) == (6.0, 12.0, 0.5)
    assert (found["add GB/s"], found["of add"]) == (3.0, 2.0)


def test_ratios_of_those_that_are_there(step_report):
    """Without peers there is no ratio, and without descend there is none at all."""
    assert "fastest peer" not in step_report.ratios(measured(descend=2.0, copy=1.0))
    assert step_report.ratios(measured(torch=2.0, copy=1.0)) == {}


def test_geometric_mean(step_report):
    """Twice as fast and twice as slow are equally fast."""
    assert step_report.geometric([2.0, 0.5]) == 1.0
    assert step_report.geometric([]) is None


@pytest.mark.slow
def test_step(tmp_path):
    """Two rules at the smallest size: every figure is there and positive, and torch's numbers are descend's."""
    few = ["--rules", "sgd,lion", "--sizes", "tiny", "--rounds", "2", "--contenders", "descend,torch,torch fused"]
    files = ["--json", "a.json", "--markdown", "a.md", "--chart", "a.html"]
    printed = run("step", "--quick", "--threads", "1", *few, *files, folder=tmp_path)
    assert printed.strip() == (tmp_path / "a.md").read_text(encoding="utf-8").strip()
    assert "plotly" in (tmp_path / "a.html").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert all(found["memory"]["1"][name] > 0 for name in ("copy", "add"))
    assert found["machine"]["command"].startswith("python benchmarks/step.py --quick --threads 1 --rules sgd")
    sgd, lion = found["results"]
    assert (sgd["rule"], sgd["parameters"], sgd["tensors"], sgd["bytes_per_parameter"]) == ("sgd", 8970, 6, 12)
    assert lion["bytes_per_parameter"] == 20
    assert set(sgd["microseconds"]) == {"descend", "torch", "torch fused", "copy", "add"}
    assert set(lion["microseconds"]) == {"descend", "copy", "add"}
    assert lion["skipped"]["torch"] == "torch.optim has no Lion"
    for result in (sgd, lion):
        for times in result["microseconds"].values():
            assert 0 < times["low"] <= times["median"] <= times["high"]
            assert len(times["rounds"]) == 2
    assert all(far < 1e-4 for far in sgd["difference"].values())
    assert run("step", "--from", "a.json", folder=tmp_path) == printed


@pytest.mark.slow
def test_step_in_one_memory(tmp_path):
    """Beside each other in one process; and who cannot be there is named."""
    few = ["--rules", "adam", "--sizes", "tiny", "--rounds", "2", "--contenders", "descend,torch"]
    run("step", "--quick", "--same-memory", "--threads", "1", *few, "--json", "a.json", folder=tmp_path)
    (adam,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["results"]
    assert set(adam["microseconds"]) == {"descend", "torch", "copy", "add"}
    assert (adam["skipped"], adam["difference"]) == ({}, {})
    with pytest.raises(AssertionError, match="--same-memory: Optax keeps its arrays"):
        run("step", "--quick", "--same-memory", "--contenders", "descend,Optax", folder=tmp_path)


def test_one_memory(monkeypatch):
    """Optimizers that step in turn step the same numbers, and their state is one."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    contenders = importlib.import_module("contenders")
    data = contenders.OneMemory([(3, 2), (), (5,)])
    made = [contenders.make(name, descend.Adam(), data) for name in ("descend", "torch", "torch fused")]
    for one in made:
        one.step()
        one.settle()
    for p in data.parameters():
        assert len({one.optimizer.state[p]["exp_avg_sq"].data_ptr() for one in made}) == (1 if p.dim() else 3)
        assert len({one.optimizer.state[p]["step"].data_ptr() for one in made}) == 3
    before = data.parameters()[0].detach().clone()
    for one in made:
        one.step()
        after = one.arrays()[0].copy()
        assert (after != before.numpy()).all()
        before = data.parameters()[0].detach().clone()


@pytest.mark.slow
def test_train(tmp_path):
    """One network, one optimizer: time is positive, and the losses are those of torch.optim but for rounding."""
    few = ["--threads", "1", "--networks", "mlp", "--optimizers", "Adam"]
    printed = run("train", "--quick", *few, "--json", "a.json", folder=tmp_path)
    (found,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["results"]
    assert found["parameters"] == 8970
    assert found["steps"] == 57
    assert set(found["seconds_per_epoch"]) == {"torch", "torch foreach", "torch fused", "descend"}
    assert all(times["median"] > 0 for times in found["seconds_per_epoch"].values())
    assert all(0 < share < 1 for share in found["share_of_step"].values())
    assert found["difference"]["descend"]["all"] < 1e-4
    assert run("train", "--from", "a.json", folder=tmp_path) == printed


@pytest.mark.slow
def test_step_after_work(tmp_path):
    """A row for each of two pauses, three rules and four sizes, whose ratio is that of its medians."""
    printed = run("step_after_work", "--rounds", "3", folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    columns, _, *rows = rows
    assert columns[3:] == ["descend", "torch", "torch foreach", "torch fused", "fastest torch ÷ descend"]
    assert len({tuple(row[:3]) for row in rows}) == len(rows) == 24
    for row in rows:
        ours, *theirs = (float(cell.split()[0].replace(",", "")) for cell in row[3:7])
        # Both printed medians are rounded to microseconds, the printed ratio to hundredths.
        lowest, highest = (min(theirs) - 0.5) / (ours + 0.5), (min(theirs) + 0.5) / (ours - 0.5)
        assert lowest - 0.0051 <= float(row[7]) <= highest + 0.0051


@pytest.mark.slow
def test_worker_threads(tmp_path):
    """A row for each pause and size, which names the fastest number of threads."""
    printed = run("worker_threads", "--rounds", "3", "--threads", "2", "3", "--sizes", "100k", folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    columns, _, *rows = rows
    assert columns[2:] == ["1 threads", "2 threads", "3 threads", "fastest"]
    assert [row[1] for row in rows] == ["100k"] * 2
    for row in rows:
        medians = [float(cell.split()[0].replace(",", "")) for cell in row[2:5]]
        # What is printed is rounded to microseconds, in which two may be equal.
        assert medians[int(row[5]) - 1] == min(medians)


@pytest.mark.slow
def test_sweep(tmp_path):
    """Every contender makes its trials, and their networks have learnt."""
    pytest.importorskip("optuna")
    few = ["--trials", "4", "--rounds", "1", "--epochs", "2", "--sizes", "32/16"]
    printed = run("sweep", *few, "--json", "a.json", "--markdown", "a.md", folder=tmp_path)
    assert printed.strip() == (tmp_path / "a.md").read_text(encoding="utf-8").strip()
    (result,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["results"]
    assert len(result["runs_per_second"]) == 4
    assert all(rate["median"] > 0 for rate in result["runs_per_second"].values())
    assert all(0.3 < accuracy <= 1 for accuracy in result["median_test_accuracy"].values())


@pytest.mark.parametrize("kind", ["more-garbow-hillstrom", "quadratics", "logistic"])
def test_the_functions_have_the_gradients_they_claim(kind, monkeypatch):
    """Along a random direction, by central differences; and a start that is no minimum."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for function in importlib.import_module("problem_set").functions(kind):
        rng = np.random.default_rng(0)
        x, d = function.start + 0.1 * rng.normal(size=function.start.size), rng.normal(size=function.start.size)
        ahead, behind = (function.value_and_gradient(x + h * d)[0] for h in (1e-6, -1e-6))
        slope = function.value_and_gradient(x)[1] @ d
        assert slope == pytest.approx((ahead - behind) / 2e-6, rel=1e-4), function.name
        assert np.max(np.abs(function.value_and_gradient(function.start)[1])) > 1e-4


@pytest.mark.slow
def test_minimize(tmp_path):
    """Counts and ratios of a small run: what is printed is what is written, and a picture is drawn."""
    few = ["--sets", "logistic", "--contenders", "descend,L-BFGS-B 30", "--jobs", "1"]
    files = ["--json", "m.json", "--markdown", "m.md", "--picture", "m.html"]
    printed = run("minimize", *few, *files, folder=tmp_path)
    assert printed.strip() == (tmp_path / "m.md").read_text(encoding="utf-8").strip()
    rows = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["functions"]
    assert f"| descend | {sum(row['evaluations']['descend'] is not None for row in rows)} |" in printed
    both = [row["evaluations"] for row in rows if all(row["evaluations"].values())]
    assert f"{statistics.geometric_mean([e['descend'] / e['L-BFGS-B 30'] for e in both]):.3f}×" in printed
    assert "Plotly.newPlot" in (tmp_path / "m.html").read_text(encoding="utf-8")
    assert run("minimize", "--read", "m.json", folder=tmp_path).strip() == printed.strip()


NIST_CHECKED = [name for name in MODELS if name != "Lanczos1"]
"""Lanczos1's residuals are 1e-13, less than what its certified parameters are rounded by."""


@pytest.mark.parametrize("name", NIST_CHECKED)
def test_nist_regressions(name):
    """Data and model give the certified sum of squares, and the Jacobian the certified standard deviations."""
    problem = regression(name)
    squares, jacobian = problem.loss(problem.certified), problem.jacobian(problem.certified)
    np.testing.assert_allclose(squares, problem.sum_of_squares, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(squares / problem.degrees), problem.residual_deviation, rtol=1e-9)
    unit, size = jacobian / np.linalg.norm(jacobian, axis=0), np.linalg.norm(jacobian, axis=0)
    deviations = np.sqrt(np.diag(np.linalg.inv(unit.T @ unit)) * squares / problem.degrees) / size
    np.testing.assert_allclose(deviations, problem.deviations, rtol=1e-7)
    assert problem.starts.shape == (2, len(problem.names))


@pytest.mark.parametrize("name", MODELS)
def test_nist_jacobians(name):
    """Jacobians are those of complex steps (Squire and Trapp 1998), at both starts and at the answer."""
    problem = regression(name)
    n = len(problem.certified)
    for b in (*problem.starts, problem.certified):
        steps = [problem.model(b + 1e-200j * row).imag / 1e-200 for row in np.eye(n)]
        expected = np.stack([np.broadcast_to(step, problem.y.shape) for step in steps], axis=1)
        size = np.abs(expected).max(axis=0)
        np.testing.assert_allclose(problem.jacobian(b) / size, expected / size, rtol=0, atol=1e-12)


def test_nist_loss_and_gradient():
    """The sum of squares, its gradient by central differences, digits, and no warning where a formula overflows."""
    problem = regression("Misra1a")
    b = problem.starts[1]
    loss, gradient = problem.loss_and_gradient(b)
    assert loss == problem.loss(b) == pytest.approx(np.sum((problem.curve(problem.x, *b) - problem.y) ** 2))
    steps = np.diag(1e-6 * b)
    differences = [(problem.loss(b + s) - problem.loss(b - s)) / (2 * s.sum()) for s in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-7)
    assert problem.digits(problem.certified * (1 + 1e-5)) == pytest.approx(5)
    assert problem.digits(problem.certified) == 11
    assert problem.loss(np.array([1.0, -1e4])) == np.inf


@pytest.fixture
def fits(monkeypatch):
    """The module of that name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("fits")


SHIPPED = [
    *("logistic, raw", "logistic, scaled", "softmax", "Huber", "Student's t", "GARCH, per cent", "GARCH, raw"),
    *("Gaussian process", "Gaussian process of 11", "two exponentials", "two exponentials, s and V"),
    *("bounded least squares", "dose and response"),
]
OF_STATSMODELS = ["Poisson", "negative binomial", "gamma", "Weibull, censored", "free period", "Longley"]
FITS = [*SHIPPED, *OF_STATSMODELS]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * ("of 11" in n)) for n in FITS])
def test_fits(fits, name):
    """The gradient of every fit is that of central differences, and least squares is the sum of its residuals."""
    if name in OF_STATSMODELS:
        pytest.importorskip("statsmodels")
    problem = fits.fit(name)
    assert set(fits.FITS) == set(FITS)
    x = 1.01 * problem.start + 1e-3 * (np.abs(problem.start) if problem.start.any() else 1.0)
    steps = np.diag(1e-6 * np.maximum(np.abs(x), 1e-3))
    differences = [
        (problem.loss_and_gradient(x + s)[0] - problem.loss_and_gradient(x - s)[0]) / (2 * s.sum()) for s in steps
    ]
    loss, gradient = problem.loss_and_gradient(x)
    spacing = 1e-14 * abs(loss) / steps.sum(axis=0)
    np.testing.assert_array_less(np.abs(gradient - differences), 1e-5 * np.abs(gradient) + 10 * spacing)
    if problem.residuals is not None:
        residuals, jacobian = problem.residuals(x), problem.jacobian(x)
        np.testing.assert_allclose(residuals @ residuals, loss, rtol=1e-12)
        np.testing.assert_allclose(2 * residuals @ jacobian, gradient, rtol=1e-9, atol=1e-12 * np.abs(gradient).max())


def test_fitted_logistic_regression(fits):
    """Its loss at what scikit-learn's Newton–Cholesky finds is the minimum."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    X, y = load_breast_cancer(return_X_y=True)
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10).fit((X - X.mean(axis=0)) / X.std(axis=0), y)
    _, gradient = fits.fit("logistic, scaled").loss_and_gradient(np.r_[model.intercept_, model.coef_[0]])
    assert np.abs(gradient).max() < 1e-6


@pytest.mark.slow
def test_fitted_likelihoods(fits):
    """Losses at statsmodels' maxima of likelihood are its own, and gradients vanish there."""
    sm = pytest.importorskip("statsmodels.api")
    data = sm.datasets.randhie.load_pandas().data
    X, y = sm.add_constant(data.drop(columns="mdvis")), data["mdvis"]
    poisson = sm.Poisson(y, X).fit(disp=False, tol=1e-12)
    loss, gradient = fits.fit("Poisson").loss_and_gradient(poisson.params.to_numpy())
    assert loss == pytest.approx(-poisson.llf, rel=1e-12)
    assert np.abs(gradient).max() < 1e-3
    b, alpha = poisson.params.to_numpy(), 0.7
    loss, _ = fits.fit("negative binomial").loss_and_gradient(np.r_[b, np.log(alpha)])
    mean = np.exp(X.to_numpy() @ b)
    assert loss == pytest.approx(-scipy.stats.nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mean)).sum(), rel=1e-12)
    longley = sm.datasets.longley.load_pandas()
    ols = sm.OLS(longley.endog, sm.add_constant(longley.exog)).fit()
    assert fits.fit("Longley").loss_and_gradient(ols.params.to_numpy())[0] == pytest.approx(836424.055505, rel=1e-9)


@pytest.mark.slow
def test_fitting_reports(tmp_path):
    """The tables of NIST's regressions and of fits, with and without derivatives, and again from their file."""
    few = ["--nist", "--contenders", "descend,BFGS,lm", "--only", "Misra1a", "--json", "n.json", "--markdown", "n.md"]
    printed = run("minimize", *few, folder=tmp_path)
    assert "NIST StRD, 2 starts, exact derivatives" in printed
    assert "NIST StRD, 2 starts, differences" in printed
    assert printed.strip() == (tmp_path / "n.md").read_text(encoding="utf-8").strip()
    assert run("minimize", "--nist", "--read", "n.json", folder=tmp_path) == printed
    row = json.loads((tmp_path / "n.json").read_text(encoding="utf-8"))["nist"][0]
    assert set(row["solvers"]) == {"descend", "BFGS", "lm"}
    assert row["solvers"]["lm"]["digits"] > 4
    few = ["--fits", "--only", "two exponentials", "--derivatives", "exact", "--contenders", "descend,BFGS,lm"]
    assert "| two exponentials | 5 |" in run("minimize", *few, folder=tmp_path)


def test_watched_fits(monkeypatch):
    """Every call is counted, the lowest loss is remembered, and who raises has an answer."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    fitting, fitters = importlib.import_module("fitting"), importlib.import_module("fitters")
    (row,) = fitting.of_fits(["BFGS", "lm"], ["two exponentials"], exact=True)
    best = fitting.lowest([row])
    assert all(fitting.above(row, name, best) < 1e-8 for name in row["solvers"])
    assert 0 <= row["solvers"]["BFGS"]["after"] < row["solvers"]["BFGS"]["evaluations"]

    def fails(watch):
        watch.loss(watch.fit.start)
        raise ValueError("no")

    monkeypatch.setitem(fitters.SOLVERS, "fails", fails)
    rows = fitting.of_nist(["fails"], ["Misra1a"], exact=False)
    assert [row["solvers"]["fails"]["why"] for row in rows] == ["ValueError: no"] * 2
    assert "| fails | 0 | 0 | 0 | 0 | 1 | 1 | 0 |" in fitting.nist_tables(rows)
