"""The reference engine: in place, in any layout, in blocks, and nothing that cannot be updated in place."""

import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from tests.oracles import naive

import descend
from descend.engines import Reference
from descend.engines.reference import BLOCK
from descend.errors import ParameterError

SHIPPED = naive.shipped()
EVERYTHING_ON = [pytest.param(rule(**naive.settings(rule)[-1][1]), id=name) for name, rule in SHIPPED.items()]


def whole(rule, p, grads):
    """What every engine must give: the parameter, and the state in the order of the rule's."""
    p, state = naive.whole(rule, p, grads)
    return p, list(state.values())


def draw(shape, count, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("rule", EVERYTHING_ON)
def test_step_writes_into_the_same_memory(rule):
    """Parameters and state are updated where they are; nobody has to fetch them anew, and gradients are only read."""
    p, g = draw(5, 2)
    expected, _ = whole(rule, p.copy(), [g, g])
    engine = Reference(rule, [p])
    state = dict(engine.state[0])
    before = g.copy()
    assert engine.step([g]) is None
    engine.step([g])
    assert engine.params[0] is p
    assert all(engine.state[0][name] is buffer for name, buffer in state.items())
    assert engine.steps == 2
    np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(g, before)


def layouts():
    """A view of each layout into a larger base, by name; the base shows what lies around it."""
    base = np.zeros((12, 12, 12))
    return {
        "c_order": base[:1].reshape(-1)[:60].reshape(3, 4, 5),
        "fortran": np.asfortranarray(np.zeros((3, 4, 5))),
        "strided": base[1:9:3, ::3, 2:12:2],
        "transposed": base[:5, :4, :3].transpose(2, 1, 0),
        "reversed": base[5:2:-1, 3::-1, 4::-1],
        "zero_dimensions": np.zeros(()),
        "one_element": np.zeros((1, 1, 1)),
        "column": base[:, 3, 7],
    }


@pytest.mark.parametrize("of_gradient", ["same", "contiguous", "fortran"])
@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("rule", [case for case in EVERYTHING_ON if case.id in ("adam", "nesterov", "rmsprop")])
def test_any_layout_gives_the_same_numbers(rule, layout, of_gradient):
    """Order in memory, gaps and direction make no difference, whatever the layout of the gradient."""
    p = layouts()[layout]
    start, *grads = draw(p.shape, 4)
    p[...] = start
    given_grads = []
    for g in grads:
        like = layouts()[layout] if of_gradient == "same" else np.empty(p.shape, order=of_gradient[0].upper())
        like[...] = g
        given_grads.append(like)
    engine = Reference(rule, [p])
    for g in given_grads:
        engine.step([g])
    expected, state = whole(rule, start, grads)
    np.testing.assert_array_equal(p, expected)
    for name, value in zip(rule.state, state, strict=True):
        if value is not None:
            np.testing.assert_array_equal(engine.state[0][name], value)


def test_a_view_is_all_that_is_written():
    """Numbers that lie between those of a strided view are left alone."""
    base = np.full((6, 9), 7.0)
    Reference(descend.GD(lr=1.0), [base[::2, 1::3]]).step([np.ones((3, 3))])
    expected = np.full((6, 9), 7.0)
    expected[::2, 1::3] = 6.0
    np.testing.assert_array_equal(base, expected)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_large_arrays_of_any_layout(order):
    """Beyond one block, arrays that are not contiguous get the same numbers as those that are."""
    rule = descend.Adam(lr=0.1, amsgrad=True, weight_decay=0.1)
    start, g = draw((200, 150), 2)
    p = np.zeros((400, 300))[::2, ::2] if order == "strided" else np.empty((200, 150), order=order)
    p[...] = start
    engine = Reference(rule, [p])
    engine.step([g])
    engine.step([g])
    np.testing.assert_array_equal(p, whole(rule, start, [g, g])[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5], ids=["B-1", "B", "B+1", "2B", "3B+5"]
)
@pytest.mark.parametrize("rule", EVERYTHING_ON)
def test_blocks_change_nothing(rule, size, dtype):
    """A step in blocks gives the bits of a step over the whole array, parameters and state, at every boundary."""
    start, *grads = draw(size, 3, dtype)
    p = start.copy()
    engine = Reference(rule, [p])
    for g in grads:
        engine.step([g])
    expected, state = whole(rule, start, grads)
    np.testing.assert_array_equal(p, expected, strict=True)
    for name, value in zip(rule.state, state, strict=True):
        if value is not None:
            np.testing.assert_array_equal(engine.state[0][name], value, strict=True)


def test_blocks_of_a_matrix():
    """A contiguous matrix of several blocks, whose rows end anywhere in them, is stepped like a vector."""
    rule = descend.RMSprop(momentum=0.9, centered=True)
    start, g = draw((300, 170), 2)
    p = start.copy()
    Reference(rule, [p]).step([g])
    np.testing.assert_array_equal(p, whole(rule, start, [g])[0])


def traced(make):
    """What `make` returns, and how many bytes were held beyond the start: at the peak, and after it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = make()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return made, peak - before, after - before


def test_a_step_needs_memory_for_blocks_only():
    """Four million numbers: state takes three times the parameters, a step no more than two megabytes beside."""
    p, g = np.ones(4_000_000, np.float32), np.ones(4_000_000, np.float32)
    rule = descend.Adam(amsgrad=True, weight_decay=0.1, maximize=True)
    engine, peak, held = traced(lambda: Reference(rule, [p]))
    assert 3 * p.nbytes <= held <= peak < 3 * p.nbytes + 1e6
    _, peak, held = traced(lambda: engine.step([g]))
    assert peak < 2e6
    assert held < 1e5


@pytest.mark.parametrize("rule", EVERYTHING_ON)
def test_parameters_are_stepped_each_by_itself(rule):
    """Arrays of several shapes and both dtypes in one engine move as each would alone, and keep their dtype."""
    shapes = [((3,), np.float32), ((2, 2), np.float64), ((), np.float64)]
    starts = [draw(shape, 1, dtype, seed=i)[0] for i, (shape, dtype) in enumerate(shapes)]
    starts = [np.asarray(p) for p in starts]
    grads = [np.asarray(p * 0.5 + 1) for p in starts]
    params = [p.copy() for p in starts]
    engine = Reference(rule, params)
    engine.step(grads)
    engine.step(grads)
    for p, start, g, kept in zip(params, starts, grads, engine.state, strict=True):
        np.testing.assert_array_equal(p, whole(rule, start, [g, g])[0])
        assert p.dtype == start.dtype
        assert {v.dtype for v in kept.values()} <= {start.dtype}


def test_state_starts_where_the_rule_says():
    """State is zero unless the rule has another start, and only what the settings need is kept."""
    p = np.ones((2, 3))
    engine = Reference(descend.Adagrad(initial_accumulator_value=0.25), [p])
    np.testing.assert_array_equal(engine.state[0]["sum"], np.full((2, 3), 0.25))
    assert set(Reference(descend.SGD(), [p]).state[0]) == set()
    assert set(Reference(descend.Adam(), [p]).state[0]) == {"exp_avg", "exp_avg_sq"}
    assert set(Reference(descend.Adam(amsgrad=True), [p]).state[0]) == {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}


def read_only():
    array = np.ones(2)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(np.ones(2, int), id="int"),
        pytest.param(np.ones(2, bool), id="bool"),
        pytest.param(np.ones(2, np.float16), id="float16"),
        pytest.param(np.ones(2, complex), id="complex"),
        pytest.param(np.ones(2, ">f8"), id="other_byte_order"),
        pytest.param(np.array([1.0, None]), id="object"),
        pytest.param(read_only(), id="read_only"),
        pytest.param(np.broadcast_to(1.0, 3), id="broadcast"),
        pytest.param([1.0, 2.0], id="list"),
        pytest.param(1.0, id="float"),
        pytest.param(None, id="none"),
        pytest.param(torch.ones(2), id="tensor"),
    ],
)
def test_engine_refuses_what_it_cannot_update_in_place(bad):
    """What is not a writeable array of float32 or float64 is refused at the start, by its place in the list."""
    with pytest.raises(
        ParameterError, match=r"^params\[1\] is .*a writeable NumPy array of float32 or float64 is needed"
    ):
        Reference(descend.GD(), [np.ones(2), bad])


def arrays(dtype):
    numbers = st.floats(-1000, 1000, width=np.dtype(dtype).itemsize * 8, allow_subnormal=False)
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=numbers)
