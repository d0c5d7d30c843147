"""The reference engine: in place, any layout, in blocks; and containers of parameters packed into memory."""

import collections
import tracemalloc

import hypothesis.extra.numpy as hnp
import numpy as np
import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import naive

import descend
from descend import engines
from descend.engines import Reference
from descend.engines.reference import BLOCK
from descend.errors import DescendError, ObjectiveError, ParameterError
from descend.parameters.memory import Memory
from descend.rules import cautious_mask, cautious_scale, step

SHIPPED = naive.shipped()
EVERYTHING_ON = [pytest.param(rule(**naive.settings(rule)[-1][1]), id=name) for name, rule in SHIPPED.items()]
Layer = collections.namedtuple("Layer", ["weight", "bias"])


def whole(rule, p, grads):
    """The rule over whole arrays at once, with no engine: what every engine must give."""
    state = tuple(np.full_like(p, rule.initial(n)) if n in rule.kept_state() else None for n in rule.state)
    for g, row in zip(grads, naive.rows(rule, len(grads)), strict=True):
        if rule.cautious and p.size:
            share = float(np.mean(cautious_mask(type(rule), p, g, tuple(state), row)))
            row = row._replace(cautious_scale=cautious_scale(share))  # noqa: PLW2901
        p, *state = step(type(rule), p, g, tuple(state), row)
    return p, state


def draw(shape, count, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for _ in range(count)]


# ---- in place, in any layout ------------------------------------------------------------------------------------


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


# ---- blocks -----------------------------------------------------------------------------------------------------


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


# ---- several parameters -----------------------------------------------------------------------------------------


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


# ---- refusals ---------------------------------------------------------------------------------------------------


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


def test_gradient_of_another_shape_is_refused():
    """A gradient that would broadcast is an error that gives both shapes, and moves nothing."""
    p = [np.ones(2), np.ones((2, 3))]
    engine = Reference(descend.Momentum(lr=0.5), p)
    with pytest.raises(ParameterError, match=r"shape \(3,\) for a parameter of shape \(2, 3\)"):
        engine.step([np.ones(2), np.ones(3)])
    assert engine.steps == 0
    assert all((array == 1.0).all() for array in p)
    assert all((kept["momentum_buffer"] == 0.0).all() for kept in engine.state)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_gradients_is_refused(count):
    """One gradient for each parameter: too few or too many is one of descend's errors, and moves nothing."""
    p = [np.ones(2), np.ones(2)]
    engine = Reference(descend.GD(lr=0.5), p)
    with pytest.raises(DescendError, match=f"{count}.*2"):
        engine.step([np.ones(2)] * count)
    assert engine.steps == 0
    assert all((array == 1.0).all() for array in p)


# ---- run: containers --------------------------------------------------------------------------------------------

CONTAINERS = [
    pytest.param(2.0, id="float"),
    pytest.param(np.float32(2.0), id="float32_number"),
    pytest.param(np.array([1.0, 2.0]), id="array"),
    pytest.param(np.ones((2, 3), np.float32), id="float32_matrix"),
    pytest.param({"w": np.ones((2, 2)), "b": 0.5}, id="dict"),
    pytest.param([1.0, np.ones(3), (2.0, np.ones(1, np.float32))], id="list"),
    pytest.param((1.0, 2.0), id="tuple"),
    pytest.param(Layer(weight=np.ones((2, 2)), bias=np.zeros(2, np.float32)), id="namedtuple"),
    pytest.param({"z": [Layer(np.ones(2), 1.0)], "a": {"deep": (np.float64(3.0),)}}, id="nested"),
    pytest.param(collections.OrderedDict(b=1.0, a=np.ones(2)), id="ordered_dict"),
    pytest.param(np.asfortranarray(np.arange(6.0).reshape(2, 3)), id="fortran"),
    pytest.param(np.arange(12.0)[::3], id="strided"),
]


def leaves(tree):
    return optree.tree_leaves(tree)


