"""Kernels: bit for bit the reference engine, in every format, made once for each formula, and never stale."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import naive
from tests.processes import run
from tests.rules.tracing.formulas import agree, rule_of, same_numbers

import descend
from descend.engines import Fused, Reference, Unavailable, engine
from descend.engines.native import kernels
from descend.engines.native.formats import Layout
from descend.engines.torch.tensors import tensor_step
from descend.rules import maths
from descend.rules.tracing import trace

pytestmark = pytest.mark.machine_code
SHIPPED = naive.shipped()
TABLE = pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)


def layout_of(rule, name="float32"):
    return Layout(name, name, (name,) * len(rule.kept_state()))


# ---- the same numbers -------------------------------------------------------------------------------------------


@TABLE
def test_every_setting_gives_the_reference_numbers(rule):
    """Every flag on and off, in float32; a kernel is made once for settings that differ in numbers alone."""
    assert [label for label, chosen in naive.settings(rule) if not agree(rule(**chosen), np.float32)] == []


@TABLE
def test_float64_gives_the_reference_numbers(rule):
    """With nothing and with everything on."""
    ends = (naive.settings(rule)[0], naive.settings(rule)[-1])
    assert [label for label, chosen in ends if not agree(rule(**chosen), np.float64)] == []


@TABLE
def test_float64_equals_the_paper(rule):
    """The plain loop of the paper, without the reference engine between."""
    start, grads = naive.gradients(100)
    one = rule()
    chosen = {field.name: getattr(one, field.name) for field in dataclasses.fields(rule)}
    p = start.copy()
    runner = Fused(one, [p])
    path = []
    for g in grads:
        runner.step([g])
        path.append(p.copy())
    assert naive.distance(np.array(path), naive.path(rule, chosen, start, grads)) < 1e-12


@TABLE
def test_float32_is_a_few_ulps_from_the_paper(rule):
    """One step of float32 is within 8 ulps of the same step in float64: each operation rounds once, and none has 16.

    The parameters are of size one and the steps shorter, so that the ulps of the sum are those of the parameter.
    """
    start, grads = np.linspace(0.5, 1.0, 101), np.linspace(-1.0, 1.0, 101).astype(np.float32)
    p = start.astype(np.float32)
    exact = p.astype(np.float64)
    Reference(rule(), [exact]).step([grads.astype(np.float64)])
    Fused(rule(), [p]).step([grads])
    assert np.max(np.abs(p - exact) / np.spacing(np.abs(exact).astype(np.float32))) <= 8


@TABLE
def test_wide_vectors_give_the_same_bits(rule):
    for cautious in (False, True):
        one = rule(cautious=cautious)
        rows = [descend.engines.native.kernels.kernel(one, layout_of(one), wide=wide) for wide in (False, True)]
        ends = []
        for made in rows:
            rng = np.random.default_rng(3)
            p, g = (rng.normal(size=1037).astype(np.float32) for _ in range(2))
            state = [np.full_like(p, one.initial(name)) for name in made.kept]
            step_by(made, one, p, g, state)
            ends.append([p, *state])
        assert all(a.tobytes() == b.tobytes() for a, b in zip(*ends, strict=True))


def step_by(kernel, rule, p, g, state):
    """One step by a kernel that has been made already."""
    from descend.engines.native.launch import Launch, Scalars

    launch = Launch(kernel, [p.size], [0])
    Scalars(rule, memoryview(launch.scalars[0]), kernel.numbers).fill(1, rule.starting())
    for k, array in enumerate((p, g, *state)):
        launch.point(k, [array.ctypes.data])
    assert launch()


@pytest.mark.filterwarnings("ignore:state_dtype")
@pytest.mark.parametrize("state", [torch.float16, torch.bfloat16, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", [descend.Adam(lr=0.1), descend.SGD(lr=0.1, momentum=0.9), descend.Lion(lr=0.1)])
def test_16_bits_are_rounded_to_nearest(rule, dtype, state):
    """A step in float32, rounded once by PyTorch's own conversion, gives the same bits; NaN and infinity among them."""
    torch.manual_seed(0)
    p = torch.randn(1000).to(dtype)
    p[:4] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0])
    kept = rule.kept_state()
    mine = {name: torch.zeros(1000, dtype=state or torch.float32) for name in kept}
    expected, theirs = p.clone(), {name: s.clone() for name, s in mine.items()}
    optimizer = descend.optim.from_rule(type(rule))([p], **settings_of(rule), state_dtype=state)
    for t in range(1, 20):
        p.grad = torch.randn(1000).to(dtype)
        optimizer.step()
        tensor_step(rule, rule.row(t), expected, p.grad, theirs)
    assert optimizer.state[p]["step"] == 19
    for a, b in ((p, expected), *((optimizer.state[p][n], theirs[n]) for n in kept)):
        nan = torch.isnan(b)
        assert torch.equal(torch.isnan(a), nan)
        bits = torch.int16 if a.element_size() == 2 else torch.int32
        assert torch.equal(a[~nan].view(bits), b[~nan].view(bits))


