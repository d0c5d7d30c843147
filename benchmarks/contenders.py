"""Who steps: descend and its peers behind one small interface. A peer that is not installed is left out, with a reason.

Every contender has parameters, gradients and state of its own, and the hyperparameters of the rule's defaults as far as
it knows them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import descend

SAMPLE = 1000
"""Numbers of each tensor that contenders are compared by."""


class Skipped(Exception):
    """This contender does not run; the message says why."""


class Data:
    """Where every contender starts, and along which gradients it steps: the same numbers everywhere."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        block = np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)
        self.starts = [np.resize(0.1 * np.roll(block, i), shape) for i, shape in enumerate(shapes)]
        self.grads = [np.resize(0.01 * np.roll(block, i - 999), shape) for i, shape in enumerate(shapes)]

    def parameters(self) -> list[torch.nn.Parameter]:
        """Parameters of PyTorch's, with their gradients, in memory of their own, where PyTorch itself puts them."""
        params = [torch.nn.Parameter(torch.from_numpy(a).clone()) for a in self.starts]
        for p, g in zip(params, self.grads, strict=True):
            p.grad = torch.from_numpy(g).clone()
        return params

    def adopt(self, optimizer: Any) -> None:
        """Told of an optimizer that has made its state."""


class OneMemory(Data):
    """The same, and one memory for all optimizers of PyTorch's kind: parameters, gradients, and state of one name.

    How fast memory is depends on where it happens to lie. Here it lies in the same place for everyone.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(shapes)
        self._params = super().parameters()
        self._state: dict[Any, torch.Tensor] = {}

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those that everyone gets."""
        return self._params

    def adopt(self, optimizer: Any) -> None:
        """Let an optimizer have its state where the first one has it that has state of that name."""
        for i, p in enumerate(self._params):
            state = optimizer.state.get(p, {})
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape and value.dim():
                    state[name] = self._state.setdefault((i, name), value)


