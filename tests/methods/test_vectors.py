"""The vector work of L-BFGS: against the two-loop recursion as plain loops, in a ring that fills and forgets."""

import numpy as np
import pytest

from descend.methods.vectors import BLOCK, MIN_FREE_CURVATURE, CurvaturePairs, curved, dot, free_variables, to_bounds


def two_loops(pairs, g):
    """−H g by Nocedal 1980, as loops over the pairs from the oldest to the newest."""
    q, shares = -g, []
    for s, y in reversed(pairs):
        shares.append((s @ q) / (s @ y))
        q = q - shares[-1] * y
    s, y = pairs[-1]
    q = q * (s @ y) / (y @ y)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q = q + (share - (y @ q) / (s @ y)) * s
    return q


def quadratic_pairs(rng, n, count, condition=1e4):
    """Steps and the changes of the gradient of a quadratic that they lead to."""
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = turn @ np.diag(np.geomspace(1.0, condition, n)) @ turn.T
    return [(s, A @ s) for s in rng.normal(size=(count, n))]


def learn(model, s, y, g):
    """Have the model take in a pair."""
    row = model.next
    model.steps[row], model.changes[row] = s, y
    return model.learn(row, g)


def restricted(model, free, g):
    """The free parts of a model's pairs."""
    of_free = CurvaturePairs(model.memory, model.rows.shape[1])
    of_free.restrict(model, free, g)
    return of_free


@pytest.mark.parametrize("memory", [1, 2, 7, 30])
@pytest.mark.parametrize("n", [1, 3, 50])
def test_directions_are_those_of_the_two_loop_recursion(memory, n):
    """At every filling of the ring and long after it is full."""
    rng, model = np.random.default_rng(n), CurvaturePairs(memory, n)
    pairs = quadratic_pairs(rng, n, 3 * memory + 2)
    d = np.empty(n)
    for k, (s, y) in enumerate(pairs):
        g = rng.normal(size=n)
        learn(model, s, y, g)
        slope = model.direct(g, d)
        expected = two_loops(pairs[: k + 1][-memory:], g)
        assert model.count == min(k + 1, memory)
        assert d == pytest.approx(expected, rel=1e-6, abs=1e-9 * np.linalg.norm(expected))
        assert slope == pytest.approx(d @ g)
        assert slope < 0


def test_a_pair_without_curvature_is_refused():
    """It takes the place of the oldest pair, which is lost; the others say what they have said before."""
    rng, model = np.random.default_rng(0), CurvaturePairs(3, 5)
    pairs = quadratic_pairs(rng, 5, 5)
    for s, y in pairs[:3]:
        learn(model, s, y, s)
    g, d = rng.normal(size=5), np.empty(5)
    assert not learn(model, pairs[3][0], -pairs[3][1], g)
    assert model.count == 2
    model.direct(g, d)
    assert d == pytest.approx(two_loops(pairs[1:3], g), rel=1e-9)
    learn(model, *pairs[4], g)
    model.direct(g, d)
    assert d == pytest.approx(two_loops([*pairs[1:3], pairs[4]], g), rel=1e-9)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e200])
def test_a_pair_that_is_not_finite_is_refused_and_leaves_nothing(bad):
    """Its row is zero again: 0 · ∞ would make every later product NaN."""
    model, d = CurvaturePairs(2, 2), np.empty(2)
    with np.errstate(all="ignore"):
        learn(model, np.array([bad, 1.0]), np.array([bad, 1.0]), np.ones(2))
    assert model.count == 0
    assert not model.rows.any()
    learn(model, np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.ones(2))
    model.direct(np.ones(2), d)
    assert d == pytest.approx([-0.5, -0.5])


def test_what_is_forgotten_says_nothing_more():
    """After that the direction is −g, and the next pairs are the only ones."""
    rng, model, d = np.random.default_rng(1), CurvaturePairs(4, 6), np.empty(6)
    pairs, g = quadratic_pairs(rng, 6, 6), rng.normal(size=6)
    for s, y in pairs:
        learn(model, s, y, g)
    model.forget()
    assert model.direct(g, d) == -dot(g, g)
    assert np.array_equal(d, -g)
    learn(model, *pairs[0], g)
    model.direct(g, d)
    assert d == pytest.approx(two_loops(pairs[:1], g))


