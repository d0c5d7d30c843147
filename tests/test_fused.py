"""The fused engine: bit for bit the reference engine, in every layout, from any thread, and never from a stale file."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.oracles import naive
from tests.processes import run

import descend
from descend.engines import Fused, Reference, Unavailable, engine
from descend.engines import select as choice
from descend.engines.native import keeping, kernels
from descend.engines.native import runtime as native
from descend.engines.native import trace as compiling
from descend.engines.native.formats import Layout
from descend.engines.native.launch import Launch
from descend.engines.native.layout import GRAD, PARAM, STATE
from descend.engines.native.scalars import Scalars
from descend.engines.torch.tensors import tensor_step
from descend.errors import ParameterError, RuleError
from descend.rules import maths

SHIPPED = naive.shipped()
EVERY = [pytest.param(rule, chosen, id=label) for rule in SHIPPED.values() for label, chosen in naive.settings(rule)]
ENDS = [
    pytest.param(rule, chosen, id=label)
    for rule in SHIPPED.values()
    for label, chosen in (naive.settings(rule)[0], naive.settings(rule)[-1])
]
"""Each rule with nothing on, and with everything on."""
SHAPES = ((3,), (), (40_000,), (0,), (5, 7))


def same_bits(a, b):
    return a.tobytes() == b.tobytes()


def both(rule, arrays, grads, fused=Fused):
    """The arrays after a step for each list of gradients, by the reference and the fused engine, and their states."""
    ends = []
    for kind in (Reference, fused):
        mine = [a.copy(order="K") for a in arrays]
        runner = kind(rule, mine)
        for g in grads:
            runner.step(g)
        ends.append((mine, [s for state in runner.state for s in state.values()]))
    return ends


def agree(rule, dtype, steps=6, shapes=SHAPES):
    rng = np.random.default_rng(1)
    arrays = [np.asarray(rng.normal(size=s), dtype) for s in shapes]
    grads = [[np.asarray(rng.normal(size=s), dtype) for s in shapes] for _ in range(steps)]
    for g in grads:  # sparse, huge and tiny ones, too
        g[2][::3] = 0.0
        g[2][1::7] *= 1e6
        g[2][2::11] *= 1e-6
    (p, state), (fused_p, fused_state) = both(rule, arrays, grads)
    assert all(itertools.starmap(same_bits, zip(p, fused_p, strict=True)))
    assert all(itertools.starmap(same_bits, zip(state, fused_state, strict=True)))


# ---- the same numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "chosen"), ENDS)
def test_every_rule_gives_the_reference_bits(rule, chosen):
    """In float32, with nothing and with everything on."""
    agree(rule(**chosen), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "chosen"), EVERY)
def test_every_setting_gives_the_reference_bits(rule, chosen):
    """Every flag on and off, in float32."""
    agree(rule(**chosen), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "chosen"), ENDS)
def test_float64_gives_the_reference_bits(rule, chosen):
    """The same code, but for the format, with nothing and with everything on."""
    agree(rule(**chosen), np.float64)


@pytest.mark.parametrize("rule", [descend.Adam(), descend.SGD(lr=0.1, momentum=0.9, nesterov=True), descend.Lion()])
def test_float64_equals_the_paper(rule):
    """The fused engine against the plain loop of the paper, without the reference engine between."""
    start, grads = naive.gradients(100)
    chosen = {name: getattr(rule, name) for name in naive_names(type(rule))}
    p = start.copy()
    runner = Fused(rule, [p])
    path = []
    for g in grads:
        runner.step([g])
        path.append(p.copy())
    assert naive.distance(np.array(path), naive.path(type(rule), chosen, start, grads)) < 1e-12


def naive_names(rule):
    import dataclasses

    return [field.name for field in dataclasses.fields(rule)]


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_float32_is_a_few_ulps_from_the_paper(rule):
    """One step of float32 is within 8 ulps of the same step in float64: each operation rounds once, and none has 16.

    The parameters are of size one and the steps shorter, so that the ulps of the sum are those of the parameter.
    """
    start, grads = np.linspace(0.5, 1.0, 101), np.linspace(-1.0, 1.0, 101)
    one = rule()
    exact = start.copy()
    Reference(one, [exact]).step([grads.astype(np.float32).astype(np.float64)])
    p = start.astype(np.float32)
    moved = start.astype(np.float32).astype(np.float64)
    Reference(one, [moved]).step([grads.astype(np.float32).astype(np.float64)])
    Fused(one, [p]).step([grads.astype(np.float32)])
    assert np.max(np.abs(p - moved) / np.spacing(np.abs(moved).astype(np.float32))) <= 8


@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rule", [descend.Adam(lr=0.1), descend.SGD(lr=0.1, momentum=0.9), descend.Lion(lr=0.1)])
def test_16_bits_are_rounded_to_nearest(rule, dtype, state):
    """A step in float32, rounded once by PyTorch's own conversion, gives the same bits; NaN and infinity among them."""
    state = state or dtype
    torch.manual_seed(0)
    p = torch.randn(1000).to(dtype)
    p[:4] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0])
    kept = rule.kept_state()
    mine = {name: torch.zeros(1000, dtype=state) for name in kept}
    expected, theirs = p.clone(), {name: s.clone() for name, s in mine.items()}
    names = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}
    kernel = kernels.kernel(rule, Layout(names[dtype], names[dtype], (names[state],) * len(kept)))
    launch = Launch(kernel, [1000], [0])
    scalars = Scalars(rule, memoryview(launch.scalars[0]), kernel.numbers)
    launch.point(PARAM, [p.data_ptr()])
    for k, name in enumerate(kept):
        launch.point(STATE + k, [mine[name].data_ptr()])
    for t in range(1, 20):
        g = torch.randn(1000).to(dtype)
        launch.point(GRAD, [g.data_ptr()])
        scalars.fill(t, {})
        assert launch()
        tensor_step(rule, rule.row(t), expected, g, theirs)
        for a, b in ((p, expected), *((mine[n], theirs[n]) for n in kept)):
            nan = torch.isnan(b)
            assert torch.equal(torch.isnan(a), nan)
            assert torch.equal(
                a[~nan].view(torch.int16 if a.element_size() == 2 else torch.int32),
                b[~nan].view(torch.int16 if a.element_size() == 2 else torch.int32),
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_layout(dtype):
    """Transposed, strided, reversed and misaligned arrays give the same bits, and nothing else moves."""
    rng = np.random.default_rng(2)
    size = np.dtype(dtype).itemsize

    def layouts():
        base = rng.normal(size=(12, 10)).astype(dtype)
        yield base.copy().T
        yield base.copy()[::2, 1::3]
        yield base.copy()[::-1]
        yield np.asfortranarray(base)
        raw = np.zeros(7 * size + 1, np.uint8)
        odd = np.frombuffer(raw.data, dtype, 7, offset=1)
        odd[...] = rng.normal(size=7)
        yield odd

    for p in layouts():
        for grad in (np.array(rng.normal(size=p.shape), dtype), np.broadcast_to(dtype(0.5), p.shape)):
            whole = p if p.base is None else p.base
            rest = np.array(whole, copy=True)
            expected = p.copy()
            Reference(descend.Adam(lr=0.1), [expected]).step([np.array(grad)])
            mine = p.copy(order="K") if not p.flags.writeable else p
            Fused(descend.Adam(lr=0.1), [mine]).step([grad])
            assert same_bits(np.ascontiguousarray(mine), np.ascontiguousarray(expected))
            if isinstance(whole, np.ndarray) and whole.dtype == dtype and whole.size > p.size:
                untouched = np.ones(whole.shape, bool)
                untouched[::2, 1::3] = False
                assert same_bits(whole[untouched], rest[untouched])


def test_gradients_may_be_other_arrays_each_time():
    p, q = np.ones(3), np.ones(3)
    one, other = Fused(descend.GD(lr=0.5), [p]), Reference(descend.GD(lr=0.5), [q])
    for g in (np.ones(3), np.ones(6)[::2], np.ones(3, np.float32), np.full(3, 2.0)):
        one.step([g])
        other.step([g])
    assert same_bits(p, q)
    with pytest.raises(ParameterError, match="a gradient of shape"):
        one.step([np.ones(4)])
    with pytest.raises(ParameterError, match="2 gradients for 1"):
        one.step([np.ones(3), np.ones(3)])


def test_schedules_and_carried_numbers():
    """Numbers that change from step to step are written anew, and those that a rule carries go on."""
    for rule in (
        descend.Adam(lr=descend.schedules.Cosine(0.1, steps=20), betas=(lambda t: 0.5 + t / 100, 0.99)),
        descend.NAdam(),
        descend.ASGD(lr=0.1, t0=5.0),
    ):
        agree(rule, np.float64, steps=20)


def test_a_rule_of_ones_own_with_literals_and_helpers():
    """Whole numbers, powers and the user's own functions mean what they mean to NumPy, and stay in float32."""
    HALF = 0.5

    def blend(a, b, share):
        return share * a + (1 - share) * b

    class Blended(descend.Rule, register=False):
        lr: float = 0.1

        @staticmethod
        def update(p, g, mean, s):
            mean = blend(mean, g**2 + 2 * g, HALF)
            return p - s.lr * maths.clip(mean, -1, 1) / (1 + maths.absolute(mean) ** 0.5), mean

    agree(Blended(), np.float64)
    agree(Blended(), np.float32)
    code, _ = compiling.translate(
        Blended(), Blended().row(1), ("mean",), Layout("float32", "float32", ("float32",)), counting=False
    )
    assert not re.search(r" f(add|sub|mul|div)[^=]* double", code)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(r, id=n, marks=() if n in ("adam", "sgd", "rprop") else pytest.mark.slow)
        for n, r in SHIPPED.items()
    ],
)
def test_float32_kernels_compute_in_float32_and_in_vectors(rule):
    one = rule()
    layout = Layout("float32", "float32", ("float32",) * len(one.kept_state()))
    code, _ = compiling.translate(one, one.row(1), one.kept_state(), layout, counting=False)
    assert not re.search(r" f(add|sub|mul|div)[^=]* double", code)
    assert re.search(r"<\d+ x float>", code)
    assert "memcheck" not in code  # no test for overlap before the loop


