"""NumPy's arrays as engines meet them: shared memory, odd layouts and types give the right numbers, or an error."""

import numpy as np
import pytest

import descend
from descend.engines import Fused, FusedStack, Reference, Stack
from descend.engines.reference import BLOCK
from descend.errors import ParameterError

KINDS = pytest.mark.parametrize("kind", [Reference, pytest.param(Fused, marks=pytest.mark.machine_code)])
STACKS = pytest.mark.parametrize("kind", [Stack, pytest.param(FusedStack, marks=pytest.mark.machine_code)])
N = 3 * BLOCK + 5
"""Several blocks of the reference engine, whose limits must not show."""


class Last(descend.Rule, register=False):
    """Remembers the gradient as it is given."""

    lr: float = 0.5

    @staticmethod
    def update(p, g, last, s):
        return p - s.lr * g - 0.25 * last, g


def numbers(size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


def expected(rule, params, grads):
    """The parameters after a step each, by an engine of its own on memory of its own."""
    params, grads = [np.array(p) for p in params], [np.array(g) for g in grads]
    for p, g in zip(params, grads, strict=True):
        Reference(rule, [p]).step([g])
    return params


# ---- memory that a gradient shares ------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("rule", [descend.Adam(lr=0.1), descend.Adam(lr=0.1, cautious=True), Last()], ids=repr)
def test_a_gradient_that_is_the_parameter(kind, rule):
    """The gradient of x² / 2 is x itself."""
    p = numbers(N)
    (first,) = expected(rule, [p], [p])
    engine = kind(rule, [p])
    engine.step([p])
    assert p.tobytes() == first.tobytes()
    reference = Reference(rule, [q := numbers(N)])
    for _ in range(2):
        reference.step([q.copy()])
    engine.step([p])
    assert p.tobytes() == q.tobytes()


@KINDS
@pytest.mark.parametrize("shift", [1, 7, BLOCK - 1, BLOCK])
def test_a_gradient_that_overlaps_the_parameter(kind, shift):
    """It is what it was before the step, in every block and vector."""
    base = numbers(N + shift)
    p, g = base[:-shift], base[shift:]
    (want,) = expected(descend.GD(lr=0.5), [p], [g])
    kind(descend.GD(lr=0.5), [p]).step([g])
    assert p.tobytes() == want.tobytes()
    base = numbers(N + shift)
    p, g = base[shift:], base[:-shift]
    (want,) = expected(descend.GD(lr=0.5), [p], [g])
    kind(descend.GD(lr=0.5), [p]).step([g])
    assert p.tobytes() == want.tobytes()


@KINDS
def test_a_gradient_that_is_another_parameter(kind):
    """All gradients are read as they are before the step."""
    p, q = numbers(N), numbers(N, 1)
    wanted = expected(descend.GD(lr=0.5), [p, q], [q, p])
    kind(descend.GD(lr=0.5), [p, q]).step([q, p])
    assert [p.tobytes(), q.tobytes()] == [want.tobytes() for want in wanted]


@KINDS
def test_a_gradient_that_is_the_engines_own_state(kind):
    """Its state is memory that a step writes, too."""
    p, q = numbers(N), numbers(N, 1)
    engine = kind(descend.Momentum(lr=0.5), [p, q])
    engine.step([q.copy(), p.copy()])
    buffers = [state["momentum_buffer"] for state in engine.state]
    reference = Reference(descend.Momentum(lr=0.5), [p2 := numbers(N), q2 := numbers(N, 1)])
    reference.step([q2.copy(), p2.copy()])
    reference.step([state["momentum_buffer"].copy() for state in reference.state][::-1])
    engine.step(buffers[::-1])
    assert p.tobytes() == p2.tobytes()
    assert q.tobytes() == q2.tobytes()


@KINDS
def test_a_reversed_gradient_of_the_same_memory(kind):
    """The parameter backwards."""
    p = numbers(N)
    (want,) = expected(descend.GD(lr=0.5), [p], [p[::-1]])
    kind(descend.GD(lr=0.5), [p]).step([p[::-1]])
    assert p.tobytes() == want.tobytes()


@STACKS
def test_a_gradient_of_one_run_that_is_another_runs_parameter(kind):
    """Runs of one stack do not see each other's steps."""
    p = np.stack([numbers(9), numbers(9, 1)])
    wanted = expected(descend.GD(lr=0.5), [p[0], p[1]], [p[1], p[0]])
    kind([descend.GD(lr=0.5)] * 2, [p], [p[::-1]]).step()
    assert p.tobytes() == np.stack(wanted).tobytes()


# ---- memory that parameters share -------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(lambda base: [base, base], id="same"),
        pytest.param(lambda base: [base[:6], base[5:]], id="overlap"),
        pytest.param(lambda base: [base[::2], base[::3]], id="strided"),
        pytest.param(lambda base: [base[2:3], base[5:6], base], id="within"),
    ],
)
def test_parameters_that_share_memory_are_refused(kind, pair):
    """Which step came last would decide."""
    base = np.ones(12)
    with pytest.raises(ParameterError, match=r"^params\[\d\] and params\[\d\] share memory"):
        kind(descend.GD(), pair(base))
    assert (base == 1.0).all()


