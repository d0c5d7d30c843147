"""A user's own PyTorch network and data as a problem. Imports torch; nothing else in the package needs this file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.func import functional_call

from descend.containers import Memory
from descend.errors import ProblemError
from descend.gradients import Objective, as_loss
from descend.problems.problem import Problem, Start
from descend.result import FitResult

__all__ = ["TorchProblem"]


class TorchProblem(Problem):
    """A PyTorch module with data, as a `Problem`.

    Parameters
    ----------
    model
        A function without arguments (or a class) that makes a new module. It is called with torch's random numbers
        seeded, so that a seed always gives the same initial weights.
    loss
        ``loss(output, *targets)``, such as ``torch.nn.functional.cross_entropy``; a mean over the batch. The module is
        called with the first array of the data, the others are the targets.
    metric
        ``metric(output, *targets)``, evaluated in ``eval()`` mode without gradients; the loss by default.
    data, train, validation, test, split, metric_name, higher_is_better, optimum, name, summary
        As in `Problem`; tensors, or NumPy arrays, whose floats become torch's default dtype.

    Training runs in ``train()`` mode, looks at validation and test data in ``eval()`` mode. Each descent owns a module
    of its own: buffers (batch normalisation's running statistics) belong to it, are kept with the best parameters, and
    random numbers (dropout) come from a stream of its own, so that descents repeat to the bit and do not disturb
    each other or the global random state. Parameters that do not require gradients stay fixed. Runs on the CPU.

    Examples
    --------
    >>> import torch, descend
    >>> X = torch.linspace(-1, 1, 200)[:, None]
    >>> problem = descend.TorchProblem(
    ...     model=lambda: torch.nn.Linear(1, 1), loss=torch.nn.functional.mse_loss, data=(X, 2 * X + 1), name="line")
    >>> result = descend.fit(problem, descend.Adam(lr=0.05), epochs=50, batch_size=20)
    >>> model = problem.module(result)
    >>> round(model.weight.item(), 2), round(model.bias.item(), 2)
    (2.0, 1.0)
    """

    def __init__(
        self,
        model: Callable[[], torch.nn.Module],
        loss: Callable[..., Any],
        *,
        metric: Callable[..., Any] | None = None,
        data: Sequence[Any] | None = None,
        train: Sequence[Any] | None = None,
        validation: Sequence[Any] | None = None,
        test: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        name = options.get("name", "problem")
        if isinstance(model, torch.nn.Module) or not callable(model):
            raise ProblemError(
                f"{name}: model={model!r} must be a function that makes a new module, so that each seed has its own "
                "weights; wrap it: model=lambda: Net()"
            )
        super().__init__(
            start=lambda _: None,  # `begin` makes the module instead
            loss=loss,
            metric=metric,
            data=None if data is None else _tensors(data),
            train=None if train is None else _tensors(train),
            validation=None if validation is None else _tensors(validation),
            test=None if test is None else _tensors(test),
            **options,
        )
        if self.train is None:
            raise ProblemError(f"{name}: a TorchProblem needs data; for a function of tensors use descend.minimize")
        self.model = model

    def begin(self, seed: int) -> TorchStart:
        """A new module from `seed`, and the functions of a descent over it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TorchStart(self, self.model(), torch.random.get_rng_state())

    def module(self, result: FitResult) -> torch.nn.Module:
        """A new module in ``eval()`` mode with the parameters and buffers of a result of `descend.fit`."""
        module = self.model()
        module.load_state_dict({**module.state_dict(), **result.x, **(result.buffers or {})})
        return module.eval()


class TorchStart(Start):
    """One start of a `TorchProblem`; owns a module, its buffers, and a stream of random numbers."""

    problem: TorchProblem

    def __init__(self, problem: TorchProblem, module: Any, rng_state: torch.Tensor) -> None:
        if not isinstance(module, torch.nn.Module):
            raise ProblemError(f"{problem.name}: model() returned {module!r}, which is not a torch.nn.Module")
        self.module_ = module
        self._rng_state = rng_state
        params = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
        if not params:
            raise ProblemError(f"{problem.name}: the module has no parameter that requires a gradient")
        super().__init__(problem, params)

    def objective(self, memory: Memory) -> Objective:
        """Loss and gradient over a batch, in ``train()`` mode."""
        lossfn = self.problem._loss
        assert lossfn is not None

        def loss(params: Any, *batch: torch.Tensor) -> torch.Tensor:
            with self._random():
                return lossfn(self._output(params, batch[0], training=True), *batch[1:])

        return Objective(loss, "torch", memory, live=True)

    def value(self, params: Any, *data: Any) -> float:
        """The loss over all of `data`, in ``eval()`` mode."""
        return self.measure(params, *data)[0]

    def measure(self, params: Any, *data: Any) -> tuple[float, float]:
        """The loss and the metric over all of `data`, from one pass in ``eval()`` mode."""
        problem, targets = self.problem, data[1:]
        assert problem._loss is not None
        with torch.no_grad():
            output = self._output(params, data[0], training=False)
            loss = as_loss(problem._loss(output, *targets), "loss")
            return loss, loss if problem._metric is None else as_loss(problem._metric(output, *targets), "metric")

    def snapshot(self) -> dict[str, torch.Tensor]:
        """A copy of the module's buffers."""
        return {name: b.detach().clone() for name, b in self.module_.named_buffers()}

    def restore(self, snapshot: Any) -> None:
        """Put the buffers of a snapshot back."""
        for name, buffer in self.module_.named_buffers():
            buffer.copy_(snapshot[name])

    def _output(self, params: Any, inputs: Any, *, training: bool) -> Any:
        self.module_.train(training)
        return functional_call(self.module_, params, (inputs,))

    @contextlib.contextmanager
    def _random(self) -> Iterator[None]:
        """Draw from this descent's stream of random numbers, and leave torch's own where it was."""
        outside = torch.random.get_rng_state()
        torch.random.set_rng_state(self._rng_state)
        try:
            yield
        finally:
            self._rng_state = torch.random.get_rng_state()
            torch.random.set_rng_state(outside)


def _tensors(part: Any) -> tuple[torch.Tensor, ...]:
    arrays = part if isinstance(part, (tuple, list)) else (part,)
    return tuple(_tensor(a) for a in arrays)


def _tensor(array: Any) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    tensor = torch.as_tensor(array)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor
