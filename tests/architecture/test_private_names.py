"""A name that begins with an underscore is used where it is defined: in its own module, and in no other."""

import ast

import pytest
from tests.architecture.sources import MODULES, tree_of

OF_TUPLES = {"_replace", "_asdict", "_fields", "_make", "_field_defaults"}
"""What named tuples offer to all: the underscore keeps them from clashing with fields."""

FOREIGN = {
    "_exit": "os: documented, the way out of a process that must not clean up",
    "_foreach_abs": "torch: the loop of C++ over many tensors that torch.optim uses itself; nothing public replaces it",
    "_foreach_add": "torch: as _foreach_abs",
    "_foreach_copy_": "torch: as _foreach_abs",
    "_foreach_div": "torch: as _foreach_abs",
    "_foreach_mul": "torch: as _foreach_abs",
    "_foreach_sqrt": "torch: as _foreach_abs",
    "_foreach_sub": "torch: as _foreach_abs",
    "_C": "torch: its file lies beside the OpenMP library that PyTorch uses, and it tells a tensor's dispatch keys",
    "_cdata": "torch: the address of a tensor, where machine code looks at its dispatch keys",
    "_dispatch_keys": "torch: by which guards tell a negated tensor from a plain one",
    "_neg_view": "torch: the way to make a negated tensor, whose dispatch keys are looked at",
    "_numdiff": "scipy.optimize: finite differences by their relative step, within bounds, in chosen directions",
    "_global_optimizer_pre_hooks": "torch.optim: what register_optimizer_step_pre_hook has registered",
    "_global_optimizer_post_hooks": "torch.optim: what register_optimizer_step_post_hook has registered",
    "_profiler_enabled": "torch.autograd: whether a step is to be recorded",
    "_disable_dynamo": "torch: what torch.optim puts around its own steps",
    "_python_dispatch": "torch.utils: where TorchDispatchMode is, by which operations are watched",
    "_backward_hooks": "torch: a parameter's hooks, which one call for many runs would pass over",
    "_post_accumulate_grad_hooks": "torch: as _backward_hooks",
    "_storage_Use_Count": "torch: how many tensors share one's memory; where it is missing, parameters are copied",
    "_is_zerotensor": "torch: a tensor of zeros without memory has no public test",
}
"""Private names of other projects that have no public twin, and why they are used."""


def private(name: str) -> bool:
    """Whether a name is somebody's own: one underscore in front, but for ``_`` itself and names such as __all__."""
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in OF_TUPLES


def defined(tree: ast.Module) -> set[str]:
    """The names that a module gives to something: variables, functions, classes, attributes, slots."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    names |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and on_itself(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__slots__" for t in node.targets):
            names |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "object.__setattr__" and on_itself(node.args[0]):
            names.add(getattr(node.args[1], "value", ""))
    return names


def on_itself(value: ast.expr) -> bool:
    """Whether an attribute is asked of the object or class whose method asks: its own, or one it inherits."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in ("super", "type")
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def imported_names(tree: ast.Module, inside: bool) -> set[str]:
    """The names that stand for something imported from the package (`inside`), or from other projects."""
    names = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            origin = node.module if isinstance(node, ast.ImportFrom) else alias.name
            if (origin.partition(".")[0] == "descend") == inside:
                names.add(alias.asname or alias.name.partition(".")[0])
    return names


def root_of(value: ast.expr) -> str:
    """The first name of a chain: ``torch`` of ``torch.optim.Adam``; empty for the result of a call."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


def reaches(tree: ast.Module) -> list[tuple[int, str, str]]:
    """Where a module uses a private name that is not its own: line, what stands there, and the name.

    An attribute is a module's own if the module gives that name to anything, and never if it asks it of what it
    imported from the package. Of other projects only what has no public name is asked for, and that is listed.
    """
    own, ours = defined(tree), imported_names(tree, inside=True)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, f"from {node.module} import {n}", n) for n in names if private(n)]
            continue
        if isinstance(node, ast.Attribute) and private(node.attr):
            value, name = node.value, node.attr
        elif asks_by_name(node):
            value, name = node.args[0], node.args[1].value
        else:
            continue
        if on_itself(value) or (name in own and root_of(value) not in ours):
            continue
        found.append((node.lineno, ast.unparse(node), name))
    return sorted(set(found))


def asks_by_name(node: ast.AST) -> bool:
    """Whether a call is ``getattr(thing, "_name")`` or one of its kind."""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).removeprefix("object.")
        in ("getattr", "setattr", "hasattr", "delattr", "__setattr__")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
        and isinstance(node.args[1].value, str)
        and private(node.args[1].value)
    )


FOUND = [(f"{module}:{line}", what, name) for module in MODULES for line, what, name in reaches(tree_of(module))]


def test_no_module_uses_anothers_private_names():
    """What a module or class keeps to itself may change without a look at the others."""
    assert [f"{where}: {what}" for where, what, name in FOUND if name not in FOREIGN] == []


def test_what_is_excused_is_still_there():
    """An excuse that nothing needs any more is struck off."""
    assert set(FOREIGN) - {name for _, _, name in FOUND} == set()


# ---- what finds them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from descend.rules import _x", ["from descend.rules import _x"]),
        ("from torch._utils import x", ["from torch._utils import _utils"]),
        ("from descend import rules\nrules._x", ["rules._x"]),
        ("from descend import rules\nrules.deep._x\n_x = 1", ["rules.deep._x"]),
        ("from descend.rules import Adam\nAdam._x\n_x = 1", ["Adam._x"]),
        ("import torch\ntorch._C.x", ["torch._C"]),
        ("def f(other):\n    return other._x", ["other._x"]),
        ("def f(other):\n    other._x = 1", ["other._x"]),
        ("def f(a):\n    return a.b()._x", ["a.b()._x"]),
        ("def f(a):\n    return getattr(a, '_x', None)", ["getattr(a, '_x', None)"]),
        ("def f(a):\n    object.__setattr__(a, '_x', 1)", ["object.__setattr__(a, '_x', 1)"]),
        ("class A:\n    def f(self, b):\n        self.b._x", ["self.b._x"]),
        ("class A:\n    def f(self):\n        return self._x", []),
        ("class A:\n    def f(self):\n        return super()._x + type(self)._x", []),
        ("class A:\n    def f(self, b):\n        self._x = 1\n        return b._x", []),
        ("class A:\n    __slots__ = ('_x',)\n    def f(self, b):\n        return b._x", []),
        ("class A:\n    def _x(self):\n        pass\ndef f(a):\n    return a._x()", []),
        ("class A:\n    def f(self, b):\n        object.__setattr__(self, '_x', 1)\n        return b._x", []),
        ("def f(a):\n    return a.__dict__, a._replace(b=1), a.public", []),
        ("from __future__ import annotations\nimport numpy as np\nfor _ in np.ones(2): pass", []),
    ],
)  # fmt: skip
def test_private_names_are_found(code, found):
    """Every way to reach for one is seen; one's own, an inherited one, and those that Python made public are not."""
    assert [what for _, what, _ in reaches(ast.parse(code))] == found