@KINDS
def test_parameters_that_interleave_are_two(kind):
    """Their memory is mixed, and not shared."""
    base = numbers(40)
    p, q = base[::2], base[1::2]
    grads = [numbers(20, 1), numbers(20, 2)]
    wanted = expected(descend.GD(lr=0.5), [p, q], grads)
    kind(descend.GD(lr=0.5), [p, q]).step(grads)
    assert [p.tobytes(), q.tobytes()] == [want.tobytes() for want in wanted]


@KINDS
def test_a_parameter_that_overlaps_itself_is_refused(kind):
    """One number in two places cannot take two steps."""
    strided = np.lib.stride_tricks.as_strided
    for shape, strides in (((3,), (0,)), ((2, 3), (8, 8)), ((3, 3), (16, 8))):
        with pytest.raises(ParameterError, match=r"^params\[0\] has strides"):
            kind(descend.GD(), [strided(np.ones(9), shape, strides)])
    kind(descend.GD(), [strided(np.ones(9), (3, 1), (24, 0))]).step([np.ones((3, 1))])


# ---- kinds of arrays --------------------------------------------------------------------------------------------


class Mine(np.ndarray):
    """A subclass whose products are something else."""

    def __mul__(self, other):
        raise AssertionError("its own arithmetic was used")

    __rmul__ = __sub__ = __array_ufunc__ = __mul__


@KINDS
@pytest.mark.parametrize("of", ["parameter", "gradient", "both"])
def test_subclasses_are_stepped_as_arrays(kind, of):
    """A matrix would multiply otherwise; its memory is stepped as that of any array."""

    def make(array):
        return array.view(Mine)

    p, g = numbers((4, 4)), numbers((4, 4), 1)
    (want,) = expected(descend.Adam(lr=0.1), [p], [g])
    engine = kind(descend.Adam(lr=0.1), [p if of == "gradient" else make(p)])
    engine.step([g if of == "parameter" else make(g)])
    assert p.tobytes() == want.tobytes()
    assert all(type(array) is np.ndarray for array in engine.state[0].values())


@KINDS
def test_masked_arrays_are_refused(kind):
    """Their mask would be ignored."""
    masked = np.ma.array(np.ones(3), mask=[0, 1, 0])
    with pytest.raises(ParameterError, match=r"params\[0\] is a masked array"):
        kind(descend.GD(), [masked])
    p = np.ones(3)
    with pytest.raises(ParameterError, match=r"(?s)gradient 0 is masked_array.*a NumPy array of real numbers"):
        kind(descend.GD(), [p]).step([masked])
    assert (p == 1.0).all()


