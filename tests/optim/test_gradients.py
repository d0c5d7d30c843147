"""Gradients of every layout and format, dense and sparse."""

import contextlib

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import FUSED, LAYOUTS, TWINS, same  # noqa: E402

from descend import optim  # noqa: E402


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_layouts_of_gradients(name, layout):
    """Gradients may lie in memory in any way, and in another at each step."""
    made = []
    for library in (optim, torch.optim):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
        optimizer = getattr(library, name)([p], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
        for i in range(9):
            g = (p.detach() - 0.3) * torch.arange(1, 5)
            p.grad = g if i % 3 == 0 else LAYOUTS[layout](g)
            optimizer.step()
        made.append(p)
    same(*made)


def test_gradients_of_another_format():
    """A gradient may have fewer bits than its parameter, where torch allows that."""
    p = torch.nn.Parameter(torch.ones(5))
    if not hasattr(p, "grad_dtype"):
        pytest.skip("torch has gradients of the parameter's format alone")
    p.grad_dtype = None  # whatever comes
    q = torch.nn.Parameter(torch.ones(5))
    ours, its = optim.Adam([p], **FUSED), optim.Adam([q])
    for dtype in (torch.bfloat16, torch.float32, torch.float16, torch.bfloat16):
        p.grad = torch.linspace(-1, 1, 5).to(dtype)
        q.grad = p.grad.float()
        ours.step()
        its.step()
        assert torch.equal(p, q)


@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"maximize": True}])
def test_sparse_gradients_of_sgd(kwargs):
    """SGD takes the sparse gradients of an embedding, with momentum too."""
    _sparse("SGD", lr=0.5, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}])
def test_sparse_gradients_of_adagrad(kwargs):
    """So does Adagrad."""
    _sparse("Adagrad", lr=0.5, **kwargs)


def _sparse(name, **kwargs):
    made = []
    for library, sparse in ((optim, True), (torch.optim, False)):
        torch.manual_seed(0)
        table = torch.nn.Embedding(6, 3, sparse=sparse).double()
        optimizer = getattr(library, name)(table.parameters(), **kwargs)
        for rows in ([1, 2, 2], [0], [5, 1, 1, 0]):
            optimizer.zero_grad()
            (table(torch.tensor(rows)) ** 2).sum().backward()
            assert table.weight.grad.is_sparse == sparse
            optimizer.step()
        made.append(table)
    same(*made)


@pytest.mark.parametrize("name", [n for n in TWINS if n not in ("SGD", "Adagrad")])
def test_sparse_gradients_of_others(name):
    """Other rules move entries whose gradient is zero: an error that says what to do; dense ones are stepped after."""
    table = torch.nn.Embedding(6, 3, sparse=True)
    line = torch.nn.Linear(3, 1)
    optimizer = getattr(optim, name)([*line.parameters(), *table.parameters()])
    line(table(torch.tensor([1, 2]))).sum().backward()
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"does not support the sparse gradient of parameter 2 of group 0.*dense"
        ):
            optimizer.step()
    table.weight.grad = table.weight.grad.to_dense()
    optimizer.step()
    assert optimizer.state[table.weight]["step"] == 1


def test_sparse_gradients_and_weight_decay():
    """Weight decay would move the entries that a sparse gradient does not have."""
    table = torch.nn.Embedding(6, 3, sparse=True)
    optimizer = optim.SGD(table.parameters(), weight_decay=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="weight_decay cannot be used with the sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("way", [{}, {"foreach": True}], ids=["machine code", "tensors"])
def test_errors_of_a_step_leave_it_whole(way):
    """A step that fails half way has stepped what it reached; the next goes on from there, as torch's does."""
    made = []
    for library in (optim, torch.optim):
        torch.manual_seed(0)
        table, line = torch.nn.Embedding(6, 3, sparse=True).double(), torch.nn.Linear(3, 1).double()
        optimizer = library.Adam([{"params": line.parameters()}, {"params": table.parameters(), **way}], lr=0.1)
        for i in range(6):
            optimizer.zero_grad()
            (line(table(torch.tensor([1, 2]))) ** 2).sum().backward()
            if i != 2:
                table.weight.grad = table.weight.grad.to_dense()
            with contextlib.suppress(RuntimeError):
                optimizer.step()
        made.append([*line.parameters(), table.weight, *(s["step"] for s in optimizer.state.values())])
    same(*made)
