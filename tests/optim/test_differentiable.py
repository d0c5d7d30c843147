"""Steps that autograd follows: to parameter, gradient, state and hyperparameters."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import FULLEST, NAMES, same  # noqa: E402

from descend import optim  # noqa: E402


def _followed(name, lr, p, g, start, kwargs):
    p = p.clone()
    p.grad = g
    kind = getattr(optim, name)
    optimizer = kind([p], lr=lr, differentiable=True, **kwargs)
    optimizer.init_state()
    for entry in kind.rule(**kwargs).kept_state():
        optimizer.state[p][entry] = start + (
            3.0 if entry == "square_avg" else 0.0
        )  # more than the square of an average
    optimizer.state[p]["step"].fill_(7)
    optimizer.step()
    return p, *(optimizer.state[p][entry] for entry in kind.rule(**kwargs).kept_state())


@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_differentiable(name, kwargs):
    """Autograd follows a step to parameter, gradient, state and learning rate, exactly."""
    kwargs = {k: v for k, v in kwargs.items() if k != "lr"}
    torch.manual_seed(0)
    p, g, start = (torch.rand(4, dtype=torch.float64).add(0.5).requires_grad_() for _ in range(3))
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=name != "ASGD")
    torch.autograd.gradcheck(lambda *a: _followed(name, *a, kwargs), (lr, p, g, start))


def test_differentiable_over_steps():
    """A loss after several steps has the gradient in learning rate, weight decay and start of the formula itself."""

    def numbers():
        return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([1.0, -2.0, 0.5], 0.1, 0.01)]

    def gradient(p):
        return torch.autograd.grad(((p - 3) ** 4).sum() / 100, p, create_graph=True)[0]

    start, lr, decay = mine = numbers()
    p = start.clone()
    optimizer = optim.SGD([p], lr=lr, momentum=0.9, weight_decay=decay, differentiable=True)
    for _ in range(4):
        p.grad = gradient(p)
        optimizer.step()
    start, lr, decay = formula = numbers()
    q, buffer = start.clone(), 0
    for _ in range(4):
        buffer = 0.9 * buffer + gradient(q) + decay * q
        q = q - lr * buffer
    same(p, q)
    same(torch.autograd.grad((p**2).sum(), mine), torch.autograd.grad((q**2).sum(), formula))


def test_differentiable_where_it_cannot_be():
    """A hyperparameter that the rule turns into plain numbers cannot be followed: an error, not a wrong gradient."""
    p = torch.ones(2, dtype=torch.float64, requires_grad=True).clone()
    p.grad = torch.ones(2, dtype=torch.float64)
    betas = (0.9, 0.99, torch.tensor(0.999, dtype=torch.float64, requires_grad=True))
    with pytest.raises(RuntimeError, match="AdEMAMix cannot be differentiated in betas"):
        optim.AdEMAMix([p], betas=betas, beta3_warmup=9, differentiable=True).step()


# ---- hyperparameters --------------------------------------------------------------------------------------------

SETTINGS = {
    "lr": 0.05,
    "weight_decay": 0.1,
    "eps": 1e-3,
    "momentum": 0.5,
    "dampening": 0.1,
    "lr_decay": 0.1,
    "lambd": 0.1,
    "t0": 0.5,
    "momentum_decay": 0.1,
    "initial_accumulator_value": 0.1,
}
"""Numbers that a step depends on smoothly, where the default is none."""


def numbers_of(name):
    """Each number of a rule: its hyperparameter, its place there, and all numbers of that."""
    rule = getattr(optim, name).rule
    for field in dataclasses.fields(rule):
        value = SETTINGS.get(field.name, field.default)
        if not isinstance(value, bool) and not (name == "Nesterov" and field.name == "dampening"):
            parts = value if isinstance(value, tuple) else (value,)
            yield from ((field.name, i, parts) for i in range(len(parts)))


def loss_after_steps(name, field, value):
    known = {f.name for f in dataclasses.fields(getattr(optim, name).rule)}
    kwargs = {k: SETTINGS[k] for k in ("lr", "eps", "momentum_decay", "lambd") if k in known} | {field: value}
    p = torch.linspace(0.5, 1.5, 3, dtype=torch.float64, requires_grad=True).clone()
    optimizer = getattr(optim, name)([p], differentiable=True, **kwargs)
    for i in range(4):
        p.grad = torch.linspace(-0.2, 0.3, 3, dtype=torch.float64) * (1 + 0.3 * i) + 0.07
        optimizer.step()
    return p.sum() + (p**2).sum()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_hyperparameters(name):
    """A loss after some steps has the gradient of every number of a rule that finite differences find."""
    for field, i, parts in numbers_of(name):
        # What is carried from step to step is rounded to float32, which small differences would show.
        h = 1e-3 * parts[i] if getattr(optim, name).rule.carried and parts[i] < 0.99 else 1e-5
        if parts[i] < h:  # Rprop's shortest step; AdEMAMix's warm-ups, which are counts of steps
            continue

        def loss(x, field=field, i=i, parts=parts):
            value = (*parts[:i], x, *parts[i + 1 :])
            return loss_after_steps(name, field, value if len(parts) > 1 else x)

        x = torch.tensor(float(parts[i]), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(x), x, allow_unused=True)
        expected = (loss(parts[i] + h) - loss(parts[i] - h)).item() / (2 * h)
        assert (0.0 if slope is None else slope.item()) == pytest.approx(expected, rel=2e-3, abs=1e-4), field


def test_a_schedule_may_return_what_needs_a_gradient():
    """As with a learning rate that is learned."""
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    p = torch.ones(2, dtype=torch.float64, requires_grad=True).clone()
    optimizer = optim.SGD([p], lr=lambda done: scale / (1 + done), differentiable=True)
    for _ in range(2):
        p.grad = torch.ones(2, dtype=torch.float64)
        optimizer.step()
    assert torch.autograd.grad(p.sum(), scale)[0].item() == -3.0
    assert type(optimizer.param_groups[0]["lr"]) is float


# ---- carried numbers --------------------------------------------------------------------------------------------


def carried_step(library, mu_product, p, g, exp_avg, exp_avg_sq, **kwargs):
    """A step of NAdam's from its tenth on, and the product that it leaves."""
    p = p.clone()
    p.grad = g
    optimizer = library.NAdam([p], lr=0.9, differentiable=True, **kwargs)
    state = {"mu_product": mu_product, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    optimizer.state[p].update({name: value.clone() for name, value in state.items()}, step=torch.tensor(10.0))
    optimizer.step()
    return p, *(optimizer.state[p][name] for name in state)


@pytest.mark.parametrize("kwargs", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}])
def test_the_product_of_momenta_carries_its_gradient(kwargs):
    """NAdam's `mu_product` may need a gradient before a step, and does after it, as in torch."""
    torch.manual_seed(0)
    given = [torch.rand((), dtype=torch.float64), *(torch.rand(4, dtype=torch.float64) for _ in range(4))]
    given = [t.requires_grad_() for t in given]
    torch.autograd.gradcheck(lambda *a: carried_step(optim, *a, **kwargs), given)
    results = [carried_step(library, *given, **kwargs) for library in (optim, torch.optim)]
    same(*results)
    same(*(torch.autograd.grad(sum(t.sum() for t in r), given) for r in results))


def test_carried_numbers_over_steps():
    """ASGD's next step size depends on the learning rate of the last step, and the first one on that of its own."""
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    p = torch.ones(1, dtype=torch.float64, requires_grad=True).clone()
    optimizer = optim.ASGD([p], lr=lr, lambd=0.0, differentiable=True)
    for _ in range(3):
        p.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert torch.autograd.grad(p.sum(), lr)[0].item() == pytest.approx(-3.0)
