"""What steps leave behind in memory, and what they do in several processes."""

import copy
import gc
import os
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
import weakref

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import NAMES, alike, network, train  # noqa: E402

import descend  # noqa: E402
from descend import optim  # noqa: E402


@pytest.mark.parametrize("many", [1500, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["plain", "scheduler", "None at times"])
def test_memory_does_not_grow(what, many):
    """Thousands of steps leave nothing behind but what is bounded, such as the rules of the last 64 learning rates."""
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = optim.Adam([p, q], lr=0.1)
    p.grad = torch.ones(3)

    def steps(number):
        for i in range(number):
            if what == "scheduler":
                optimizer.param_groups[0]["lr"] *= 0.999
            elif what == "None at times" and i % 200 == 0:
                q.grad = None if q.grad is not None else torch.ones(3)
            optimizer.step()

    def held():
        """The least of some steps: the rules of the last 64 learning rates are forgotten all at once."""
        sizes = []
        for _ in range(5):
            steps(16)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return min(sizes)

    steps(1000)
    gc.freeze()  # what is there already need not be looked through each time
    tracemalloc.start()
    try:
        steps(250)
        before = held()
        steps(many)
        after = held()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert after - before < 12 * many  # one object left behind by each step would be more than twice as much


@pytest.mark.parametrize("way", ["kernel", "tensors", "hook", "closure"])
def test_optimizers_are_freed(way):
    """An optimizer that is no longer used leaves with its state at once, not when Python's collector comes."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p], fused=False if way == "tensors" else None)
    if way == "hook":
        optimizer.register_step_post_hook(lambda *_: None)
    p.grad = torch.ones(3)
    gc.collect()
    gc.disable()
    try:
        optimizer.step((lambda: None) if way == "closure" else None)
        gone = weakref.ref(optimizer), weakref.ref(optimizer.state[p]["exp_avg"])
        del optimizer
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def test_modules_that_swap_their_parameters(monkeypatch):
    """As PyTorch does it when told to, where no more than a node of autograd may refer to a parameter."""
    model = network(torch.float32)
    optimizer = optim.Adam(model.parameters())
    losses = train(model, optimizer, 3)
    before = [p.data_ptr() for p in model.parameters()]
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    for p, old in zip(model.parameters(), before, strict=True):
        assert p.dtype == torch.float64
        assert p.data_ptr() != old
    losses += train(model, optimizer, 3)
    assert losses == sorted(losses, reverse=True)


def test_optimizers_in_cycles_are_freed():
    """A trainer that clips gradients by a hook of each parameter, whose optimizer it holds."""

    class Trainer:
        def __init__(self):
            self.p = torch.nn.Parameter(torch.ones(3))
            self.p.register_hook(self.clip)
            self.p.trainer = self
            self.optimizer = optim.Adam([self.p])

        def clip(self, g):
            return g.clamp(-1, 1)

    trainer = Trainer()
    for _ in range(3):
        (trainer.p**2).sum().backward()
        trainer.optimizer.step()
    gone = weakref.ref(trainer), weakref.ref(trainer.p), weakref.ref(trainer.optimizer)
    del trainer
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_parameters_that_grow():
    """Between two steps, in place: the next backward pass is for the new shape."""

    def use(model, optimizer):
        (p,) = optimizer.param_groups[0]["params"]
        values = []
        for size in (3, 3, 5, 5, 2, 2):
            if len(p) != size:
                p.data = torch.ones(size)
                p.grad = None
                optimizer.state.clear()
            optimizer.zero_grad()
            (p**2).sum().backward()
            optimizer.step()
            values += p.tolist()
        return values

    mine, theirs = (use(None, library.Adam([torch.nn.Parameter(torch.ones(3))])) for library in (optim, torch.optim))
    assert mine == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
def test_the_end_of_python_with_an_optimizer_that_stays():
    """Where modules are taken apart before it, and memory that is freed is filled with rubbish."""
    code = """
        import sys, torch, descend
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        sys.keep = descend.optim.SGD([p])
        sys.keep.step()
        sys.keep.step()
    """
    rubbish = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "255"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=rubbish, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.machine_code
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_dead_gradients_leave_no_subnormal_numbers(dtype):
    """Averages that decay under zero gradients end at zero, not among the numbers that cost a hundred times more.

    State of bfloat16 parameters is of float32.
    """
    p = torch.nn.Parameter(torch.ones(50, dtype=dtype))
    optimizer = optim.Adam([p], betas=(0.5, 0.5), fused=True)
    p.grad = torch.linspace(1e-12, 1.0, 50, dtype=dtype)
    optimizer.step()
    p.grad = torch.zeros(50, dtype=dtype)
    for _ in range(1200):
        optimizer.step()
        for entry in ("exp_avg", "exp_avg_sq"):
            small = optimizer.state[p][entry].abs()
            assert not ((small > 0) & (small < torch.finfo(optimizer.state[p][entry].dtype).smallest_normal)).any()
    assert not optimizer.state[p]["exp_avg"].any()


def test_shared_memory():
    """State and parameters that move into shared memory mid-training are found there."""

    def use(model, optimizer):
        losses = train(model, optimizer, 2)
        model.share_memory()
        losses += train(model, optimizer, 2)
        next(iter(optimizer.state.values()))["exp_avg"].share_memory_()
        next(iter(optimizer.state.values()))["step"].share_memory_()
        losses += train(model, optimizer, 2)
        if isinstance(optimizer, optim.Optimizer):
            optimizer.share_memory()
            assert all(v.is_shared() for s in optimizer.state.values() for v in s.values())
        return losses + train(model, optimizer, 2)

    alike("Adam", use)


HOGWILD = """
import torch, descend
import torch.multiprocessing as mp

def work(model, optimizer, rank):
    torch.set_num_threads(1)
    if optimizer is None:
        optimizer = descend.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    for _ in range(400):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()

def loss(model):
    x = torch.linspace(-1, 1, 40).reshape(10, 4)
    return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().item()

if __name__ == "__main__":
    for shared in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1).share_memory()
        optimizer = descend.optim.Adam(model.parameters(), lr=0.01)
        optimizer.share_memory()
        start = loss(model)
        workers = [mp.Process(target=work, args=(model, optimizer if shared else None, i)) for i in range(2)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        assert [w.exitcode for w in workers] == [0, 0]
        assert loss(model) < start / 100, (start, loss(model))
        steps = optimizer.state[model.weight]["step"].item()
        assert (400 <= steps <= 800) if shared else steps == 0, steps
"""


@pytest.mark.slow
def test_hogwild(tmp_path):
    """Two processes that step one model in shared memory train it, with state of their own and with shared state."""
    script = tmp_path / "hogwild.py"
    script.write_text("import torch\ntorch.multiprocessing.set_start_method('fork')\n" + HOGWILD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_no_needless_warnings():
    """Making, stepping, saving and copying brings no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network()
        optimizer = optim.AdamW(model.parameters())
        train(model, optimizer, 2)
        copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


def test_every_rule_has_an_optimizer():
    """Every rule of the package steps a network, named in `dir` and `__all__`."""
    for name in NAMES:
        assert name in dir(optim)
        model = network()
        losses = train(model, getattr(optim, name)(model.parameters()), 20)
        assert losses[-1] < losses[0], name


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad"])
def test_a_parameter_that_stands_twice_is_stepped_twice(name):
    """As torch.optim does, which warns of it; the count of steps counts both."""
    ends = []
    for library in (torch.optim, descend.optim):
        twice, once = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
        with pytest.warns(UserWarning, match="duplicate"):
            optimizer = getattr(library, name)([twice, once, twice], lr=0.1)
        for step in range(4):
            for p in (twice, once):
                p.grad = torch.tensor([0.5, -1.0, 2.0]) * (1 + step)
            optimizer.step()
        ends.append((twice.detach(), once.detach(), optimizer.state[twice].get("step", torch.tensor(8.0))))
    for theirs, ours in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