def sample(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Some numbers of each, copied."""
    return np.concatenate([np.ravel(a)[:SAMPLE] for a in arrays]) if arrays else np.empty(0)


class Contender:
    """`step` is what is timed; `flip` negates the gradients; `wait` returns when all steps are done."""

    step: Callable[[], Any]

    def flip(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Told after the first steps, when state is there."""

    def wait(self) -> None:
        """Wait for steps that are still under way; most are not."""

    def arrays(self) -> list[np.ndarray]:
        """The parameters as they are now."""
        return []


class OfTorch(Contender):
    """An optimizer of PyTorch's kind: `make` gets the parameters."""

    def __init__(self, make: Callable[[list[torch.nn.Parameter]], Any], data: Data, *, compiled: bool = False) -> None:
        self.data, self.params = data, data.parameters()
        self.optimizer = make(self.params)
        self.step = self.optimizer.step
        if compiled:
            torch._dynamo.reset()  # a function that was compiled for many optimizers is no longer compiled
            self.step = torch.compile(self.optimizer.step)

    def flip(self) -> None:
        torch._foreach_neg_([p.grad for p in self.params])

    def arrays(self) -> list[np.ndarray]:
        return [p.detach().numpy() for p in self.params]

    def settle(self) -> None:
        self.data.adopt(self.optimizer)


class OfOptax(Contender):
    """A transformation of Optax in one jitted function that may write where the old parameters and state are."""

    def __init__(self, transformation: Any, data: Data) -> None:
        import jax
        import optax

        self.params = [jax.numpy.array(a) for a in data.starts]
        self.grads = [jax.numpy.array(g) for g in data.grads]
        self.negated = [-g for g in self.grads]
        self.state = transformation.init(self.params)

        def step(params: Any, state: Any, grads: Any) -> Any:
            moves, state = transformation.update(grads, state, params)
            return optax.apply_updates(params, moves), state

        self.jitted = jax.jit(step, donate_argnums=(0, 1))
        self.block = jax.block_until_ready

    def step(self) -> None:
        self.params, self.state = self.jitted(self.params, self.state, self.grads)

    def flip(self) -> None:
        self.grads, self.negated = self.negated, self.grads

    def wait(self) -> None:
        self.block((self.params, self.state))

    def arrays(self) -> list[np.ndarray]:
        # Copies: JAX cannot give away memory that NumPy looks at.
        return [np.array(p) for p in self.params]


class Copy(Contender):
    """One copy of memory that moves as many bytes as the rule's step: half of them read, half written."""

    def __init__(self, moved: int) -> None:
        self.source = torch.ones(max(1, moved // 8))
        self.target = torch.zeros_like(self.source)

    def step(self) -> None:
        self.target.copy_(self.source)

    def flip(self) -> None:
        pass


class Add(Copy):
    """One addition in place that moves as many bytes: two thirds read, one third written, to memory that was read.

    A step's traffic is of this kind. A copy makes most processors read what it overwrites, which nobody counts.
    """

    def __init__(self, moved: int) -> None:
        super().__init__(moved * 2 // 3)

    def step(self) -> None:
        self.target.add_(self.source)


YARDSTICKS = {"copy": Copy, "add": Add}


# ---- makers: (rule, data) → contender ---------------------------------------------------------------------------


def _accepted(rule: Any, cls: type) -> dict[str, Any]:
    """The rule's hyperparameters that a class takes under the same name."""
    takes = inspect.signature(cls.__init__).parameters
    values = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule)}
    return {name: value for name, value in values.items() if name in takes}


def of_descend(rule: Any, data: Data) -> Contender:
    return OfTorch(descend.optim.from_rule(type(rule)), data)


def _of_torch(compiled: bool = False, **options: bool) -> Callable[[Any, Data], Contender]:
    def make(rule: Any, data: Data) -> Contender:
        name = "SGD" if isinstance(rule, descend.SGD) else type(rule).__name__
        cls = getattr(torch.optim, name, None)
        if cls is None:
            raise Skipped(f"torch.optim has no {name}")
        missing = sorted(set(options) - set(inspect.signature(cls.__init__).parameters))
        if missing:
            raise Skipped(f"torch.optim.{name} has no {', '.join(missing)}")
        if compiled and not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
            raise Skipped("there is no C++ compiler")
        return OfTorch(lambda params: cls(params, **_accepted(rule, cls), **options), data, compiled=compiled)

    return make


def of_optax(rule: Any, data: Data) -> Contender:
    optax = _imported("optax")
    r, name = rule, type(rule).__name__
    momentum = getattr(r, "momentum", 0.0) or None
    made = {
        "SGD": lambda: optax.sgd(r.lr, momentum=momentum, nesterov=r.nesterov),
        "Adagrad": lambda: optax.adagrad(r.lr, r.initial_accumulator_value, r.eps),
        "RMSprop": lambda: optax.rmsprop(r.lr, r.alpha, r.eps, centered=r.centered, momentum=momentum),
        "Adadelta": lambda: optax.adadelta(r.lr, r.rho, r.eps),
        "Adam": lambda: optax.adam(r.lr, *r.betas, r.eps),
        "AdamW": lambda: optax.adamw(r.lr, *r.betas, r.eps, weight_decay=r.weight_decay),
        "Adamax": lambda: optax.adamax(r.lr, *r.betas, r.eps),
        "NAdam": lambda: optax.nadam(r.lr, *r.betas, r.eps),
        "RAdam": lambda: optax.radam(r.lr, *r.betas, r.eps),
        "Rprop": lambda: optax.rprop(r.lr, *r.etas, *r.step_sizes),
        "AdaBelief": lambda: optax.adabelief(r.lr, *r.betas, r.eps, eps_root=r.eps),
        "Yogi": lambda: optax.yogi(r.lr, *r.betas, r.eps),
        "Lion": lambda: optax.lion(r.lr, *r.betas, weight_decay=r.weight_decay),
        "Adan": lambda: optax.adan(r.lr, *r.betas, r.eps, weight_decay=r.weight_decay),
        "AdEMAMix": lambda: optax.contrib.ademamix(r.lr, *r.betas, r.alpha, r.eps, weight_decay=r.weight_decay),
        "ADOPT": lambda: optax.contrib.adopt(r.lr, *r.betas, r.eps),
    }.get("SGD" if isinstance(rule, descend.SGD) else name)
    if made is None:
        raise Skipped(f"Optax has no {name}, or this benchmark does not know it")
    if name in ("AdEMAMix", "ADOPT"):
        _imported("optax.contrib")
    return OfOptax(made(), data)


PYTORCH_OPTIMIZER = {"Adamax": "AdaMax", **{n: n for n in ("RAdam", "AdaBelief", "Yogi", "ADOPT", "AdEMAMix")}}
PYTORCH_OPTIMIZER |= {n: n for n in ("Adan", "Lion", "LAMB", "Muon")} | {"LAMB": "Lamb"}
OPTIMI = {"SGD": "SGD", "Momentum": "SGD", **{n: n for n in ("Adam", "AdamW", "Adan", "Lion", "RAdam")}}
DEEPSPEED = {
    "Adam": ("adam", "DeepSpeedCPUAdam", {"adamw_mode": False}),
    "AdamW": ("adam", "DeepSpeedCPUAdam", {"adamw_mode": True}),
    "Adagrad": ("adagrad", "DeepSpeedCPUAdagrad", {}),
    "Lion": ("lion", "DeepSpeedCPULion", {}),
}


def of_pytorch_optimizer(rule: Any, data: Data) -> Contender:
    name = type(rule).__name__
    module = _imported("pytorch_optimizer")
    cls = getattr(module, PYTORCH_OPTIMIZER.get(name, ""), None)
    if cls is None:  # its SGD, Adam, AdamW, NAdam and RMSprop are those of torch.optim; its ASGD is another rule
        raise Skipped(f"pytorch_optimizer has no {name} of its own")
    return OfTorch(lambda params: cls(params, **_accepted(rule, cls)), data)


def of_optimi(rule: Any, data: Data) -> Contender:
    name = type(rule).__name__
    module = _imported("optimi")
    if name not in OPTIMI:
        raise Skipped(f"optimi has no {name}")
    cls = getattr(module, OPTIMI[name])
    options = _accepted(rule, cls)
    options.pop("dampening", None)  # there, a flag
    return OfTorch(lambda params: cls(params, **options), data)


def of_deepspeed(rule: Any, data: Data) -> Contender:
    name = type(rule).__name__
    _imported("deepspeed")
    if name not in DEEPSPEED:
        raise Skipped(f"DeepSpeed has no {name} for the CPU")
    module, kind, options = DEEPSPEED[name]
    cls = getattr(_imported(f"deepspeed.ops.{module}"), kind)
    takes = {**_accepted(rule, cls), **options}
    return OfTorch(lambda params: cls(params, **takes), data)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a package may be there and not work
        raise Skipped(f"{name.partition('.')[0]} cannot be imported: {reason(error)}") from error


MAKERS: dict[str, Callable[[Any, Data], Contender]] = {
    "descend": of_descend,
    "descend before": of_descend,
    "torch": _of_torch(),
    "torch foreach": _of_torch(foreach=True),
    "torch fused": _of_torch(fused=True),
    "torch compiled": _of_torch(compiled=True),
    "Optax": of_optax,
    "pytorch_optimizer": of_pytorch_optimizer,
    "optimi": of_optimi,
    "DeepSpeed": of_deepspeed,
}
"""Every contender, in the order of the tables. `torch` is torch.optim with no option set."""


def make(name: str, rule: Any, data: Data) -> Contender:
    """A contender that has not stepped yet; raises `Skipped`, or what its library raises."""
    return MAKERS[name](rule, data)


def reason(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