def settings_of(rule):
    fields = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
    return {name: value for name, value in fields.items() if value != getattr(type(rule)(), name)}


# ---- formulas of one's own --------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-3, -7.25, np.float64(0.1)])
LEAVES = st.sampled_from(["p", "g", "m", "s.lr", "s.keep"]) | NUMBERS.map(repr).map(
    lambda number: f"({number})".replace("np.float64", "np.float64")
)


def grown(children):
    """Expressions over smaller ones: arithmetic, comparisons, choices, and the functions of maths and of NumPy."""
    pair = st.tuples(children, children)
    return st.one_of(
        st.builds("({0[0]} {1} {0[1]})".format, pair, st.sampled_from("+-*")),
        st.builds("(p * 0 + {0[0]}) / ({0[1]} + p * 0)".format, pair),
        st.builds("maths.where(p * 0 + {0} {1} {2}, {3}, {4} + g * 0)".format, children,
                  st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), children, children, children),
        st.builds("np.where((p < {0}) {1} ~(g >= {2}), {3}, 1.0)".format, children, st.sampled_from("&|^"), children,
                  children),
        st.builds("maths.{1}(p * 0 + {0})".format, children, st.sampled_from(["sqrt", "absolute", "sign"])),
        st.builds("np.{1}({0} + g * 0)".format, children, st.sampled_from(["floor", "ceil", "rint", "trunc"])),
        st.builds("(np.{1}({0} + g * 0) * g)".format, children, st.sampled_from(["isnan", "isinf", "isfinite"])),
        st.builds("maths.{1}(p * 0 + {0[0]}, g * 0 + {0[1]})".format, pair, st.sampled_from(["maximum", "minimum"])),
        st.builds("maths.clip(p * 0 + {}, -1.5, s.keep)".format, children),
        st.builds("(g * 0 + {}) ** {}".format, children, st.sampled_from([0.5, 1, 2, -1])),
        st.builds("(-({}))".format, children),
        st.builds("(({} > p) * 1.0)".format, children),
    )  # fmt: skip


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(new=EXPRESSIONS, state=EXPRESSIONS, dtype=st.sampled_from([np.float32, np.float64]))
def test_any_formula_gives_numpys_numbers(new, state, dtype):
    """Random expressions over parameter, gradient, state and numbers, on numbers of all sizes, infinities and NaN."""
    scope = {"np": np, "maths": maths}
    exec(f"def update(p, g, m, s):\n    return {new} + p * 0, {state} + m * 0", scope)
    assert agree(rule_of(scope["update"]), dtype, steps=2, size=67)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [3, -2, 7, 1.7, -0.3])
def test_powers_agree_to_the_last_digits(power, dtype):
    """NumPy, C and repeated multiplication round powers differently: all are within a few units of the last place."""

    def update(p, g, s):
        return p + maths.absolute(g) ** power

    rule, g = rule_of(update), np.linspace(0.1, 4.0, 500).astype(dtype)
    p = np.zeros(500, dtype)
    Fused(rule, [p]).step([g])
    exact = g.astype(np.longdouble) ** power
    assert np.max(np.abs(p - exact) / np.spacing(exact.astype(dtype))) <= 4


def test_numbers_of_a_step_are_computed_as_pythons():
    """In float64, before they meet an array: the product of two rates is rounded once, as the reference engine does."""

    def update(p, g, s):
        return p - (s.lr * s.keep + s.weight_decay) * g

    assert agree(type(rule_of(update))(lr=0.1, weight_decay=0.3), np.float32)


def test_a_switch_of_the_step_is_a_number_to_a_kernel():
    """What `scalars` gives may be True at one step and False at the next; a flag of the rule never changes."""

    def update(p, g, s):
        return p - s.lr * g * (2.0 if s.late else 1.0)

    assert agree(rule_of(update, scalars=lambda self, t: {"late": t > 3}), np.float64, steps=6)


def test_numbers_of_numpys_from_scalars_are_numbers():
    """They do not make a float32 step a float64 one."""

    def update(p, g, s):
        return p - s.rate * g

    assert agree(rule_of(update, scalars=lambda self, t: {"rate": np.sqrt(np.float64(t))}), np.float32)


# ---- which kernel -----------------------------------------------------------------------------------------------


def test_rules_that_compute_the_same_share_a_kernel():
    """A kernel depends on what is computed, not on what it is called."""
    layout = Layout("float32", "float32", ())
    one, other = (rule_of(lambda p, g, s: p - s.lr * g) for _ in range(2))
    assert kernels.kernel(one, layout) is kernels.kernel(other, layout)
    different = rule_of(lambda p, g, s: p - s.lr * (g + 0.0))
    assert kernels.kernel(one, layout) is not kernels.kernel(different, layout)
    assert kernels.kernel(one, layout) is not kernels.kernel(one, Layout("float64", "float64", ()))
    plain, decayed = (descend.GD(weight_decay=weight) for weight in (0.0, 0.1))
    assert kernels.kernel(plain, layout) is not kernels.kernel(decayed, layout)
    assert kernels.kernel(decayed, layout) is kernels.kernel(descend.GD(weight_decay=0.2, lr=3.0), layout)


