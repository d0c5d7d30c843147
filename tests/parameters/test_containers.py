"""Any container: packed into memory, unpacked, named and viewed, for containers that Hypothesis draws."""

import collections

import hypothesis.extra.numpy as hnp
import numpy as np
import optree
from hypothesis import given, settings
from hypothesis import strategies as st

from descend.parameters.memory import Memory

Layer = collections.namedtuple("Layer", ["weight", "bias"])


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
