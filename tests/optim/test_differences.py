"""What differs from `torch.optim`, as the documentation lists it, and that what is not listed there does not."""

import inspect
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import TWINS, per_twin, same  # noqa: E402

from descend import optim  # noqa: E402
from descend.errors import OptionError, ParameterError, RuleError  # noqa: E402

LIBRARIES = (optim, torch.optim)
GRADS = [torch.tensor(g) for g in ([0.1, -0.3, 0.7], [0.2, 0.1, -0.5], [-0.2, 0.1, 0.4])]


def after(library, name, grads, dtype=torch.float32, **kwargs):
    """A parameter after a step along each gradient."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=dtype))
    optimizer = getattr(library, name)([p], **kwargs)
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


def tried(library, name, **kwargs):
    """The parameter after some steps with these arguments; None if they are refused, by torch with any error."""
    refusals = RuleError if library is optim else Exception
    try:
        return after(library, name, GRADS, **kwargs)
    except refusals:
        return None


HUGE = 1e30
"""Too large for a power of Python's, which torch takes of ASGD's alpha."""
EDGES = [0, 0.0, -0.1, 1, 2.0, 1e-300, HUGE, 1j, "0.1", None, (0.9,), (0.0, 0.0), (0.9, 1.0), (-0.1, 0.9), (0.5, 2.0)]
TENSORS = [
    torch.tensor(0.1),
    torch.tensor([0.1]),
    np.float32(0.1),
    np.array(0.1),
    (torch.tensor(0.5), torch.tensor(0.9)),
]
# Negative numbers, shares of 1 and more, and whatever SGD without momentum never reads.
TORCH_ALONE = {("ASGD", "lambd"), ("ASGD", "alpha"), ("ASGD", "t0"), ("Adadelta", "rho"), ("RMSprop", "alpha")}
TORCH_ALONE |= {("Rprop", "step_sizes"), ("SGD", "dampening")}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of NumPy's, for a line of torch's
@per_twin
def test_arguments_are_taken_as_in_torch(name):
    """What both take gives the same; what one refuses the other refuses, but for what is listed."""
    numbers = {
        k: p.default
        for k, p in inspect.signature(getattr(torch.optim, name)).parameters.items()
        if isinstance(p.default, (int, float, tuple)) and not isinstance(p.default, bool)
    }
    for argument in numbers:
        for value in (*EDGES, *TENSORS):
            found, expected = (tried(library, name, **{argument: value}) for library in LIBRARIES)
            if found is not None and expected is not None:
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
            elif found is None and expected is not None:
                assert (name, argument) in TORCH_ALONE, (argument, value)
            elif expected is None and found is not None:
                assert any(value is one for one in (*TENSORS, HUGE)), (argument, value)


@pytest.mark.parametrize("value", [math.inf, math.nan, True])
def test_numbers_that_torch_takes(value):
    """Infinite numbers, and True as one; NaN where torch does not look."""
    assert tried(torch.optim, "SGD", lr=value) is not None
    with pytest.raises(RuleError, match="lr must be"):
        after(optim, "SGD", GRADS, lr=value)


@per_twin
def test_flags(name):
    """True, False, 1, 0 and None are flags, in both; torch takes whatever has a truth value, too."""
    for value in (True, False, 1, 0, None):
        same(*(after(library, name, GRADS, maximize=value) for library in LIBRARIES), 1e-5)
    with pytest.raises(RuleError, match="maximize must be True or False"):
        after(optim, name, GRADS, maximize="no")


def test_not_a_number_in_a_gradient():
    """Both step by it; Rprop of torch alone leaves the entry as it is."""
    grads = [torch.tensor([0.1, math.nan, 0.3])]
    for name in TWINS:
        found, expected = (after(library, name, grads) for library in LIBRARIES)
        assert found.isnan().tolist() == [False, True, False]
        assert expected.isnan().tolist() == [False, name != "Rprop", False]


def test_small_gradients_of_rprop():
    """Whether two gradients have one sign is seen however small they are."""
    grads = [torch.full((3,), 1e-25)] * 3
    found, expected = (after(library, "Rprop", grads)[0].item() for library in LIBRARIES)
    assert (found, expected) == (pytest.approx(1 - 0.01 - 0.012 - 0.0144), pytest.approx(1 - 3 * 0.01))


def test_sixteen_bits():
    """eps is no zero in float16, so that an entry without a gradient stays finite."""
    grads = [torch.tensor([0.1, 0.0, 0.3], dtype=torch.float16)]
    found, expected = (after(library, "Adam", grads, torch.float16) for library in LIBRARIES)
    assert found.isnan().tolist() == [False, False, False]
    assert expected.isnan().tolist() == [False, True, False]


def test_large_gradients_of_nadam():
    """Its average of squares is finite for longer."""
    grads = [torch.full((3,), 1e20)]
    found, expected = (after(library, "NAdam", grads)[0].item() for library in LIBRARIES)
    assert (found, expected) == (pytest.approx(0.99788706), 1.0)


def test_options():
    """Contradictions are errors of the same base; integers are refused when they are given."""
    p = torch.nn.Parameter(torch.zeros(1))
    for wrong in ({"foreach": True, "fused": True}, {"differentiable": True, "fused": True}):
        with pytest.raises(RuntimeError):
            torch.optim.Adam([p], **wrong)
        with pytest.raises(OptionError):
            optim.Adam([p], **wrong)
    torch.optim.SGD([torch.zeros(1, dtype=torch.int64)])
    with pytest.raises(ParameterError):
        optim.SGD([torch.zeros(1, dtype=torch.int64)])
    for kwargs in ({"lr": torch.tensor(0.1)}, {"betas": (torch.tensor(0.5), torch.tensor(0.9))}):
        assert tried(torch.optim, "Adam", foreach=True, **kwargs) is None
        same(after(optim, "Adam", GRADS, foreach=True, **kwargs), after(torch.optim, "Adam", GRADS, **kwargs), 1e-6)


def test_what_a_group_may_not_be():
    """What nesterov needs is asked of a group's own numbers, and not of what is set later."""
    p = torch.nn.Parameter(torch.ones(1))
    group = {"params": [p], "momentum": 0.0}
    torch.optim.SGD([{**group}], momentum=0.9, nesterov=True)
    with pytest.raises(RuleError, match="nesterov needs momentum"):
        optim.SGD([{**group}], momentum=0.9, nesterov=True)
    optimizer = optim.SGD([p], lr=0.5, momentum=0.9, nesterov=True)
    optimizer.param_groups[0]["momentum"] = 0.0
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == 0.5


def test_state():
    """SGD counts its steps, and Adagrad's state is made at the first."""
    p = torch.nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    ours, theirs = (library.SGD([p]) for library in LIBRARIES)
    for optimizer in (ours, theirs):
        optimizer.step()
    assert (set(ours.state[p]), set(theirs.state[p])) == ({"step"}, set())
    ours, theirs = (library.Adagrad([p]) for library in LIBRARIES)
    assert (set(ours.state[p]), set(theirs.state[p])) == (set(), {"step", "sum"})
