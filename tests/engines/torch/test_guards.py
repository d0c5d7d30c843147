"""Guards: every change of an optimizer's tensors between steps is noticed, by both ways, and nothing is kept alive."""

import gc
import operator
import types
import weakref

import numpy as np
import pytest
import torch
from tests.processes import run

import descend
from descend.engines.native import runtime
from descend.engines.native.availability import Unavailable
from descend.engines.torch import guards as module
from descend.engines.torch.guards import NativeGuards, NotGuardable, PythonGuards, guard_set


@pytest.fixture(params=[pytest.param("DLPack", marks=pytest.mark.machine_code), "Python"])
def way(request, monkeypatch):
    """Both ways of looking at tensors."""
    if request.param == "Python":
        monkeypatch.setattr(module, "view_tensor", lambda: None)
    elif module.view_tensor() is None:
        pytest.skip("this PyTorch has no DLPack exchange protocol")
    return request.param


def guards_of(grad, held=()):
    """Guards of a gradient and of a list; what has the gradient; and the word in which its memory is noted."""
    words, holder = np.zeros(1, np.int64), types.SimpleNamespace(grad=grad)
    tensors = {id(t) for t in held if isinstance(t, torch.Tensor)}
    return guard_set([], [held] if held else [], tensors, [holder], [words.ctypes.data]), holder, words


def test_the_way_is_the_one_that_was_asked_for(way):
    guards, *_ = guards_of(torch.ones(3))
    assert isinstance(guards, NativeGuards) == (way == "DLPack")


@pytest.mark.parametrize(
    "grad",
    [torch.ones(2, 3), torch.ones(()), torch.ones(0, 3), torch.ones(3, 2).T, torch.ones(1, 3).expand(2, 3)],
    ids=["plain", "0-d", "empty", "transposed", "expanded"],
)
def test_a_gradient_may_be_another_one_of_its_kind(way, grad):
    """Where it is gets noted."""
    guards, holder, words = guards_of(grad)
    holder.grad = torch.empty_strided(grad.shape, grad.stride())
    assert guards.check() < 0
    assert words[0] == holder.grad.data_ptr()


@pytest.mark.parametrize(
    "another",
    [
        None,
        torch.ones(2, 4),
        torch.ones(6),
        torch.ones(3, 2),
        torch.ones(2, 3, 1),
        torch.ones(3, 2).T,
        torch.ones(1, 3).expand(2, 3),
        torch.ones(2, 3, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.bfloat16),
        torch.ones(2, 3, dtype=torch.int32),
        torch.nn.Parameter(torch.ones(2, 3)),
        torch.ones(2, 3).to_sparse(),
        torch.ones(2, 3, device="meta"),
    ],
    ids=str,
)
def test_a_gradient_of_another_kind_is_noticed(way, another):
    guards, holder, _ = guards_of(torch.ones(2, 3))
    holder.grad = another
    try:
        assert guards.check() >= 0
    except RuntimeError:  # PyTorch's own, that there is no memory to look at
        assert another.layout is torch.sparse_coo or another.device.type == "meta"


def test_16_bits_are_not_16_bits(way):
    guards, holder, _ = guards_of(torch.ones(3, dtype=torch.float16))
    holder.grad = torch.ones(3, dtype=torch.bfloat16)
    assert guards.check() >= 0


def test_what_is_held_must_be_the_same_in_the_same_place(way):
    """By identity; and a tensor's memory must not move."""
    tensor, thing = torch.ones(2), object()
    held = [tensor, thing]
    guards, *_ = guards_of(torch.ones(2), held)
    assert guards.check() < 0
    for other in ([torch.ones(2), thing], [tensor, object()], [thing, tensor], [tensor], [tensor, thing, thing], []):
        held[:] = other
        assert guards.check() >= 0
    held[:] = [tensor, thing]
    assert guards.check() < 0
    tensor.data = torch.ones(2)
    assert guards.check() >= 0


def test_values_of_a_dict_and_attributes_must_be_the_same(way):
    tensor, thing, holder = torch.ones(2), object(), types.SimpleNamespace(name="a")
    held = {"tensor": tensor, "thing": thing}
    guards = guard_set([(holder, "name")], [held], {id(tensor)}, [], [])
    assert isinstance(guards, NativeGuards) == (way == "DLPack")
    assert guards.check() < 0
    for other in (
        {"tensor": tensor, "things": thing},
        {"tensor": torch.ones(2), "thing": thing},
        {"tensor": tensor, "thing": 1.0},
        {"thing": thing, "tensor": tensor},
        {"tensor": tensor},
        {**held, "more": 1},
    ):
        before = dict(held)
        held.clear()
        held.update(other)
        assert guards.check() >= 0
        held.clear()
        held.update(before)
        assert guards.check() < 0
    holder.name = "b"
    assert guards.check() >= 0
    del holder.name
    with pytest.raises(AttributeError):
        guards.check()


