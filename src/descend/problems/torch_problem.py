"""A user's own PyTorch network and data as a problem. Imports torch; nothing else in the package needs this file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from descend.descent.result import FitResult
from descend.errors import DescendError, ProblemError, described
from descend.objectives.calls import as_loss
from descend.objectives.objective import Objective
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows
from descend.problems.generators import OF_TORCH, START, seeded
from descend.problems.problem import Problem, ProblemInstance
from descend.problems.splits import Split

__all__ = ["TorchProblem"]


class TorchProblem(Problem):
    """A PyTorch module with data, as a `Problem`.

    Parameters
    ----------
    model
        A function without arguments (or a class) that makes a new module. It is called with the random numbers of
        torch, NumPy and Python seeded, so that a seed always gives the same initial weights.
    loss
        ``loss(output, *targets)``, such as ``torch.nn.functional.cross_entropy``; a mean over the batch. The module is
        called with the first array of the data, the others are the targets.
    metric
        ``metric(output, *targets)``, evaluated in ``eval()`` mode without gradients; the loss by default.
    data, train, validation, test, split, stratify, metric_name, higher_is_better, optimum, name, summary
        As in `Problem`; tensors, or NumPy arrays, data frames and lists, whose floats become torch's default dtype.

    Training runs in ``train()`` mode, evaluation on validation and test data in ``eval()`` mode. Each descent owns a
    module of its own: its buffers (batch normalisation's running statistics) are kept with the best parameters, and its
    random numbers (dropout) come from a stream of its own, so that descents repeat to the bit and do not disturb each
    other or the global random state. Every evaluation draws the same random numbers. A lazily initialised module is
    called with one training example to begin with. Parameters that do not require gradients stay fixed. Runs on the
    CPU.

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

    def instance(self, seed: int) -> TorchInstance:
        """A new module from `seed`, and the functions of a descent over it."""
        torch_seed = int(seed) if seed < 2**63 else _derived(seed, 0)  # torch knows 64 bits
        with seeded(seed, START), _seeded(torch_seed):
            return TorchInstance(self, self._made(f" (seed {seed})"), torch.random.get_rng_state(), _derived(seed, 1))

    def unstackable(self, batch: Split) -> str | None:
        """Why descents of this problem cannot be one program, as far as one step tells; None if they can."""
        instance = self.instance(0)
        memory = Memory(instance.params, "params")
        before, random = instance.snapshot(), instance._rng_state.clone()
        instance.objective(memory)(memory.like(), batch)
        if any(not torch.equal(t, before[name]) for name, t in instance.snapshot().items()):
            return "the module's buffers change in training, as batch normalisation's running statistics do"
        if not torch.equal(random, instance._rng_state):
            return "the module draws random numbers in training, as dropout does"
        return None

    def stacked(self, instances: Sequence[ProblemInstance], memory: Rows, shared: bool) -> Objective:
        """Losses and gradients of many instances, whose parameters are the rows of `memory`, by `torch.func.vmap`."""
        owners = [one for one in instances if isinstance(one, TorchInstance)]
        module, lossfn = owners[0].module_, self.loss
        assert lossfn is not None
        assert self.train is not None
        own = [_untrained(owner.module_) for owner in owners]
        fixed = {name: torch.stack([tensors[name].detach() for tensors in own]) for name in own[0]}

        def loss(params: Any, fixed: Any, *batch: torch.Tensor) -> torch.Tensor:
            return lossfn(functional_call(module, {**params, **fixed}, (batch[0],)), *batch[1:])

        over_batch = [None if shared else 0] * len(self.train)
        slopes_and_losses = vmap(grad_and_value(loss), in_dims=(0, 0, *over_batch))

        def loss_and_grad(params: Any, *batch: torch.Tensor) -> tuple[Any, Any]:
            module.train()
            slopes, losses = slopes_and_losses(params, fixed, *batch)
            return losses, slopes

        return Objective(loss_and_grad, True, memory, live=True)

    def module(self, result: FitResult) -> torch.nn.Module:
        """A new module in ``eval()`` mode with the parameters and buffers of a result of `descend.fit`."""
        with _seeded(0):
            module = self._made()
        parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        trained = result.x if isinstance(result.x, dict) else {}
        shapes = {n: tuple(p.shape) for n, p in parameters.items()}
        if shapes != {n: tuple(p.shape) for n, p in trained.items()}:
            raise ProblemError(
                f"{self.name}: the result's parameters are not those that model() makes ({', '.join(shapes)}); "
                "pass a result of descend.fit on this problem"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(trained[name])
            _load_buffers(module, result.buffers or {})
        return module.eval()

    def _made(self, where: str = "") -> torch.nn.Module:
        """A new module, initialised; raises `ProblemError`. To be called within `_seeded`."""
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


class TorchInstance(ProblemInstance):
    """A `TorchProblem` from one seed: owns a module, its buffers, and a stream of random numbers."""

    problem: TorchProblem

    def __init__(
        self, problem: TorchProblem, module: torch.nn.Module, rng_state: torch.Tensor, evaluation_seed: int
    ) -> None:
        self.module_ = module
        self._rng_state = rng_state
        self._evaluation_seed = evaluation_seed
        params = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
        if not params:
            raise ProblemError(f"{problem.name}: the module has no parameter that requires a gradient")
        super().__init__(problem, params)

    def objective(self, memory: Memory) -> Objective:
        """Loss and gradient over a batch, in ``train()`` mode."""
        lossfn = self.problem.loss
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
        assert problem.loss is not None
        with _seeded(self._evaluation_seed), torch.no_grad():
            output = self._output(params, data[0], training=False)
            loss = as_loss(problem.loss(output, *targets), "loss")
            return loss, loss if problem.metric is None else as_loss(problem.metric(output, *targets), "metric")

    def snapshot(self) -> dict[str, torch.Tensor]:
        """A copy of the module's buffers, and of its parameters that are not trained."""
        return {name: t.detach().clone() for name, t in _untrained(self.module_).items()}

    def restore(self, snapshot: Any) -> None:
        """Put the buffers of a snapshot back."""
        with torch.no_grad():
            _load_buffers(self.module_, snapshot)

    def _output(self, params: Any, inputs: Any, *, training: bool) -> Any:
        self.module_.train(training)
        return functional_call(self.module_, params, (inputs,))

    @contextlib.contextmanager
    def _random(self) -> Iterator[None]:
        """Draw from this descent's stream of random numbers, and leave torch's own where it was."""
        with OF_TORCH:
            outside = torch.random.get_rng_state()
            torch.random.set_rng_state(self._rng_state)
            try:
                yield
            finally:
                self._rng_state = torch.random.get_rng_state()
                torch.random.set_rng_state(outside)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a stream that begins at `seed`, and leave torch's own where it was."""
    with OF_TORCH:
        outside = torch.random.get_rng_state()
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs besides
        try:
            yield
        finally:
            torch.random.set_rng_state(outside)


def _derived(seed: int, stream: int) -> int:
    """A seed for torch, which knows 64 bits, from a seed of any size; each `stream` has another."""
    state = np.random.SeedSequence(int(seed), spawn_key=(stream,)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def _load_buffers(module: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    """Copy what was saved into what a module does not train; what was not saved stays."""
    for name, tensor in _untrained(module).items():
        if name in saved:
            tensor.copy_(saved[name])


def _untrained(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The buffers of a module, persistent or not, and its parameters that do not require a gradient."""
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return {**dict(module.named_buffers()), **frozen}


def _tensors(part: Any, what: str) -> tuple[torch.Tensor, ...] | None:
    if part is None:
        return None
    arrays = part if isinstance(part, (tuple, list)) else (part,)
    return tuple(_tensor(a, what) for a in arrays)


def _tensor(array: Any, what: str) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array
    try:
        array = np.asarray(array)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):  # which torch does not take
            array = array.copy()
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{what} cannot be made a tensor: {described(error)}; give arrays of numbers") from error
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor
