"""PyTorch modules whose parameters are reached by other ways than an operation in ``forward``, and loops by hand."""

import weakref

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import descend
from descend.training.batches import Batches

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = torch.sin(2 * X[:, :1])
CODES = torch.randint(0, 10, (48, 3), generator=torch.Generator().manual_seed(1))


class Plain(nn.Module):
    """Two parts and nothing else."""

    inputs = X

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8))
        self.b = nn.Linear(8, 1)

    def forward(self, x):
        return self.b(self.a(x))


class Checkpoint(Plain):
    def forward(self, x):
        return self.b(checkpoint(self.a, x, use_reentrant=False))


class ReentrantCheckpoint(Plain):
    def forward(self, x):
        return self.b(checkpoint(self.a, x.clone().requires_grad_(), use_reentrant=True))


class CheckpointedDropout(Plain):
    def __init__(self):
        super().__init__()
        self.a.append(nn.Dropout(0.3))

    def forward(self, x):
        return self.b(checkpoint(self.a, x, use_reentrant=False))


class ParameterHook(Plain):
    def __init__(self):
        super().__init__()
        mask = torch.eye(8, 6)
        self.a[0].weight.register_hook(lambda g: g * mask)


class AccumulateHook(Plain):
    """Clips gradients where they are accumulated."""

    def __init__(self):
        super().__init__()
        for p in self.parameters():
            p.register_post_accumulate_grad_hook(self.clip)

    @staticmethod
    def clip(parameter):
        parameter.grad.clamp_(-0.01, 0.01)


class StepInTheHook(Plain):
    """Steps a parameter in the backward pass, and leaves no gradient of it."""

    def __init__(self):
        super().__init__()
        self.a[0].weight.register_post_accumulate_grad_hook(self.step)

    @staticmethod
    def step(parameter):
        with torch.no_grad():
            parameter.add_(parameter.grad, alpha=-0.1)
        parameter.grad = None


class InAList(Plain):
    def __init__(self):
        super().__init__()
        self.again = [self.a[0].weight]

    def forward(self, x):
        return super().forward(x) + 0.1 * self.again[0].square().sum()


class InAClosure(Plain):
    def __init__(self):
        super().__init__()
        weight = self.b.weight
        self.last = lambda h: h @ weight.t()

    def forward(self, x):
        return self.last(self.a(x)) + self.b.bias


class Detached(Plain):
    """Keeps a detached tensor, a view of the data, and NumPy's view of a parameter."""

    def __init__(self):
        super().__init__()
        self.detached, self.flat = self.b.weight.detach(), self.a[0].weight.data.view(-1)
        self.array = self.a[2].weight.detach().numpy()

    def forward(self, x):
        return super().forward(x) * (1 + self.detached.sum()) + self.flat[:3].sum() + float(self.array[0, 0])


class Weak(Plain):
    def __init__(self):
        super().__init__()
        self.part = weakref.ref(self.a)

    def forward(self, x):
        return self.b(self.part()(x))


class Tied(nn.Module):
    inputs = X

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.last(self.two(self.one(x).tanh()).tanh())


class Unregistered(nn.Module):
    """Has a part in a plain list, which nothing trains."""

    inputs = X

    def __init__(self):
        super().__init__()
        self.parts, self.last = [nn.Linear(6, 8)], nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.parts[0](x).tanh())


class Product(torch.autograd.Function):
    """A product whose backward pass asks the module for its weight."""

    @staticmethod
    def forward(ctx, x, weight, module):
        ctx.module = module
        ctx.save_for_backward(x)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope @ ctx.module.weight, slope.t() @ x, None


class OwnFunction(Plain):
    def forward(self, x):
        return self.b(Product.apply(self.a[1](self.a[0](x)), self.a[2].weight, self.a[2]) + self.a[2].bias)


class ModuleHooks(Plain):
    def __init__(self):
        super().__init__()
        self.a.register_forward_hook(lambda m, i, o: 1.5 * o)
        self.a[2].register_full_backward_hook(lambda m, before, after: (0.5 * before[0],))
        self.b.register_forward_pre_hook(lambda m, i: (i[0] + m.weight.mean(),))


class WeightNorm(Plain):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.a[0])
        nn.utils.weight_norm(self.b)


class SpectralNorm(Plain):
    def __init__(self):
        super().__init__()
        parametrizations.spectral_norm(self.a[0])


class Pruned(Plain):
    def __init__(self):
        super().__init__()
        prune.l1_unstructured(self.a[0], "weight", amount=0.4)


class Recurrent(nn.Module):
    inputs = X

    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(1, 5, num_layers=2), nn.Linear(5, 1)

    def forward(self, x):
        return self.last(self.cells(x.t()[:, :, None])[0][-1])


class Clamped(Plain):
    """Writes to a parameter whenever it is called."""

    def forward(self, x):
        self.a[0].weight.data.clamp_(-0.2, 0.2)
        return super().forward(x)


class Assigned(Plain):
    """Gives a parameter other data whenever it is called."""

    def forward(self, x):
        self.a[0].weight.data = 0.99 * self.a[0].weight.data
        return super().forward(x)


class Embedded(nn.Module):
    """Rows of a table, which PyTorch renorms in place (`max_norm`), or whose gradient is sparse."""

    inputs = CODES

    def __init__(self, **options):
        super().__init__()
        self.rows, self.last = nn.Embedding(10, 4, **options), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.rows(x).mean(1))


class Unused(Plain):
    """Has parameters that no gradient reaches, one without numbers, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.unused, self.empty = nn.Linear(3, 3), nn.Parameter(torch.zeros(0, 3))
        self.a[2].bias.requires_grad_(False)


class Transposed(Plain):
    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(8, 8).t())

    def forward(self, x):
        return self.b(self.a(x) @ self.turned)


class Buffers(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return super().forward(x - self.mean)


class SlopeInForward(Plain):
    """Asks for a gradient of its own on the way, and is differentiated twice."""

    def forward(self, x):
        x = x.clone().requires_grad_()
        with torch.enable_grad():
            y = super().forward(x)
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y + 0.1 * slope.square().sum(1, keepdim=True)


KINDS = {
    kind.__name__: kind
    for kind in [
        Plain, Checkpoint, ReentrantCheckpoint, CheckpointedDropout, ParameterHook, AccumulateHook, StepInTheHook,
        InAList, InAClosure, Detached, Weak, Tied, Unregistered, OwnFunction, ModuleHooks, WeightNorm, SpectralNorm,
        Pruned, Recurrent, Clamped, Assigned, Unused, Transposed, Buffers, SlopeInForward,
    ]
} | {
    "max_norm": lambda: Embedded(max_norm=1.0),
    "sparse": lambda: Embedded(sparse=True),
    "DataParallel": lambda: nn.DataParallel(Plain()),
    "double": lambda: Plain().double(),
    "channels last": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 1)), nn.Conv2d(2, 4, (2, 1)), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)
    ).to(memory_format=torch.channels_last),
}  # fmt: skip


def problem_of(make, **options):
    """A problem of modules of one kind; each of its evaluations calls the module, too."""
    inputs = getattr(make(), "inputs", X)
    wide = next(make().parameters()).dtype is torch.float64
    inputs, targets = (inputs.double(), Y.double()) if wide else (inputs, Y)
    parts = {"train": (inputs, targets), "validation": (inputs, targets)}
    return descend.TorchProblem(make, nn.functional.mse_loss, **parts, **options)


def by_hand(problem, optimizer, steps, batch_size, seed):
    """The module after a training loop written by hand."""
    torch.manual_seed(seed)
    module = problem.model().train()
    optimizer = optimizer([p for p in module.parameters() if p.requires_grad])
    batches = Batches(problem.size, batch_size, seed)
    for step in range(steps):
        inputs, targets = (part[batches.rows(step)] for part in problem.train)
        optimizer.zero_grad()
        problem.loss(module(inputs), targets).backward()
        optimizer.step()
    return module


def assert_trained_alike(problem, result, module, within=1e-6):
    """A result of `fit` and the module that a loop left: weights and buffers to rounding, and the module it makes."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        found = result.x[name] if name in result.x else result.buffers[name]
        np.testing.assert_allclose(found.numpy(), tensor.detach().numpy(), rtol=within, atol=within, err_msg=name)
    with torch.no_grad():
        inputs = problem.train[0]
        np.testing.assert_allclose(problem.module(result)(inputs), module.eval()(inputs), rtol=1e-4, atol=1e-5)