def test_a_switch_of_the_step_is_a_number_to_a_kernel():
    """What `scalars` gives may be True at one step and False at the next; a flag of the rule never changes."""

    class Late(descend.Rule, register=False):
        lr: float = 0.1

        def scalars(self, t):
            return {"late": t > 3}

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g * (2.0 if s.late else 1.0)

    agree(Late(), np.float64)


# ---- large, small, none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=lambda rule: rule.name)
def test_wide_vectors_give_the_same_bits(rule):
    """A kernel for large steps differs from one for small steps in speed alone, wherever the vectors end."""
    one, rng = rule(), np.random.default_rng(4)
    start, g = (rng.normal(size=1037).astype(np.float32) for _ in range(2))
    layout = Layout("float32", "float32", ("float32",) * len(one.kept_state()))
    ends = []
    for wide in (False, True):
        kernel = kernels.kernel(one, layout, wide=wide)
        assert (kernel is not kernels.kernel(one, layout)) == (wide and native.has_wide_vectors())
        p, state = start.copy(), [np.full(1037, one.initial(name), np.float32) for name in one.kept_state()]
        launch = Launch(kernel, [p.size], [0])
        scalars = Scalars(one, memoryview(launch.scalars[0]), kernel.numbers)
        for k, array in enumerate((p, g, *state)):
            launch.point(k, [array.ctypes.data])
        carried = one.starting()
        for t in range(1, 6):
            carried = scalars.fill(t, carried)
            assert launch()
        ends.append([p, *state])
    assert all(map(same_bits, *ends))


