"""What tests of the tensor engines share: tensors of all kinds, their state, and the rows of their steps."""

import torch

SHAPES = ((3,), (), (0,), (40, 7), (2, 3, 4))


def made(rule, dtype, shapes=SHAPES):
    """Parameters, state and three gradients for each; some are transposed, and one number is NaN."""
    torch.manual_seed(0)
    params = [torch.randn(shape, dtype=dtype) for shape in shapes]
    params = [p.T if p.dim() == 2 else p for p in params]
    grads = [[torch.randn_like(p) for p in params] for _ in range(3)]
    grads[2][0].view(-1)[:1] = float("nan")
    states = []
    for p in params:
        start = {n: rule.initial(n) for n in rule.kept_state()}
        states.append({n: torch.full_like(p, complex(v, v) if p.is_complex() else v) for n, v in start.items()})
    return params, grads, states


def copies(params, states):
    return [p.clone() for p in params], [{n: t.clone() for n, t in state.items()} for state in states]


def rows(rule, number=3):
    carried, found = rule.starting(), []
    for t in range(1, number + 1):
        row, carried = rule.advance(t, carried)
        found.append(row)
    return found


def same(a, b):
    a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (a, b))
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a[~a.isnan()], b[~b.isnan()])