def test_directions_of_free_variables_see_the_free_parts_of_pairs():
    """As if the others did not exist; a pair whose free part is not curved is left out."""
    rng, model, d = np.random.default_rng(2), CurvaturePairs(6, 8), np.empty(8)
    pairs, g = quadratic_pairs(rng, 8, 9), rng.normal(size=8)
    free = np.array([True, True, False, True, False, True, True, False])
    for s, y in pairs:
        learn(model, s, y, g)
    slope = restricted(model, free, g).direct(g * free, d)
    kept = [(s[free], y[free]) for s, y in pairs[-6:]]
    kept = [(s, y) for s, y in kept if s @ y > 1e-8 * np.linalg.norm(s) * np.linalg.norm(y)]
    assert 0 < len(kept) < 6
    assert d[free] == pytest.approx(two_loops(kept, g[free]), rel=1e-9)
    assert not d[~free].any()
    assert slope == pytest.approx(d @ g)


def test_free_parts_learn_on_as_if_taken_anew():
    """Pair by pair, in the same rows, whatever is refused and lost: what they say is what they would say taken anew."""
    rng, model = np.random.default_rng(3), CurvaturePairs(4, 6)
    pairs, free = quadratic_pairs(rng, 6, 40), np.array([True, False, True, False, True, True])
    for s, y in pairs[:5]:
        learn(model, s, y, s)
    of_free, counts = restricted(model, free, pairs[4][0]), set()
    for s, y in pairs[5:]:
        row, g = model.next, rng.normal(size=6)
        learn(model, s, y, g)
        of_free.steps[row], of_free.changes[row] = s * free, y * free
        of_free.learn(row, g, MIN_FREE_CURVATURE)
        anew = restricted(model, free, g)
        counts.add(of_free.count)
        assert of_free.count == anew.count
        d, e = np.empty(6), np.empty(6)
        if anew.count:
            of_free.direct(g * free, d)
            anew.direct(g * free, e)
            assert d == pytest.approx(e, rel=1e-8)
    assert len(counts) > 1


def test_where_no_free_part_is_curved_no_pair_is_left():
    """The direction is that of the gradient's free part then."""
    model, d, g = CurvaturePairs(3, 2), np.empty(2), np.array([1.0, 2.0])
    learn(model, np.array([1.0, 1.0]), np.array([-1.0, 5.0]), g)
    free = np.array([True, False])
    of_free = restricted(model, free, g)
    assert of_free.count == 0
    assert of_free.direct(g * free, d) == -1.0
    assert d.tolist() == [-1.0, 0.0]
    nothing_free = np.zeros(2, bool)
    of_nothing = restricted(model, nothing_free, g)
    assert (of_nothing.count, of_nothing.direct(g * nothing_free, d)) == (0, 0.0)


def test_free_variables_are_those_of_bertsekas():
    """Held is what the gradient presses against a bound that is near; a bound further away holds nothing."""
    lower, upper = np.array([0.0, 0.0, 0.0, -np.inf]), np.array([1.0, 1.0, np.inf, 1.0])
    x = np.array([0.0, 1.0, 1e-9, 1.0])
    assert free_variables(x, np.array([1.0, 1.0, 1.0, 1.0]), lower, upper, 1e-6).tolist() == [False, True, False, True]
    assert free_variables(x, np.array([-1.0, -1.0, -1.0, -1.0]), lower, upper, 1e-6).tolist() == [
        *(True, False, True, False),
    ]
    assert free_variables(np.array([0.5] * 4), np.ones(4), lower, upper, 1e-6) is None
    # Where a step along the gradient moves less than that, what is nearer still is held.
    assert free_variables(np.array([1e-7]), np.array([1e-8]), np.zeros(1), np.ones(1), 1e-6) is None


def test_what_is_held_goes_to_its_bound():
    """Whatever the direction of the free variables, and with its own slope."""
    x, g = np.array([0.25, 0.75, 0.5]), np.array([2.0, -4.0, 1.0])
    d = np.array([9.0, 9.0, -1.0])
    slope = to_bounds(x, g, np.zeros(3), np.ones(3), np.array([False, False, True]), d)
    assert d.tolist() == [-0.25, 0.25, -1.0]
    assert slope == -0.25 * 2 + 0.25 * -4


@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_products_of_vectors_of_any_length(n):
    """In blocks, so that BLAS gives no part of them to another thread."""
    a, b = np.random.default_rng(n).normal(size=(2, n))
    assert dot(a, b) == pytest.approx(np.sum(a * b), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("sy", "ss", "yy", "says"),
    [
        (1.0, 1.0, 1.0, True),
        (1e-15, 1.0, 1.0, False),
        (-1.0, 1.0, 1.0, False),
        (np.nan, 1.0, 1.0, False),
        (np.inf, np.inf, np.inf, False),
        (1e-300, 1e-300, 1e-300, True),
        (0.0, 0.0, 0.0, False),
    ],
)
def test_curvature_is_told_whatever_the_scale(sy, ss, yy, says):
    """By the cosine between step and change, not by their lengths."""
    assert curved(sy, ss, yy, 1e-14) is says
