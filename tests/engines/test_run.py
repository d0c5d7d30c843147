"""`descend.engines.run`: a rule over containers of parameters, which come back as they were."""

import collections

import hypothesis.extra.numpy as hnp
import numpy as np
import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import descend
from descend import engines
from descend.errors import ObjectiveError

Layer = collections.namedtuple("Layer", ["weight", "bias"])
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
@given(tree=TREES, rule=RULES)
def test_stepping_a_container_is_stepping_each_leaf(tree, rule):
    """Packing never mixes parameters: a container ends where its leaves end alone, bit for bit."""
    gradient = optree.tree_map(lambda leaf: leaf * 0.5 + 1, tree)
    together = engines.run(rule, tree, [gradient, gradient])
    for mine, leaf, g in zip(leaves(together), leaves(tree), leaves(gradient), strict=True):
        alone = engines.run(rule, leaf, [g, g])
        np.testing.assert_array_equal(mine, alone, strict=True)