# ---- the cache --------------------------------------------------------------------------------------------------


STEP = """
import sys, numpy as np, descend
p = np.ones(5)
descend.engines.Fused(descend.GD(lr=0.5), [p]).step([np.ones(5)])
assert p.tolist() == [0.5] * 5, p
print("made" if "numba" in sys.modules else "loaded")
"""


def test_a_kernel_is_made_once(tmp_path):
    """The second process loads it, without Numba, and says nothing; the first says what it waits for."""
    first = run(STEP, DESCEND_CACHE_DIR=str(tmp_path))
    assert first.stdout.split() == ["made"]
    assert first.stderr == "descend: compiling GD for float64; it takes a second or two, and is kept for later\n"
    second = run(STEP, DESCEND_CACHE_DIR=str(tmp_path))
    assert second.stdout.split() == ["loaded"]
    assert second.stderr == ""


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    run(STEP, DESCEND_CACHE_DIR=str(tmp_path))
    files = list(tmp_path.iterdir())
    assert len(files) == 2  # the kernel, and the code around it
    for file in files:
        whole = file.read_bytes()
        broken = {
            "cut": whole[: len(whole) // 2],
            "flip": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
            "empty": b"",
            "text": b"not a kernel",
        }[damage]
        file.write_bytes(broken)
    assert run(STEP, DESCEND_CACHE_DIR=str(tmp_path)).stdout.split() == ["made"]
    assert all(file.read_bytes()[: len(keeping.MAGIC)] == keeping.MAGIC for file in files)
    assert run(STEP, DESCEND_CACHE_DIR=str(tmp_path)).stdout.split() == ["loaded"]


def test_a_rule_that_changed_has_another_kernel(tmp_path):
    """Its formula, a function that it calls in another file, or a number there: no old kernel is taken."""
    rule = tmp_path / "mine.py"
    helper = tmp_path / "helper.py"
    code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    sys.dont_write_bytecode = True
    import numpy as np, descend, mine
    p = np.zeros(2)
    descend.engines.Fused(mine.Mine(lr=1.0), [p]).step([np.ones(2)])
    print(p[0], "made" if "numba" in sys.modules else "loaded")
    """

    def write(sign="-", factor=2.0, power=1, share=1.0):
        helper.write_text(
            f"FACTOR = {factor}\ndef scaled(g, share={share}):\n    return FACTOR * share * g ** {power}\n"
        )
        rule.write_text(
            "import descend\nfrom helper import scaled\n"
            "class Mine(descend.Rule):\n    lr: float = 0.1\n    @staticmethod\n    def update(p, g, s):\n"
            f"        return p {sign} s.lr * scaled(g + g)\n"
        )

    for chosen, expected in (
        ({}, "-4.0 made"),
        ({}, "-4.0 loaded"),
        ({"sign": "+"}, "4.0 made"),
        ({"factor": 3.0}, "-6.0 made"),
        ({"power": 2}, "-8.0 made"),
        ({"share": 0.5}, "-2.0 made"),
        ({}, "-4.0 loaded"),
    ):
        write(**chosen)
        assert run(code, DESCEND_CACHE_DIR=str(tmp_path / "kernels")).stdout.strip() == expected


def test_a_number_of_a_module_is_not_taken_from_an_old_kernel(tmp_path):
    """What a user's module holds is not part of a kernel's name, so a kernel that refers to one is made each time."""
    numbers = tmp_path / "numbers_of_mine.py"
    (tmp_path / "mine.py").write_text(
        "import descend, numbers_of_mine\n"
        "class Mine(descend.Rule):\n    lr: float = 0.1\n    @staticmethod\n    def update(p, g, s):\n"
        "        return p - s.lr * numbers_of_mine.FACTOR * g\n"
    )
    code = f"""
    import sys
    sys.path.insert(0, {str(tmp_path)!r})
    sys.dont_write_bytecode = True
    import numpy as np, descend, mine
    p = np.zeros(2)
    descend.engines.Fused(mine.Mine(lr=1.0), [p]).step([np.ones(2)])
    print(p[0])
    """
    for factor in (2.0, 3.0):
        numbers.write_text(f"FACTOR = {factor}\n")
        assert run(code, DESCEND_CACHE_DIR=str(tmp_path / "kernels")).stdout.strip() == str(-factor)


def test_two_processes_make_it_at_once(tmp_path):
    """Both are right, and what they leave is whole."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEP], stdout=subprocess.PIPE, env={**os.environ, "DESCEND_CACHE_DIR": str(tmp_path)}
        )
        for _ in range(2)
    ]
    assert all(process.communicate()[0].split() and process.returncode == 0 for process in processes)
    assert len(list(tmp_path.iterdir())) == 2
    assert run(STEP, DESCEND_CACHE_DIR=str(tmp_path)).stdout.split() == ["loaded"]