FACTOR = 1.0


def test_a_kernel_follows_what_its_formula_reads(monkeypatch):
    """A global, a closure and the formula itself, within one process."""
    share = 1.0
    rule = rule_of(lambda p, g, s: p - s.lr * FACTOR * share * g)

    def stepped():
        p = np.ones(2)
        Fused(rule, [p]).step([np.ones(2)])
        return round(float(p[0]), 9)

    ends = [stepped()]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    ends.append(stepped())
    share = 2.0
    ends.append(stepped())
    type(rule).update = staticmethod(lambda p, g, s: p - 5.0 * s.lr * g)
    ends.append(stepped())
    assert ends == [0.9, 0.7, 0.4, 0.5]


def test_many_threads_ask_for_a_kernel_at_once():
    rule, found = rule_of(lambda p, g, s: p - s.lr * g * 0.123), []
    threads = [threading.Thread(target=lambda: found.append(kernels.kernel(rule, layout_of(rule)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_nothing_is_written_and_numba_is_not_there(tmp_path):
    """A first step makes its kernel in memory; there is no cache on disk, nor anything to say."""
    done = run(
        """
        import sys, numpy as np, descend
        p = np.ones(3)
        descend.engines.Fused(descend.Adam(lr=0.5), [p]).step([np.ones(3)])
        print(p.round(6).tolist(), [name for name in ("numba", "torch") if name in sys.modules])
        """,
        HOME=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert done.stdout.strip() == "[0.5, 0.5, 0.5] []"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# ---- what has no kernel -----------------------------------------------------------------------------------------


def test_what_kernels_cannot_compute_is_stepped_by_numpy_and_said_once():
    """The reference engine steps it in blocks, as it is elementwise; a second engine says nothing."""
    rule = rule_of(lambda p, g, s: p - s.lr * np.arctan(g))
    with pytest.raises(Unavailable, match=r"Mine\.update calls numpy\.arctan, which kernels do not have"):
        Fused(rule, [np.ones(3)])
    with pytest.warns(RuntimeWarning, match="Mine steps by NumPy: Mine.update calls numpy.arctan"):
        assert type(engine(rule, [np.ones(3)], steps=10**6)) is Reference
    assert type(engine(rule, [np.ones(3)], steps=10**6)) is Reference


def test_what_a_formula_raises_is_raised():
    """For those numbers of a step that it raises for, and by NumPy, since machine code cannot."""

    def update(p, g, s):
        if s.lr > 1.0:
            raise ValueError("lr is too large")
        return p - s.lr * g

    rule = type(rule_of(update))(lr=lambda step: 0.1 if step < 1 else 2.0)
    with pytest.raises(Unavailable, match=r"Mine\.update raises ValueError: lr is too large"):
        Fused(rule, [np.ones(3)])
    p = np.ones(3)
    runner = Reference(rule, [p])
    runner.step([np.ones(3)])
    with pytest.raises(ValueError, match="lr is too large"):
        runner.step([np.ones(3)])
    assert p.tolist() == [0.9] * 3


def test_llvm_that_cannot_read_a_kernel(monkeypatch):
    """A newer or damaged LLVM: the reference engine steps, and says why."""
    monkeypatch.setattr(kernels, "code", lambda *_, **__: "this is not LLVM's language")
    rule = rule_of(lambda p, g, s: p - s.lr * g * 0.321)
    with pytest.raises(Unavailable, match=r"LLVM cannot compile Mine\.update"):
        Fused(rule, [np.ones(3)])


@pytest.mark.parametrize("cautious", [False, True])
def test_an_empty_and_a_single_number(cautious):
    for size, dtype in itertools.product((0, 1), (np.float32, np.float64)):
        assert agree(
            descend.Adam(cautious=cautious), dtype, size=size, draw=lambda rng, n, d: rng.normal(size=n).astype(d)
        )


def test_the_mask_counts_each_entry_once():
    """Over chunks of several spans, some empty; the oracle counts by NumPy."""
    rule = descend.GD(cautious=True, weight_decay=0.5)
    rng = np.random.default_rng(5)
    start = [rng.normal(size=n) for n in (0, 7, 300_000, 1)]
    grads = [rng.normal(size=p.size) for p in start]
    ends = []
    for kind in (Reference, Fused):
        params = [p.copy() for p in start]
        kind(rule, params).step(grads)
        ends.append(params)
    assert all(same_numbers(a, b) for a, b in zip(*ends, strict=True))
    assert trace(rule).mask is not None
