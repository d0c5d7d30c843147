"""Optimizers of a user's own rules."""

import inspect
import pickle
import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import FUSED, same  # noqa: E402

import descend  # noqa: E402
from descend import optim  # noqa: E402
from descend.errors import RuleError  # noqa: E402


class Halves(descend.Rule, register=False):
    """A rule of a user's module, with state, a flag, and a number computed once a step."""

    lr: float = 0.5
    hasty: bool = False

    def scalars(self, t):
        return {"share": 1.0 / t}

    @staticmethod
    def update(p, g, total, s):
        total = total + s.share * g
        return (p - s.lr * g if s.hasty else p - s.lr * total), total


def test_rule_of_a_user():
    """A rule of one's own steps in machine code and on tensors alike; its optimizer can be copied and pickled."""
    kind = optim.from_rule(Halves)
    assert optim.from_rule(Halves) is kind
    results = []
    for way in (FUSED, {"fused": False}):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = kind([p], **way)
        for _ in range(3):
            p.grad = p.detach().clone()
            optimizer.step()
        results.append((p, optimizer.state[p]["total"]))
    expected, total = torch.tensor([1.0, -2.0], dtype=torch.float64), 0
    for t in (1, 2, 3):
        total = total + expected / t
        expected = expected - 0.5 * total
    for p, found in results:
        same((p.detach(), found), (expected, total))
    (q,), its = pickle.loads(pickle.dumps(([p], optimizer)))
    assert type(its) is kind
    assert torch.equal(its.state[q]["total"], optimizer.state[p]["total"])
    assert optim.from_rule(Halves)([p], hasty=True).defaults["hasty"] is True
    assert list(inspect.signature(kind).parameters)[:3] == ["params", "lr", "hasty"]


def test_rule_of_a_user_in_another_process(tmp_path, monkeypatch):
    """An optimizer of a rule in a module of one's own can be unpickled where nothing was made from it yet."""
    (tmp_path / "rule_of_mine.py").write_text(
        textwrap.dedent("""
        import descend

        class Mine(descend.Rule):
            @staticmethod
            def update(p, g, last, s):
                return p - s.lr * (g + last), g
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import rule_of_mine

    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = optim.from_rule(rule_of_mine.Mine)([p], lr=0.5)
    optimizer.step()
    (tmp_path / "optimizer").write_bytes(pickle.dumps((p, optimizer)))
    load = "import pickle; p, o = pickle.load(open('optimizer', 'rb')); p.grad = p.detach() * 0 + 1; o.step(); "
    load += "assert p.tolist() == [-0.5, -0.5], p; assert type(o).__name__ == 'Mine'"
    done = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_from_rule_of_something_else():
    """What is no rule, or has no formula, is refused."""
    for wrong in (descend.Adam(), torch.optim.Adam, descend.Rule, "adam"):
        with pytest.raises(RuleError, match="the class of a rule is needed"):
            optim.from_rule(wrong)