def test_a_process_that_is_killed_leaves_nothing_broken(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", STEP], stderr=subprocess.PIPE, env={**os.environ, "DESCEND_CACHE_DIR": str(tmp_path)}
    )
    process.stderr.readline()  # it is compiling
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert run(STEP, DESCEND_CACHE_DIR=str(tmp_path)).stdout.split() in (["made"], ["loaded"])


def test_a_folder_that_cannot_be_written(tmp_path):
    """The kernel is made each time; nothing is said of it but that it is made."""
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file" / "kernels", Path("/proc/kernels")):
        assert run(STEP, DESCEND_CACHE_DIR=str(where)).stdout.split() == ["made"]


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    """What is loaded from it would run."""
    tmp_path.chmod(0o777)
    done = run(STEP, DESCEND_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == ["made"]
    assert "others can write to it; chmod go-w" in done.stderr
    assert not list(tmp_path.iterdir())


def test_machine_code_that_is_switched_off():
    """Then the reference engine steps, nobody is told what was asked for, and llvmlite is never loaded."""
    done = run(
        """
        import sys, warnings, numpy as np, descend
        warnings.simplefilter("error")
        result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3), method="gd", max_steps=40_000)
        print(round(result.x, 6), "llvmlite" in sys.modules)
        """,
        DESCEND_MACHINE_CODE="0",
    )
    assert done.stdout.split() == ["3.0", "False"]


# ---- what cannot be compiled ------------------------------------------------------------------------------------


class Branching(descend.Rule, register=False):
    """A rule that asks an array a question."""

    lr: float = 0.1

    @staticmethod
    def update(p, g, s):
        return p - s.lr * g if g > 0 else p


class Printing(descend.Rule, register=False):
    """A rule that runs on arrays and cannot be compiled."""

    lr: float = 0.1

    @staticmethod
    def update(p, g, s):
        return p - s.lr * np.asarray(g).astype(f"f{np.asarray(g).itemsize}")


def test_a_branch_on_an_array_is_refused():
    """As a single number it would compile, and mean something else."""
    with pytest.raises(RuleError, match=r"Branching.update branches on an array .*where, maximum or minimum"):
        Fused(Branching(), [np.ones(3)])


def test_what_numba_cannot_compile_is_stepped_by_numpy():
    with pytest.raises(Unavailable, match=r"Numba cannot compile Printing.update"):
        Fused(Printing(), [np.ones(3)])
    with pytest.warns(RuntimeWarning, match="Printing steps by NumPy: Numba cannot compile"):
        assert type(engine(Printing(), [np.ones(3)], steps=10**6)) is Reference


def test_the_choice_depends_on_size_and_steps_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(engine(descend.GD(), [np.ones(2)], steps=100)) is Reference
        assert type(engine(descend.GD(), [np.ones(2)], steps=10**6)) is Fused
        assert type(engine(descend.GD(), [np.ones(10**6)], steps=1000)) is Fused
        assert type(engine(descend.GD(), [np.ones(2)])) is Reference
        assert choice.UNKNOWN * choice.STEP < choice.PAYS


def test_minimize_and_fit_give_the_same_bits_by_either_engine(monkeypatch):
    """A descent that is long enough for machine code, and the same one by NumPy."""
    problem = descend.problems.load("digits")
    ends = []
    for pays in (0.0, float("inf")):
        monkeypatch.setattr(choice, "PAYS", pays)
        fitted = descend.fit(problem, descend.Adam(lr=0.01, cautious=True), epochs=2, progress=False)
        found = descend.minimize(
            lambda x: float(np.sum((x - 3) ** 2)),
            np.zeros(5),
            jac=lambda x: 2 * (x - 3),
            method=descend.NAdam(lr=0.1),
            max_steps=200,
        )
        ends.append(
            [*(np.asarray(v).tobytes() for v in fitted.x.values()), found.x.tobytes(), found.history.loss.tobytes()]
        )
    assert ends[0] == ends[1]