@KINDS
@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", ">f8", "int32", "uint8", "longdouble"])
def test_gradients_of_other_types_are_rounded_first(kind, dtype):
    """A step has its parameter's precision, whatever the gradient's, in every engine."""
    p, g = numbers(33).astype(np.float32), (10 * numbers(33, 1) ** 2).astype(dtype)
    (want,) = expected(descend.Adam(lr=0.1, weight_decay=0.1), [p], [g.astype(np.float32)])
    kind(descend.Adam(lr=0.1, weight_decay=0.1), [p]).step([g])
    assert p.tobytes() == want.tobytes()


@KINDS
@pytest.mark.parametrize(
    "bad", [np.ones(3, bool), np.ones(3, complex), np.array([1.0, None, 2.0]), [1.0, 2.0, 3.0], None, np.array("abc")]
)
def test_what_is_no_gradient_is_refused(kind, bad):
    """By its place, before anything is done."""
    p = [np.ones(2), np.ones(3)]
    engine = kind(descend.Momentum(), p)
    with pytest.raises(ParameterError, match=r"^gradient 1 is .*a NumPy array of real numbers is needed"):
        engine.step([np.ones(2), bad])
    assert (engine.steps, [array.tolist() for array in p]) == (0, [[1.0] * 2, [1.0] * 3])


@KINDS
def test_a_gradient_may_be_read_only_or_broadcast(kind):
    """It is only read."""
    p, q = np.ones(5), np.ones(5)
    g = np.full(5, 2.0)
    g.flags.writeable = False
    kind(descend.GD(lr=0.5), [p, q]).step([g, np.broadcast_to(4.0, 5)])
    assert [p.tolist(), q.tolist()] == [[0.0] * 5, [-1.0] * 5]


@KINDS
def test_a_gradient_that_must_be_copied_is_read_at_each_step(kind):
    """The same array with other numbers, of another type or with gaps, is no old news."""
    p, q = np.ones(4), np.ones(4)
    g, wide = np.ones(4, np.float32), np.ones(8)
    engine = kind(descend.GD(lr=1.0), [p, q])
    grads = [g, wide[::2]]
    for step in range(3):
        g[:], wide[:] = step, 2 * step
        engine.step(grads)
    assert [p.tolist(), q.tolist()] == [[-2.0] * 4, [-5.0] * 4]


@KINDS
def test_no_parameters(kind):
    """Nothing to step is no error, and counts."""
    engine = kind(descend.NAdam(), [])
    engine.step([])
    assert engine.steps == 1
    with pytest.raises(ParameterError, match="1 gradients for 0 parameters"):
        engine.step([np.ones(1)])


# ---- stacks -----------------------------------------------------------------------------------------------------


@STACKS
def test_rows_of_any_layout(kind):
    """Rows with gaps, and gradients of another type, give each run what it gets alone."""
    rules = [descend.Adam(lr=0.1), descend.Adam(lr=0.2)]
    start, g = numbers((2, 3, 4)), numbers((2, 3, 4), 1)
    for p in (start.copy(order="F"), np.zeros((2, 3, 8))[..., ::2]):
        p[...] = start
        stack = kind(rules, [p], [g.astype(np.float32)])
        for _ in range(2):
            stack.step()
        for r, rule in enumerate(rules):
            alone = Reference(rule, [mine := start[r].copy()])
            for _ in range(2):
                alone.step([g[r].astype(np.float32)])
            assert p[r].tobytes() == mine.tobytes()


@STACKS
def test_runs_that_do_not_fit_one_stack_are_refused(kind):
    """Rules of other kinds or flags, and arrays with another number of rows."""
    p, g = np.ones((2, 3)), np.ones((2, 3))
    with pytest.raises(ParameterError, match="the rules differ in kind: Adam and GD"):
        kind([descend.Adam(), descend.GD()], [p], [g])
    with pytest.raises(ParameterError, match="the rules differ in maximize"):
        kind([descend.GD(), descend.GD(maximize=True)], [p], [g])
    with pytest.raises(ParameterError, match=r"params\[0\] has 2 rows for 3 runs"):
        kind([descend.GD()] * 3, [p], [g])
    with pytest.raises(ParameterError, match=r"grads\[0\] has 1 rows for 2 runs"):
        kind([descend.GD()] * 2, [p], [g[:1]])
