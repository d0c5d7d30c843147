"""A user's own PyTorch network and data as a problem. Imports torch; nothing else in the package needs this file."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils.data import TensorDataset

from descend.descent.result import FitResult
from descend.errors import DescendError, ObjectiveError, ProblemError, described, did_you_mean
from descend.objectives.objective import Objective
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows
from descend.problems.generators import START, seeded
from descend.problems.problem import Problem, ProblemInstance
from descend.problems.splits import Split, as_array
from descend.problems.torch_binding import same_memory, trained, untrained
from descend.problems.torch_instance import TorchInstance, load_untrained, torch_seeded
from descend.problems.torch_stacking import stacked, unstackable

__all__ = ["TorchProblem"]

ELSEWHERE = {"start", "jac", "loss_and_grad", "loss_and_metric", "stacks"}
"""Options of a `Problem` that a `TorchProblem` has no use for: its parameters and gradients are those of the module."""
OPTIONS = inspect.signature(Problem).parameters.keys() - ELSEWHERE


class TorchProblem(Problem):
    """A PyTorch module with data, as a `Problem`.

    Parameters
    ----------
    model
        A function without arguments (or a class) that makes a new module. It is called with the random numbers of
        torch, NumPy and Python seeded, so that a seed always gives the same initial weights. A module that it hands out
        twice is refused.
    loss
        ``loss(output, *targets)``, such as ``torch.nn.functional.cross_entropy``; a mean over the batch. The module is
        called with the first array of the data, the others are the targets.
    metric
        ``metric(output, *targets)``, evaluated in ``eval()`` mode without gradients; the loss by default.
    data, train, validation, test
        As in `Problem`; tensors, or NumPy arrays, data frames and lists, whose floats become torch's default dtype; a
        ``TensorDataset`` stands for its tensors.
    split, stratify, metric_name, higher_is_better, optimum, name, summary
        As in `Problem`.

    A step is that of a loop written by hand: the module is called as it is, in ``train()`` mode, and ``backward()``
    leaves the gradients, so hooks, checkpoints and tied weights do what they do there. Evaluations on validation and
    test data are in ``eval()`` mode, and change no parameter. Each descent owns a module of its own: its buffers (batch
    normalisation's running statistics) are kept with the best parameters, and its random numbers (dropout) come from a
    stream of its own, so that descents repeat to the bit and do not disturb each other or the global random state.
    Every evaluation draws the same random numbers. A lazily initialised module is called with one training example to
    begin with. Parameters that do not require gradients stay fixed, and so do those that no gradient reaches. Trained
    parameters are float32 or float64. Runs on the CPU.

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
        for unknown in options.keys() - OPTIONS:
            raise ProblemError(f"{name}: a TorchProblem takes no {unknown}=: {did_you_mean(unknown, OPTIONS)}")
        if isinstance(model, torch.nn.Module) or not callable(model):
            raise ProblemError(
                f"{name}: model={model!r} must be a function that makes a new module, so that each seed has its own "
                "weights; wrap it: model=lambda: Net()"
            )
        super().__init__(
            start=lambda _: None,  # `instance` makes the module instead
            loss=loss,
            metric=metric,
            data=_tensors(data, f"{name}: data"),
            train=_tensors(train, f"{name}: train data"),
            validation=_tensors(validation, f"{name}: validation data"),
            test=_tensors(test, f"{name}: test data"),
            **options,
        )
        if self.train is None:
            raise ProblemError(f"{name}: a TorchProblem needs data; for a function of tensors use descend.minimize")
        self.model = model
        self._learned = _Learned()

    def instance(self, seed: int) -> TorchInstance:
        """A new module from `seed`, and the functions of a descent over it."""
        if torch.is_inference_mode_enabled():
            raise ProblemError(f"{self.name}: nothing can be trained within torch.inference_mode(): leave it before")
        module, state = self._from_seed(seed)
        if self._learned.in_common is None:
            self._learned.in_common = self._common(self._from_seed(seed)[0], module)
        return TorchInstance(self, module, state, _derived(seed, 1))

    def _from_seed(self, seed: int) -> tuple[torch.nn.Module, torch.Tensor]:
        """A new module, and where the stream of random numbers is that it was drawn from."""
        with seeded(seed, START), torch_seeded(_torch_seed(seed)):
            return self._made(f" (seed {seed})"), torch.random.get_rng_state()

    def _common(self, first: torch.nn.Module, second: torch.nn.Module) -> frozenset[str]:
        """The names of what two modules have in common, which must be nothing that a descent steps."""
        everything = {**dict(first.named_parameters()), **dict(first.named_buffers())}
        again = {name for _, name in same_memory(everything, trained(second))}
        for name in filter(again.__contains__, trained(second)):
            raise ProblemError(
                f"{self.name}: model() returned the parameter {name} a second time; it must make a new module whenever "
                "it is called, so that each seed has its own weights: build the module within the function, or copy it "
                "(model=lambda: copy.deepcopy(net))"
            )
        return frozenset(name for _, name in same_memory(everything, untrained(second)))

    @property
    def in_common(self) -> frozenset[str]:
        """The names of what all modules that `model` makes share, as pretrained layers."""
        return self._learned.in_common or frozenset()

    @property
    def least_batch(self) -> int:
        """The smallest batch that training takes: 2 where one example is too few, as for batch normalisation."""
        if self._learned.least_batch is None:
            self._learned.least_batch = 1 if self._takes(1) or not self._takes(2) else 2
        return self._learned.least_batch

    def _takes(self, examples: int) -> bool:
        """Whether loss and gradient over so many examples are numbers."""
        assert self.train is not None
        instance = self.instance(0)
        memory = Memory(instance.params, "params")
        grad = memory.like()
        try:
            loss = instance.objective(memory)(grad, tuple(part[:examples] for part in self.train))
        except ObjectiveError:
            return False
        return math.isfinite(loss) and memory.first_non_finite(grad) is None

    def unstackable(self, batch: Split) -> str | None:
        """Why descents of this problem cannot be one program, as far as two steps tell; None if they can."""
        return unstackable(self, batch)

    def stacked(self, instances: Sequence[ProblemInstance], memory: Rows, shared: bool) -> Objective:
        """Losses and gradients of many instances, whose parameters are the rows of `memory`, by `torch.func.vmap`."""
        return stacked(self, [one for one in instances if isinstance(one, TorchInstance)], memory, shared)

    def module(self, result: FitResult) -> torch.nn.Module:
        """A new module in ``eval()`` mode with the parameters and buffers of a result of `descend.fit`."""
        if not isinstance(result, FitResult):
            raise ProblemError(f"{self.name}: {type(result).__name__} is no result of descend.fit; pass one")
        module, _ = self._from_seed(result.seed)  # what is neither parameter nor buffer is drawn as it was
        parameters = trained(module)
        found = result.x if isinstance(result.x, dict) else {}
        shapes = {n: tuple(p.shape) for n, p in parameters.items()}
        if shapes != {n: tuple(p.shape) for n, p in found.items()}:
            raise ProblemError(
                f"{self.name}: the result's parameters are not those that model() makes ({', '.join(shapes)}); "
                "pass a result of descend.fit on this problem"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(found[name])
        load_untrained(module, result.buffers or {})
        return module.eval()

    def _made(self, where: str = "") -> torch.nn.Module:
        """A new module, initialised; raises `ProblemError`. To be called within `torch_seeded`."""
        named = getattr(self.model, "__name__", "<lambda>")
        what = f"{self.name}: model" if named == "<lambda>" else f"{self.name}: model={named}"
        try:
            module = self.model()
        except DescendError:
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(
                f"{what} raised {described(error)}{where}; it is called without arguments: model=lambda: Net(…)"
            ) from error
        if not isinstance(module, torch.nn.Module):
            raise ProblemError(f"{self.name}: model() returned {module!r}, which is not a torch.nn.Module")
        tensors = (*module.parameters(), *module.buffers())
        if any(isinstance(t, (UninitializedParameter, UninitializedBuffer)) for t in tensors):
            assert self.train is not None
            training = module.training
            module.eval()  # no running statistics from one example
            try:
                with torch.no_grad():
                    module(self.train[0][:1])
            except (Exception, SystemExit) as error:
                raise ProblemError(
                    f"{what}: its lazy modules were called with one training example and raised {described(error)}"
                    f"{where}; it must take the first array of the data"
                ) from error
            module.train(training)
        return module


@dataclasses.dataclass
class _Learned:
    """What trying a problem has shown of its modules: no part of what the problem is, and the same for its copies."""

    in_common: frozenset[str] | None = None
    """What `TorchProblem.in_common` names; None before two modules were made."""
    least_batch: int | None = None


def _torch_seed(seed: int) -> int:
    """A seed as torch takes it, which knows 64 bits."""
    return int(seed) if seed < 2**63 else _derived(seed, 0)


def _derived(seed: int, stream: int) -> int:
    """A seed for torch, which knows 64 bits, from a seed of any size; each `stream` has another."""
    state = np.random.SeedSequence(int(seed), spawn_key=(stream,)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def _tensors(part: Any, what: str) -> tuple[torch.Tensor, ...] | None:
    if part is None:
        return None
    if isinstance(part, TensorDataset):
        part = part.tensors
    arrays = part if isinstance(part, (tuple, list)) else (part,)
    return tuple(_tensor(a, what) for a in arrays)


def _tensor(array: Any, what: str) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    array = as_array(array, what)
    try:
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):  # which torch does not take
            array = array.copy()
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{what} cannot be made a tensor: {described(error)}; give arrays of numbers") from error
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor
