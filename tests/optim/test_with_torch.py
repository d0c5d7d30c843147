"""Optimizers among what else PyTorch has for training: schedulers, averages, scalers, compilers, autograd."""

import copy

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import X, Y, alike, both, loss_of, network, same, train  # noqa: E402
from torch.optim import lr_scheduler  # noqa: E402

from descend import optim  # noqa: E402

SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda i: 0.9**i),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda i: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7]),
    "ConstantLR": lr_scheduler.ConstantLR,
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.8)], [4]
    ),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.8)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05),
}


@pytest.mark.parametrize("lr", [0.02, torch.tensor(0.02, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_of_torch(scheduler, lr):
    """Every scheduler of torch drives our optimizers as its own, the momenta that some of them change included."""

    def use(model, optimizer):
        optimizer.param_groups[0]["lr"] = copy.deepcopy(lr)
        made = SCHEDULERS[scheduler](optimizer)
        step = (lambda: made.step(1.0)) if scheduler == "ReduceLROnPlateau" else made.step
        losses = train(model, optimizer, 15, each=step)
        return [*losses, float(optimizer.param_groups[0]["lr"])]

    alike("Adam", use)


def test_every_scheduler_is_tried():
    """A scheduler that a later torch adds is missed here."""
    known = set(lr_scheduler.__all__) - {"LRScheduler"}
    assert known <= set(SCHEDULERS)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.05, step_size_up=3, base_momentum=0.0, max_momentum=0.9),
        lambda o: lr_scheduler.OneCycleLR(o, 0.05, total_steps=16, pct_start=0.5, base_momentum=0.0, max_momentum=0.9),
    ],
    ids=["CyclicLR", "OneCycleLR"],
)
def test_momentum_through_zero_with_nesterov(scheduler):
    """A scheduler may take momentum through 0, where a constructor would refuse it; copies and checkpoints go on."""
    momenta = []

    def use(model, optimizer):
        made = scheduler(optimizer)
        for _ in range(15):
            train(model, optimizer, 1, each=made.step)
            momenta.append(optimizer.param_groups[0]["momentum"])
            if not momenta[-1]:
                saved = copy.deepcopy(optimizer).state_dict()
                optimizer.load_state_dict(saved)

    alike("SGD", use, lr=0.01, momentum=0.9, nesterov=True)
    assert 0.0 in momenta


def test_averaged_model():
    """Stochastic weight averaging averages what our optimizers find."""
    averages = []
    for library in (optim, torch.optim):
        model = network()
        optimizer = library.SGD(model.parameters(), 0.05, 0.9)
        average = torch.optim.swa_utils.AveragedModel(model)
        train(model, optimizer, 10, each=lambda a=average, m=model: a.update_parameters(m))
        averages.append(average)
    same(*averages)


def test_grad_scaler():
    """A GradScaler unscales gradients before the step, and leaves the step out if they overflowed."""
    results = []
    for library in (optim, torch.optim):
        model = network(torch.float32)
        optimizer = library.Adam(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        for i in range(10):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                out = model(torch.tensor(X, dtype=torch.float32))
                loss = torch.nn.functional.cross_entropy(out, torch.tensor(Y))
            scaler.scale(loss * (float("inf") if i == 4 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        steps = {int(s["step"]) for s in optimizer.state.values()}
        results.append((model, steps, scaler.get_scale()))
    same(results[0][0], results[1][0], 1e-5)  # bfloat16 rounds the gradients of all but equal parameters
    assert results[0][1:] == results[1][1:] == ({9}, results[0][2])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_model(backend):
    """A compiled model, and a compiled function that steps, train as any other."""
    x, y = torch.tensor(X), torch.tensor(Y)

    def whole(model, optimizer):
        def one():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        compiled = torch.compile(one, backend=backend)
        losses = []
        for _ in range(4):
            losses.append(torch.nn.functional.cross_entropy(model(x), y).item())
            compiled()
        return losses

    def model_alone(model, optimizer):
        return train(torch.compile(model, backend=backend), optimizer, 4)

    def step_alone(model, optimizer):
        step = torch.compile(optimizer.step, backend=backend)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            losses.append(loss_of(model))
            step()
        return losses

    for use in (whole, model_alone, step_alone):
        torch._dynamo.reset()
        expected_model, expected = next(both("Adam", lr=0.01))
        mine, ours = next(both("Adam", lr=0.01))
        same(use(mine, ours), train(expected_model, expected, 4))
        same(mine, expected_model)
    torch._dynamo.reset()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
def test_step_in_every_mode_of_autograd(mode):
    """Which a step needs nothing of."""

    def use(model, optimizer):
        train(model, optimizer, 1)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            losses.append(loss_of(model))
            if hasattr(optimizer, "stepper"):
                optimizer.stepper.plan = None
            with mode():
                optimizer.step()
        return losses

    alike("Adam", use, lr=0.01)


def test_step_inside_backward():
    """An optimizer for each parameter, stepped as soon as its gradient is there, trains as one for all."""
    model, plain = network(), network()
    each = {p: optim.Adam([p], foreach=False) for p in model.parameters()}

    def hook(p):
        each[p].step()
        each[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)
    for _ in range(5):
        loss_of(model)
    train(plain, optim.Adam(plain.parameters()), 5)
    same(model, plain)


def test_changed_parameter_is_noticed_by_autograd():
    """A step between forward and backward is an error, as every change of what backward needs."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    loss = (model(torch.tensor(X)) ** 2).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
