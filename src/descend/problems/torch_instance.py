"""A PyTorch module in one descent: its parameters, its buffers, its stream of random numbers, its gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descend.errors import ObjectiveError, described
from descend.objectives.autodiff import check_differentiable
from descend.objectives.calls import as_loss, name_of
from descend.objectives.objective import Objective
from descend.parameters.memory import Array, Memory
from descend.problems.generators import OF_TORCH
from descend.problems.problem import ProblemInstance
from descend.problems.torch_binding import Binding, trained, untrained

if TYPE_CHECKING:
    from descend.problems.torch_problem import TorchProblem

__all__ = ["TorchInstance", "load_untrained", "torch_seeded"]


class TorchInstance(ProblemInstance):
    """A `TorchProblem` from one seed: owns a module, its buffers, and a stream of random numbers.

    A step is that of a loop written by hand: the module is called as it is, and ``backward()`` leaves the gradients.
    """

    problem: TorchProblem

    def __init__(
        self, problem: TorchProblem, module: torch.nn.Module, random_state: torch.Tensor, evaluation_seed: int
    ) -> None:
        self.module = module
        self.random_state = random_state
        self.binding = Binding(module, problem.name)
        self.without_gradient: dict[str, Array] = {}
        """The values of the parameters that the last backward pass did not come by."""
        self._missed: set[str] = set()
        """The names of the parameters that some backward pass did not come by."""
        self._evaluation_seed = evaluation_seed
        self._training: bool | None = None
        """Whether the module was last put into ``train()`` or ``eval()`` mode."""
        self.writes: dict[bool, bool] = {}
        """Whether the module or the loss writes to the examples it is given: in training, and in evaluations."""
        self._unchecked = bool(problem.in_common)
        """Whether it is still to be seen that training leaves alone what all modules have in common."""
        super().__init__(problem, {name: p.detach().clone() for name, p in trained(module).items()})

    # ---- training ---------------------------------------------------------------------------------------------------

    def objective(self, memory: Memory) -> Objective:
        """Loss and gradient over a batch, in ``train()`` mode."""

        def loss(_: Any, *batch: torch.Tensor) -> tuple[float, dict[str, Array]]:
            return self._loss_and_gradient(memory, batch)

        return Objective(loss, True, memory, live=True)

    def _loss_and_gradient(self, memory: Memory, batch: tuple[torch.Tensor, ...]) -> tuple[float, dict[str, Array]]:
        binding = self.binding
        binding.attach(memory)
        common = {name: t.clone() for name, t in self._in_common().items()} if self._unchecked else {}
        # The backward pass draws random numbers too: where checkpoints compute again, or a function of the user's does.
        with self._random(), torch.enable_grad():
            loss = self._applied(self._loss, batch, training=True)
            name = name_of(self.problem.loss, "loss")
            check_differentiable(loss, name, "the module's output")
            try:
                loss.reshape(()).backward()
            except Exception as error:
                raise ObjectiveError(f"{name}: its gradient raised {described(error)}") from error
        binding.write_back()
        if self._unchecked:
            self._check_in_common(common)
        return loss.item(), self._gradients(memory)

    def _gradients(self, memory: Memory) -> dict[str, Array]:
        """The gradients of the last backward pass; zero where it has not come by."""
        found: dict[str, Array] = {}
        missed: dict[str, Array] = {}
        for (name, gradient), leaf in zip(self.binding.gradients().items(), memory.leaves, strict=True):
            if gradient is None:
                missed[name], found[name] = leaf.copy(), np.zeros_like(leaf)
            else:
                found[name] = _dense(gradient)
        self.without_gradient = missed
        back = self._missed.difference(missed)
        if back and not self.may_skip:
            raise ObjectiveError(
                f"the module's parameter {min(back)} has a gradient after steps in which it had none, so that its "
                "state would not be what the rule makes of its own steps: use it in each (add 0.0 * parameter.sum() to "
                "the loss), or train with descend.optim in a loop of your own"
            )
        self._missed.update(missed)
        return found

    def after_step(self, memory: Memory) -> None:
        """Put parameters back that had no gradient: what decays them all has moved them."""
        if self.without_gradient:
            for name, leaf in zip(self.binding.parameters, memory.leaves, strict=True):
                if name in self.without_gradient:
                    leaf[...] = self.without_gradient[name]

    def _in_common(self) -> dict[str, torch.Tensor]:
        return {name: t for name, t in untrained(self.module).items() if name in self.problem.in_common}

    def _check_in_common(self, before: dict[str, torch.Tensor]) -> None:
        """Refuse to write to what the modules of all seeds have in common."""
        self._unchecked = False
        for name, tensor in self._in_common().items():
            if not torch.equal(tensor, before[name]):
                self.restore(before)
                raise ObjectiveError(
                    f"training changes {name}, which all modules that model() makes have in common: "
                    "model() must make it anew for each, or copy it (copy.deepcopy)"
                )

    # ---- measuring --------------------------------------------------------------------------------------------------

    def value(self, params: Any, *data: Any) -> float:
        """The loss over all of `data`, in ``eval()`` mode."""
        return self.measure(params, *data)[0]

    def measure(self, params: Any, *data: Any) -> tuple[float, float]:
        """The loss and the metric over all of `data`, from one pass in ``eval()`` mode."""
        with self.binding.showing(params), torch_seeded(self._evaluation_seed), torch.no_grad():
            found: tuple[float, float] = self._applied(self._loss_and_metric, data, training=False)
            return found

    def snapshot(self) -> dict[str, torch.Tensor]:
        """A copy of the module's buffers, and of its parameters that are not trained."""
        return {name: t.detach().clone() for name, t in untrained(self.module).items()}

    def restore(self, snapshot: Any) -> None:
        """Put the buffers of a snapshot back."""
        load_untrained(self.module, snapshot)

    def mode(self, *, training: bool) -> None:
        """Put the module into ``train()`` or ``eval()`` mode, if it is not there."""
        if self._training is not training:
            self.module.train(training)
            self._training = training

    def _loss(self, inputs: Any, *targets: Any) -> Any:
        assert self.problem.loss is not None
        return self.problem.loss(self.module(inputs), *targets)

    def _loss_and_metric(self, inputs: Any, *targets: Any) -> tuple[float, float]:
        problem = self.problem
        assert problem.loss is not None
        output = self.module(inputs)
        loss = as_loss(problem.loss(output, *targets), "loss")
        return loss, loss if problem.metric is None else as_loss(problem.metric(output, *targets), "metric")

    def _applied(self, function: Callable[..., Any], examples: tuple[Any, ...], *, training: bool) -> Any:
        """What a function of the examples returns, in ``train()`` or ``eval()`` mode.

        The examples may be the problem's own memory. Whether anything writes to them is tried at the first call; if so,
        each call has a copy.
        """
        self.mode(training=training)
        writes = self.writes.get(training)
        if writes is False:
            return function(*examples)
        copies = tuple(part.clone() for part in examples)
        found = function(*copies)
        if writes is None:
            self.writes[training] = not all(map(_same, copies, examples))
        return found

    @contextlib.contextmanager
    def _random(self) -> Iterator[None]:
        """Draw from this descent's stream of random numbers, and leave torch's own where it was."""
        with OF_TORCH:
            outside = torch.random.get_rng_state()
            torch.random.set_rng_state(self.random_state)
            try:
                yield
            finally:
                self.random_state = torch.random.get_rng_state()
                torch.random.set_rng_state(outside)


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Draw from a stream that begins at `seed`, and leave torch's own where it was."""
    with OF_TORCH:
        outside = torch.random.get_rng_state()
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs besides
        try:
            yield
        finally:
            torch.random.set_rng_state(outside)


def load_untrained(module: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    """Copy what was saved into what a module does not train; what was not saved stays."""
    with torch.no_grad():
        for name, tensor in untrained(module).items():
            if name in saved:
                tensor.copy_(saved[name])


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same numbers; of other layouts than the usual one nothing is written in place."""
    return one.layout is not torch.strided or torch.equal(one, other)


def _dense(gradient: torch.Tensor) -> Array:
    """A gradient as an array; a sparse one names the rows that are not zero."""
    gradient = gradient.detach()
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    found: Array = gradient.resolve_neg().numpy()
    return found
