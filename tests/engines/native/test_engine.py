"""The fused engine: bit for bit the reference engine, in every layout, with gradients that change."""

import itertools

import numpy as np
import pytest

import descend
from descend.engines import Fused, Reference
from descend.errors import ParameterError

SHAPES = ((3,), (), (40_000,), (0,), (5, 7))

pytestmark = pytest.mark.machine_code


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
