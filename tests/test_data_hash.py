"""The data of a problem: another hash for other numbers, wherever its functions have them from."""

from pathlib import Path

import numpy as np
import pytest
from tests.comparison.comparing import line

import descend
from descend.data_hash import of_data
from descend.problems import load

HERE = Path("/of/no/matter")

FILE = """
import functools, json, pathlib
import numpy as np, descend
here = pathlib.Path(__file__).parent
value = json.loads((here / "value.json").read_text())
table = {"rows": [np.full(3, value)]}
text = f"{here} {value}"
class Weights:
    w = np.full(3, value)
    def __init__(self):
        self.own = np.full(2, value)
def helper(w):
    return float(w @ w) * READS
def read_in_a_class():
    return Weights.w
def closure():
    inside = np.full(4, value)
    return lambda w: inside.sum()
def given(w, by=value):
    return by
def loss(w):
    return float(w @ w)
problem = descend.Problem(lambda rng: rng.normal(size=3), LOSS, lambda w: w, name="p")
"""

WAYS = {
    "a number": "lambda w: value",
    "an array in a table": "lambda w: table['rows'][0]",
    "a text": "lambda w: text",
    "a class": "lambda w: Weights.w",
    "an object": "functools.partial(lambda a, w: a.own, Weights())",
    "a helper": "lambda w: read_in_a_class()",
    "a closure": "closure()",
    "a default": "given",
    "an inner function": "lambda w: [value for _ in w]",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_function_reads_belongs_to_the_data(tmp_path, way):
    """The same file, another value in what it reads: another hash; the same one in another folder."""
    found = []
    for folder, value in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "reading.py"
        path.write_text(FILE.replace("LOSS", WAYS[way]).replace("READS", "1"))
        (tmp_path / folder / "value.json").write_text(str(value))
        found.append(of_data(load(str(path)), path.parent))
    assert found[0] == found[2] != found[1]


def test_what_no_function_reads_does_not(tmp_path):
    """A clock that the file looks at, which nobody asks for."""
    path = tmp_path / "clock.py"
    path.write_text(f"import time\nnow = time.perf_counter()\n{FILE.replace('LOSS', 'loss').replace('READS', '1')}")
    (tmp_path / "value.json").write_text("1")
    assert of_data(load(str(path)), tmp_path) == of_data(load(str(path)), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda X, y: (X + 1e-9, y),
        lambda X, y: (X.astype(np.float32), y),
        lambda X, y: (X[::-1], y),
        lambda X, y: (X, y + 0.0 + np.where(np.arange(len(y)) == 5, 1e-12, 0.0)),
        lambda X, y: (X, y, y),
    ],
)
def test_arrays_are_told_apart_by_every_number(change):
    """A value, a type, an order, one more array."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    first = of_data(line(data=(X, y)), HERE)
    assert first == of_data(line(data=(X.copy(), y)), HERE) == of_data(line(data=(np.asfortranarray(X), y)), HERE)
    assert of_data(line(data=change(X, y)), HERE) != first


def test_tensors_tables_and_sparse_matrices():
    """What other libraries hold numbers in, half precision and views among them."""
    torch, pandas, sparse = map(pytest.importorskip, ("torch", "pandas", "scipy.sparse"))
    base = np.arange(12.0).reshape(4, 3)
    for make in (
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.bfloat16),
        lambda x: torch.tensor(x).T,
        lambda x: torch.tensor(x).to_sparse(),
        lambda x: pandas.DataFrame(x, columns=list("abc")),
        lambda x: pandas.DataFrame({"a": [str(v) for v in x.ravel()]}),
        sparse.csr_matrix,
        lambda x: x.astype(object),
    ):
        problems = [line(), line(), line()]
        for problem, value in zip(problems, (base, base.copy(), base + 1.0), strict=True):
            problem.held = make(value)
        one, same, other = (of_data(problem, HERE) for problem in problems)
        assert one == same != other


def test_what_holds_itself_ends():
    """A list that is its own element, and one that is nested beyond all bounds."""
    problem = line()
    problem.held = [1]
    problem.held.append(problem.held)
    assert of_data(problem, HERE) == of_data(problem, HERE)
    for _ in range(100_000):
        problem.held = [problem.held]
    assert of_data(problem, HERE) != of_data(problem, HERE)


def test_what_trying_a_torch_problem_shows_is_no_part_of_it(tmp_path):
    """A hash taken after a training is the one taken before: what was learned of the modules is not data."""
    torch = pytest.importorskip("torch")
    X = torch.linspace(-1, 1, 33)[:, None]
    problem = descend.TorchProblem(
        lambda: torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)),
        torch.nn.functional.mse_loss,
        train=(X, X),
    )
    before = of_data(problem, tmp_path)
    descend.fit(problem, "gd", epochs=1, batch_size=16)
    assert problem.least_batch == 2
    assert of_data(problem, tmp_path) == before
