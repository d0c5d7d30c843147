"""The global generators of NumPy, Python and PyTorch: seeded for a run, and given back as they were."""

import random
import threading

import numpy as np
import pytest
import torch
from tests.problems.lines import line, net

import descend
from descend.problems.generators import START, STEPS, drawn, seeded

GLOBAL = np.random
"""NumPy's global generator, by its functions."""


def numbers():
    """One number of each generator; normal ones, of which NumPy and Python draw two at a time."""
    return GLOBAL.randn(), random.gauss(0, 1), torch.randn(1).item()


def test_the_same_seed_gives_the_same_numbers():
    """Within the block, from its beginning; another seed or another stream gives others, of each generator."""

    def within(seed, stream):
        with seeded(seed, stream):
            return [numbers() for _ in range(3)]

    first = within(3, START)
    numbers()
    assert within(3, START) == first
    for other in (within(4, START), within(3, STEPS), within(2**70, START)):
        assert not set(sum(other, ())) & set(sum(first, ()))


@pytest.mark.parametrize("odd", [False, True])
def test_the_generators_go_on_where_they_were(odd):
    """Also with one number of a pair left, within another block, and where a block ends by an error."""
    GLOBAL.seed(1)
    random.seed(1)
    torch.manual_seed(1)
    for _ in range(1 + odd):
        numbers()
    state = GLOBAL.get_state(), random.getstate(), torch.random.get_rng_state()
    expected = [numbers() for _ in range(4)]
    GLOBAL.set_state(state[0])
    random.setstate(state[1])
    torch.random.set_rng_state(state[2])

    def fails():
        with seeded(1, STEPS):
            raise KeyError(numbers())

    found = []
    for _ in range(4):
        with seeded(0, START), pytest.raises(KeyError):
            fails()
        found.append(numbers())
    assert found == expected


def test_another_generator_in_numpys_place_is_kept():
    """NumPy lets one set a generator that knows no seeding of the old kind."""
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        with seeded(0, START):
            GLOBAL.rand()
        assert GLOBAL.rand() == np.random.RandomState(np.random.PCG64(5)).rand()
    finally:
        np.random.set_bit_generator(before)


def test_whether_somebody_has_drawn_is_noticed():
    """By each of the three generators; not by one that is nobody's but the caller's."""
    for draw in (GLOBAL.rand, random.random, lambda: torch.rand(1)):
        before = drawn()
        np.random.default_rng(0).random()
        assert drawn() == before
        draw()
        assert drawn() != before


def test_a_thread_beside_another_leaves_the_generators_alone():
    """Whoever comes second does not end what the first one has begun; afterwards all is as before."""
    before = np.random.get_bit_generator()
    inside, out = threading.Event(), threading.Event()

    def other():
        with seeded(1, START):
            inside.set()
            out.wait(60)

    thread = threading.Thread(target=other)
    with seeded(0, START):
        own = np.random.get_bit_generator()
        thread.start()
        inside.wait(60)
        assert np.random.get_bit_generator() is own
    assert np.random.get_bit_generator() is before
    out.set()
    thread.join()
    assert np.random.get_bit_generator() is before


def drawing_model():
    made = torch.nn.Linear(3, 1)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(GLOBAL.randn(1, 3)))
        made.bias.fill_(random.random())
    return made


def noisy(w, X, y):
    return float(np.mean((X @ w - y) ** 2)) + random.random() + GLOBAL.rand() + torch.rand(1).item()


PROBLEMS = {
    "model": lambda: net(drawing_model),
    "start": lambda: line(start=lambda rng: GLOBAL.randn(3) + random.random() + torch.rand(1).item()),
    "loss": lambda: line(loss=noisy),
    "gradient": lambda: line(jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y) + GLOBAL.randn(3)),
    "metric": lambda: line(metric=noisy, metric_name="error"),
    "noise in the module": lambda: net(lambda: torch.nn.Sequential(Noise(), torch.nn.Linear(3, 1))),
}


class Noise(torch.nn.Module):
    def forward(self, x):
        return x + (random.random() + GLOBAL.rand()) * torch.rand_like(x)


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_seed_is_a_seed_wherever_numbers_are_drawn(what):
    """`fit` twice from one seed is the same to the bit; from another one it is not; nothing outside is disturbed."""
    problem, before = PROBLEMS[what](), drawn()
    first, again, other = (descend.fit(problem, descend.GD(lr=0.01), epochs=2, seed=s) for s in (3, 3, 4))
    assert drawn() == before
    assert [e.validation_metric for e in first.history.evaluations] == [
        e.validation_metric for e in again.history.evaluations
    ]
    assert (first.fun, first.test_metric) == (again.fun, again.test_metric)
    assert first.test_metric != other.test_metric


def test_functions_that_draw_are_not_stacked():
    """Stacked runs would have one stream for all, so that each would depend on the others."""

    def loss(w, X, y):
        return np.mean(((X @ w[..., None])[..., 0] - y) ** 2, axis=-1) + 0 * GLOBAL.rand()

    def jac(w, X, y):
        return 2 * (((X @ w[..., None])[..., 0] - y)[..., None, :] @ X)[..., 0, :] / y.shape[-1]

    rules = [descend.GD(lr=0.1), descend.GD(lr=0.2)]
    assert "draw from a global generator" in descend.stackable(line(loss=loss, jac=jac, stacks=True), rules)


def test_data_that_a_file_draws_are_the_same_each_time(tmp_path):
    """A problem's file is run with the generators seeded: its data are no other ones at the next command."""
    path = tmp_path / "drawing.py"
    path.write_text(
        "import random, numpy as np, descend\n"
        "X = np.random.randn(20, 2); y = np.array([random.random() for _ in range(20)])\n"
        "problem = descend.Problem(lambda rng: np.zeros(2), lambda w, X, y: float(np.mean((X @ w - y) ** 2)), "
        "jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y), data=(X, y))\n"
    )
    before = drawn()
    one, other = (descend.problems.load(str(path)) for _ in range(2))
    assert drawn() == before
    assert all(np.array_equal(a, b) for a, b in zip(one.train, other.train, strict=True))
