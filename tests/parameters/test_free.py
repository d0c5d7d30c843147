"""Free numbers of a container: what is fixed or tied is seen by the user's functions and is no part of the vectors."""

import collections

import numpy as np
import pytest

from descend.errors import ObjectiveError, OptionError, ParameterError
from descend.parameters.bounds import Bounds
from descend.parameters.free import memory_of
from descend.parameters.memory import Memory
from descend.parameters.names import names_of

Peak = collections.namedtuple("Peak", "height at")
MIXED = {"a": 1.0, "b": 2.0, "w": np.arange(3.0), "c": np.float32(3)}
TIED = {"b": lambda p: 2 * p["a"] + p["w"][2] ** 2, "w[1]": lambda p: 3 * p["b"]}


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (1.0, ["x"]),
        (np.zeros(2), ["x[0]", "x[1]"]),
        (np.zeros((1, 2)), ["x[0, 0]", "x[0, 1]"]),
        ([1.0, np.zeros(1)], ["x[0]", "x[1][0]"]),
        ({"peak": Peak(1.0, np.zeros(2)), "rate": 1.0}, ["peak.height", "peak.at[0]", "peak.at[1]", "rate"]),
        ({"z": np.float32(1), "a": 1.0}, ["z", "a"]),
        ({"a.b": 1.0, "a": {"b": 2.0}}, ["x['a']['b']", "x['a.b']"]),
    ],
)
def test_numbers_have_names(tree, names):
    """A number's name says where it stands, in the order of the vectors, and no two have the same."""
    assert names_of(Memory(tree)) == names


def test_the_whole_container_is_handed_out():
    """What is fixed has its value, ties follow in an order that they can be computed in, each leaf in its type."""
    memory = memory_of(MIXED, fixed={"c": 5.0, "w": [True, False, False]}, tied=TIED)
    assert [v.tolist() for v in memory.vectors] == [[1.0, 2.0]]
    found = memory.result()
    assert found["w"].tolist() == [0.0, 18.0, 2.0]
    assert (found["a"], found["b"], found["c"]) == (1.0, 6.0, 5.0)
    assert type(found["a"]) is float
    assert memory.tree()["c"].dtype == np.float32
    assert memory.locate(0, 1) == "x0['w'][2]"


def test_slopes_follow_the_chain_rule():
    """Of b = 2a + w₂² and w₁ = 3b; a gradient of the whole counts what is tied through them."""
    memory = memory_of(MIXED, fixed=["c", "w[0]"], tied=TIED)
    rows = {name: row.tolist() for name, row in zip(memory.roles.names, memory.expand(), strict=True)}
    assert rows == {"a": [1, 0], "b": [2, 4], "c": [0, 0], "w[0]": [0, 0], "w[1]": [6, 12], "w[2]": [0, 1]}
    grad = memory.like()
    memory.gather({"a": 1.0, "b": 10.0, "w": np.array([7.0, 1.0, 1.0]), "c": np.float32(7)}, grad, "jac")
    assert grad[0].tolist() == [1 + 2 * 10 + 6, 1 + 4 * 10 + 12]
    assert memory.gradient(grad)["w"].tolist() == [0.0, 0.0, 53.0]


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda p: np.exp(p["a"]), np.exp(-2.0)),
        (lambda p: abs(p["a"]), -1.0),  # a complex number's modulus would have no slope at all
        (lambda p: float(p["a"]) ** 3, 12.0),
        (lambda p: 1e9 * p["a"], 1e9),
        (lambda p: np.log(p["a"] + 2 + 1e-3), 1e3),
    ],
)
def test_slopes_of_ties_are_exact(function, slope):
    """They are right for functions that take complex numbers, that take none, and that take them wrongly."""
    memory = memory_of({"a": -2.0, "b": 0.0}, tied={"b": function})
    assert memory.expand()[1, 0] == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(
    ("fixed", "left"),
    [
        ([0, -1], [1.0, 2.0]),
        (np.array([True, False, True, True]), [1.0]),
        ([True, False, True, True], [1.0]),
        ({1: 9.0, 2: True}, [0.0, 3.0]),
        (["q"], [0.0, 1.0, 3.0]),
        ("q", [0.0, 1.0, 3.0]),
        ([], [0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_numbers_of_an_array_are_fixed(fixed, left):
    """By index, by mask, by value and by a name of their own."""
    assert memory_of(np.arange(4.0), fixed=fixed, names=["o", "p", "q", "r"]).vectors[0].tolist() == left


def test_a_name_stands_for_all_below_it():
    """That of a nested dict or of an array fixes whatever it holds."""
    memory = memory_of({"peak": {"at": np.zeros(2), "height": 1.0}, "rate": 4.0}, fixed=["peak"])
    assert memory.vectors[0].tolist() == [4.0]


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"fixed": ["wa"]}, "did you mean 'a'"),
        ({"fixed": [0]}, "these parameters have names"),
        ({"fixed": ["a", "b", "w", "c"]}, "none is left to change"),
        ({"fixed": 3.2}, "names of parameters are needed"),
        ({"fixed": {"a": "u"}}, "finite number"),
        ({"fixed": {"w": [1.0, 2.0]}}, "each of 3 parameters"),
        ({"fixed": [True, False]}, "mask of shape"),
        ({"tied": {"a": lambda p: p["b"], "b": lambda p: p["a"]}}, "a, b at the start: they follow each other in a"),
        ({"tied": {"a": lambda p: p["a"] + 1}}, "circle"),
        ({"tied": {"a": lambda p: p["zz"]}}, "KeyError"),
        ({"tied": {"a": 2.0}}, "a function of the whole container"),
        ({"tied": ["a"]}, "a dict is needed"),
        ({"tied": {"w": lambda p: [1.0, 2.0]}}, "3 parameters are needed"),
        ({"tied": {"a": lambda p: np.inf}}, "finite number"),
        ({"fixed": "a", "tied": {"a": lambda p: 1.0}}, "a is tied and is fixed as well"),
        ({"fixed": ["a"], "names": ["u", "v"]}, "each of the 6 parameters"),
        ({"names": ["u"] * 6}, "a different name for each of the 6 parameters"),
        ({"names": 6}, "in a list"),
    ],
)
def test_roles_that_make_no_sense_are_refused(roles, said):
    """The message names the parameter, and what may be given."""
    with pytest.raises(OptionError, match=said):
        memory_of(MIXED, **roles)