def assert_same_build(found, expected):
    """Same containers, same keys in the same order, and leaves of the same shape, dtype and kind."""
    assert optree.tree_structure(found) == optree.tree_structure(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
    for mine, theirs in zip(leaves(found), leaves(expected), strict=True):
        assert np.shape(mine) == np.shape(theirs)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype
        assert (type(mine) is float) == (type(theirs) is float)


@pytest.mark.parametrize("params", CONTAINERS)
def test_run_gives_back_what_it_was_given(params):
    """The result is built as the parameters were, with their dtypes; each number moved by −lr · gradient."""
    grads = optree.tree_map(lambda leaf: np.asarray(leaf) * 2 + 1, params)
    before = [np.array(leaf) for leaf in leaves(params)]
    result = engines.run(descend.GD(lr=0.5), params, [grads])
    assert_same_build(result, params)
    for new, old in zip(leaves(result), before, strict=True):
        np.testing.assert_allclose(new, -0.5 * np.ones_like(old), atol=1e-6)


@pytest.mark.parametrize("params", CONTAINERS)
def test_run_leaves_its_input_alone(params):
    """Neither parameters nor gradients change, and the result shares no memory with them, even after no step."""
    grads = optree.tree_map(lambda leaf: np.asarray(leaf) * 2 + 1, params)
    before = [np.array(leaf) for leaf in leaves([params, grads])]
    engines.run(descend.Adam(), params, [grads, grads])
    for now, then in zip(leaves([params, grads]), before, strict=True):
        np.testing.assert_array_equal(now, then)
    untouched = engines.run(descend.Adam(), params, [])
    assert_same_build(untouched, params)
    for new, old in zip(leaves(untouched), leaves(params), strict=True):
        np.testing.assert_array_equal(new, old)
        assert not np.shares_memory(new, old)


def test_run_takes_tensors():
    """Tensors come back as tensors of their dtype; those that were given stay."""
    params = {"w": torch.ones(2, 2, requires_grad=True), "b": torch.zeros(2, dtype=torch.float64)}
    result = engines.run(descend.GD(lr=0.5), params, [{"w": torch.ones(2, 2), "b": np.ones(2)}])
    assert [result["w"].dtype, result["b"].dtype] == [torch.float32, torch.float64]
    assert torch.equal(result["w"], torch.full((2, 2), 0.5))
    assert torch.equal(params["w"], torch.ones(2, 2))


@pytest.mark.parametrize(
    ("grads", "says"),
    [
        pytest.param({"w": np.ones(2)}, "not built like the parameters", id="missing_key"),
        pytest.param([np.ones(2), 1.0], "not built like the parameters", id="other_container"),
        pytest.param(
            {"w": np.ones(3), "b": 1.0}, r"shape \(3,\) for params\['w'\], which has shape \(2,\)", id="shape"
        ),
        pytest.param({"w": np.ones(2), "b": "x"}, r"'x' for params\['b'\]", id="text"),
        pytest.param({"w": np.ones(2), "b": None}, r"None for params\['b'\]", id="none"),
        pytest.param({"w": np.ones(2) * 1j, "b": 1.0}, r"params\['w'\]: real numbers", id="complex"),
    ],
)
def test_gradient_that_does_not_fit_is_named(grads, says):
    """A gradient that is built otherwise, or has a leaf of another shape or type, is refused by the leaf's name."""
    with pytest.raises(ObjectiveError, match=says):
        engines.run(descend.GD(), {"w": np.ones(2), "b": 0.0}, [grads])


# ---- hypothesis -------------------------------------------------------------------------------------------------


def arrays(dtype):
    numbers = st.floats(-1000, 1000, width=np.dtype(dtype).itemsize * 8, allow_subnormal=False)
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=numbers)


LEAVES = arrays(np.float64) | arrays(np.float32) | arrays(np.float64).map(np.transpose) | st.floats(-1000, 1000)
KEYS = st.text("abxyz_", min_size=1, max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, min_size=1, max_size=3)
        | st.builds(Layer, inner, inner)
    ),
    max_leaves=8,
)
RULES = st.sampled_from(
    [
        descend.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        descend.Adagrad(lr=0.1, initial_accumulator_value=0.1, lr_decay=0.1),
        descend.RMSprop(lr=0.1, momentum=0.5),
        descend.Adam(lr=0.1, amsgrad=True, weight_decay=0.01),
        descend.AdamW(lr=0.1, maximize=True),
    ]
)


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_packing_and_unpacking_round_trips(tree):
    """Any container comes out of memory as it went in, dtypes and order of keys too; no number is shared or lost."""
    memory = Memory(tree)
    for back in (memory.result(), memory.result(memory.snapshot())):
        assert_same_build(back, tree)
        for mine, theirs in zip(leaves(back), leaves(tree), strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert not np.shares_memory(mine, theirs)
    assert memory.size == sum(np.size(leaf) for leaf in leaves(tree))
    assert all(vector.ndim == 1 for vector in memory.vectors)
    assert len({vector.dtype for vector in memory.vectors}) == len(memory.vectors)


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_gathering_a_gradient_is_packing_it(tree):
    """A gradient built like the parameters lands where the parameters of the same leaf lie."""
    memory = Memory(tree)
    grad = memory.like()
    memory.gather(optree.tree_map(lambda leaf: leaf * -2, tree), grad, "jac")
    for packed, vector in zip(grad, memory.vectors, strict=True):
        np.testing.assert_array_equal(packed, vector * -2, strict=True)


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_views_follow_the_vectors(tree):
    """Leaves are views: what is written into a vector shows in exactly one leaf, each number once."""
    memory = Memory(tree)
    total = 0
    for vector in memory.vectors:
        vector[...] = np.arange(total, total + vector.size)
        total += vector.size
    seen = np.concatenate([np.asarray(leaf).ravel() for leaf in memory.leaves])
    assert sorted(seen.tolist()) == list(range(total))


@settings(max_examples=50, deadline=None)
@given(tree=TREES)
def test_a_number_is_named_as_python_would_find_it(tree):
    """The name of each number, evaluated, is that number: messages point at the right place."""
    memory = Memory(tree)
    x0 = memory.tree(copy=False)
    for which, vector in enumerate(memory.vectors):
        vector[...] = np.arange(vector.size)
        assert [eval(memory.locate(which, i), {"x0": x0}) for i in range(vector.size)] == vector.tolist()


@settings(max_examples=100, deadline=None)
@given(tree=TREES, rule=RULES)
def test_stepping_a_container_is_stepping_each_leaf(tree, rule):
    """Packing never mixes parameters: a container ends where its leaves end alone, bit for bit."""
    gradient = optree.tree_map(lambda leaf: leaf * 0.5 + 1, tree)
    together = engines.run(rule, tree, [gradient, gradient])
    for mine, leaf, g in zip(leaves(together), leaves(tree), leaves(gradient), strict=True):
        alone = engines.run(rule, leaf, [g, g])
        np.testing.assert_array_equal(mine, alone, strict=True)