def test_what_may_change_is_taken_anew(way):
    """But neither what is in it beyond that, nor a container whose inside is looked at."""
    inner, fixed = [1.0], [object()]
    held = {"lr": 0.1, "inner": inner}
    guards = guard_set([], [held, inner, fixed], set(), [], [])
    held["lr"] = 0.2
    assert guards.check() >= 0
    assert guards.renew(1)
    assert guards.check() < 0
    fixed[0] = object()
    assert guards.renew(1)
    assert guards.check() >= 0
    held["inner"] = [1.0]
    assert not guards.renew(1)
    held["inner"] = inner
    held["more"] = 1
    assert not guards.renew(1)


def test_a_gradient_that_cannot_be_read_is_told_by_the_error_that_reading_it_raises(way):
    class Broken:
        grad = torch.ones(2)

    holder, words = Broken(), np.zeros(1, np.int64)
    guards = guard_set([], [], set(), [holder], [words.ctypes.data])
    assert guards.check() < 0
    Broken.grad = property(lambda self: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        guards.check()


def test_a_gradient_is_not_kept_alive(way):
    """A plan that held the gradients it was made with would double their memory."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = descend.optim.Adam([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    gone = weakref.ref(weight.grad)
    weight.grad = torch.ones(3)
    gc.collect()
    assert gone() is None


def test_gradients_are_held_from_a_check_to_the_release(way):
    """A launch that gives back the interpreter's lock reads their memory meanwhile, whatever another thread does."""
    guards, holder, words = guards_of(torch.ones(3))
    for _ in range(2):
        gradient = holder.grad = torch.ones(3)
        assert guards.check() < 0
        holder.grad = None
        assert guards.held[0] is gradient
        assert words[0] == gradient.data_ptr()
        gone = weakref.ref(gradient)
        del gradient
        assert gone() is not None
        guards.release()
        assert gone() is None


@pytest.mark.parametrize("number", [1, 2, 5])
def test_gradients_are_held_in_the_order_of_their_parameters(way, number):
    grads = [torch.full((k,), 1.0) for k in range(number)]
    words, holders = np.zeros(number, np.int64), [types.SimpleNamespace(grad=g) for g in grads]
    guards = guard_set([], [], set(), holders, [words[k:].ctypes.data for k in range(number)])
    assert guards.check() < 0
    assert all(map(operator.is_, guards.held, grads))
    assert words.tolist() == [g.data_ptr() for g in grads]


@pytest.mark.machine_code
def test_a_check_that_steps_holds_nothing(way):
    """Nothing else runs meanwhile."""
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        optimizer.step()
    guards = optimizer.stepper.plan.guards
    assert guards.launch is not None
    assert [g for g in guards.held if g is not None] == []
    assert weight.tolist() == [-0.5] * 3


@pytest.mark.parametrize("negate", [torch._neg_view, lambda g: torch.complex(g, -g).conj().imag])
@pytest.mark.parametrize("shape", [(1,), (), (1, 1), (3,), (2, 3)], ids=str)
def test_a_gradient_that_is_lazily_negated_later(way, shape, negate):
    """Its memory holds the numbers with the other sign."""
    weight = torch.nn.Parameter(torch.zeros(shape))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for k in range(6):
        ones = torch.ones(shape)
        weight.grad = negate(ones) if k % 3 == 2 else ones
        expected = weight.detach() - 0.5 * weight.grad
        optimizer.step()
        assert torch.equal(weight, expected)


def test_a_gradient_at_the_address_of_the_last_one(way):
    """With other strides, another number of dimensions or another sign it is another gradient all the same."""
    memory = torch.arange(8.0)
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = descend.optim.SGD([weight], lr=1.0)
    expected = torch.zeros(2, 2)
    for gradient in (
        memory[:4].view(2, 2),
        memory[:4].view(2, 2).T,
        memory.view(2, 4)[:, ::2],
        memory[:1].expand(2, 2),
        memory[:4].view(2, 2).clone(),
        torch._neg_view(memory[:4].view(2, 2)),
        memory[:4].view(2, 2),
    ):
        for _ in range(2):
            weight.grad = gradient
            optimizer.step()
            expected -= gradient
            assert torch.equal(weight, expected)


@pytest.mark.slow
@pytest.mark.machine_code
def test_a_gradient_that_another_thread_lets_go_in_mid_step():
    """Fifty times, as the kernel starts, or at any time while it runs, which reads its memory to the end.

    Not while PyTorch reads ``weight.grad``: that may end the process by itself.
    """
    done = run(
        """
        import threading, time, torch, descend
        from descend.engines.native.launch import Launch
        torch.set_num_threads(1)
        weight = torch.nn.Parameter(torch.zeros(4_000_000))
        optimizer = descend.optim.SGD([weight], lr=0.5)
        times, let_go, real = [], [], Launch._run

        def let_go_meanwhile(launch, job):
            later = 0.02 * len(times) * min(times, default=0)
            timer = threading.Timer(later * (len(times) % 2), setattr, (weight, "grad", None))
            timer.start()
            if not len(times) % 2:
                timer.join()
            begin = time.perf_counter()
            done = real(launch, job)
            times.append(time.perf_counter() - begin)
            let_go.append(weight.grad is None)
            timer.join()
            return done

        Launch._run = let_go_meanwhile
        for k in range(50):
            weight.grad = torch.ones(4_000_000)  # 16 MB: its memory goes back to the system when nobody holds it
            optimizer.step()
        print(torch.unique(weight.detach()).tolist(), len(times), all(let_go[::2]))
        """
    )
    assert done.stdout.split() == ["[-25.0]", "50", "True"]


@pytest.mark.machine_code
@pytest.mark.parametrize("switch", ["DESCEND_FAST_GUARDS", "DESCEND_MACHINE_CODE"])
@pytest.mark.filterwarnings("ignore:SGD steps without machine code")
def test_guards_are_switched_off(switch, monkeypatch):
    """The first switch leaves kernels and their launches on."""
    monkeypatch.setenv(switch, "0")
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        weight.grad = torch.ones(2)
        optimizer.step()
    assert type(optimizer.stepper.plan.guards) is PythonGuards
    assert bool(optimizer.stepper.plan.spans.launches) == (switch == "DESCEND_FAST_GUARDS")
    assert weight.tolist() == [-0.5, -0.5]


@pytest.mark.machine_code
def test_guards_that_cannot_be_compiled(monkeypatch):
    """Kernels step all the same; a warning says once that checks take longer."""

    def refuses(file, *names, **how):
        raise Unavailable(f"LLVM cannot compile {file.name} (for a test)")

    runtime.runtime()
    monkeypatch.setattr(runtime, "compiled", refuses)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    weight.grad = torch.ones(2)
    with pytest.warns(
        RuntimeWarning, match=r"checks its tensors in Python, which takes longer: LLVM cannot compile guards"
    ):
        optimizer.step()
    optimizer.stepper.plan = None
    optimizer.step()
    assert type(optimizer.stepper.plan.guards) is PythonGuards
    assert optimizer.stepper.plan.spans.launches
    assert weight.tolist() == [0.0, 0.0]


def test_a_count_of_steps_is_read_once(way, monkeypatch):
    """If it changes while a step is planned, as another process may change shared state, the step is planned anew."""
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = descend.optim.Adam([weight], lr=0.1)
    other = descend.optim.Adam([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    for one in (optimizer, other):
        (p,) = one.param_groups[0]["params"]
        p.grad = torch.ones(2)
        one.step()
    real = module.guard_set

    def late(*known):
        if optimizer.state[weight]["step"] == 1:
            optimizer.state[weight]["step"].fill_(7.0)
        return real(*known)

    monkeypatch.setattr("descend.optim.step_plan.guard_set", late)
    optimizer.stepper.plan = None
    optimizer.step()
    monkeypatch.undo()
    (p,) = other.param_groups[0]["params"]
    other.state[p]["step"].fill_(7.0)
    other.step()
    assert optimizer.state[weight]["step"].item() == 8.0
    assert torch.equal(weight, p)


def test_a_tensor_that_dlpack_cannot_show_is_asked_in_python(monkeypatch):
    """Whatever PyTorch answers there, the step is made."""

    def refuses(*arguments):
        raise NotGuardable

    monkeypatch.setattr(module, "NativeGuards", refuses)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        weight.grad = torch.ones(2)
        optimizer.step()
    assert weight.tolist() == [-0.5, -0.5]