def test_bounds_are_those_of_the_whole():
    """The free numbers have theirs; one of what is tied, or that leaves out what is fixed, is refused."""
    start = {"a": 1.0, "b": 2.0, "c": 3.0}
    bounds = ({"a": 0.0, "b": None, "c": 2.0}, {"a": 9.0, "b": None, "c": 4.0})
    found = Bounds(memory_of(start, fixed=["c"], tied={"b": lambda p: p["a"]}), bounds)
    assert [end.tolist() for end in found.ends] == [[0.0], [9.0]]
    with pytest.raises(ParameterError, match="c is fixed at 5, outside its bounds"):
        Bounds(memory_of(start, fixed={"c": 5.0}), bounds)
    with pytest.raises(ParameterError, match=r"bounds of a, .*: it is tied"):
        Bounds(memory_of(start, tied={"a": lambda p: p["b"]}), bounds)


def test_a_tie_that_raises_later_is_named():
    """It is the objective's failure then, which keeps the result so far."""

    def tie(p):
        if p["a"] > 5:
            raise ValueError("too large")
        return p["a"]

    memory = memory_of({"a": 1.0, "b": 0.0}, tied={"b": tie})
    with pytest.raises(ObjectiveError, match=r"tied\['b'\] raised ValueError: too large"):
        memory.tree([np.array([6.0])])


def test_ties_of_an_array_know_the_names_of_its_numbers():
    """They may ask by name or index, in any library; an unknown name is told with those that there are."""
    names = ["a", "b", "c"]
    memory = memory_of(np.array([1.0, 2.0, 9.0]), names=names, tied={"c": lambda p: 2 * p["a"] + p[1] + len(p)})
    assert memory.result().tolist() == [1.0, 2.0, 7.0]
    assert memory_of(np.arange(3.0), names=names, tied={"c": lambda p: np.sum(np.asarray(p)[:2])}).result()[2] == 1.0
    with pytest.raises(OptionError, match="no parameter 'aa'; did you mean 'a'"):
        memory_of(np.arange(3.0), names=names, tied={"c": lambda p: p["aa"]})


def test_steps_of_the_whole_are_those_of_the_free_ones():
    """One number for each of the whole loses those of what is held; anything else stays."""
    memory = memory_of(np.arange(3.0), fixed=[1])
    assert memory.of_free([1.0, 2.0, 3.0]).tolist() == [1.0, 3.0]
    assert memory.of_free(0.1) == 0.1
    assert memory.of_free(None) is None
