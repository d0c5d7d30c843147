"""Machine code that cannot be had: why is asked in one place, said once, and every engine goes on without."""

import warnings

import pytest
from tests.processes import run

from descend.engines.native import availability, formats
from descend.engines.native.formats import Layout

LONG = """
import sys, warnings, numpy as np, descend
{before}
for _ in range(2):
    result = descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3), method="gd", max_steps=40_000)
print(round(result.x, 6), "llvmlite.binding" in sys.modules)
"""


@pytest.mark.slow
def test_the_switch():
    """Nobody is told what they asked for, and llvmlite is never loaded; PyTorch's tensors are stepped, too."""
    more = """
p = torch.nn.Parameter(torch.ones(3))
p.grad = torch.ones(3)
descend.optim.SGD([p], lr=0.5).step()
print(p.tolist(), "llvmlite" in sys.modules)
"""
    code = LONG.format(before='import torch; warnings.simplefilter("error")') + more
    assert run(code, DESCEND_MACHINE_CODE="0").stdout.split("\n")[:2] == ["3.0 False", "[0.5, 0.5, 0.5] False"]


def test_the_switch_is_read_when_somebody_asks(monkeypatch):
    monkeypatch.setenv("DESCEND_MACHINE_CODE", "0")
    assert availability.why_not() == "DESCEND_MACHINE_CODE=0 switches machine code off"
    assert availability.switched_off()
    monkeypatch.setenv("DESCEND_MACHINE_CODE", "1")
    assert not availability.switched_off()


@pytest.mark.parametrize(
    "broken",
    [
        'raise ImportError("No module named llvmlite")',
        'raise OSError("libLLVM: wrong ELF class")',
        'raise RuntimeError("damaged")',
        "",  # an older version, which lacks what is called
    ],
    ids=["missing", "unloadable", "damaged", "old"],
)
def test_llvmlite_that_is_missing_or_broken(broken, tmp_path):
    """The reference engine steps, and one warning says why, in one sentence."""
    package = tmp_path / "llvmlite"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "binding.py").write_text(broken)
    done = run(
        LONG.format(before='warnings.simplefilter("always")'),
        PYTHONPATH=f"{tmp_path}:{_path()}",
        DESCEND_MACHINE_CODE="1",
    )
    assert done.stdout.split()[0] == "3.0"
    assert done.stderr.count("GD steps by NumPy: llvmlite cannot be used") == 1


def _path():
    import pathlib

    import descend

    return pathlib.Path(descend.__file__).parents[1]


def test_an_import_of_descend_loads_no_llvmlite():
    done = run("import sys, descend, descend.engines; print([m for m in sys.modules if m.startswith('llvmlite')])")
    assert done.stdout.strip() == "[]"


def test_a_warning_is_given_once(monkeypatch):
    monkeypatch.setattr(availability, "_SAID", set())
    monkeypatch.delenv("DESCEND_MACHINE_CODE", raising=False)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for message in ("one", "two", "one"):
            availability.warn_once(message, stacklevel=1)
    assert [str(w.message) for w in given] == ["one", "two"]
    assert given[0].filename == __file__


@pytest.mark.machine_code
def test_a_processor_without_float16(monkeypatch):
    monkeypatch.setattr(formats, "half_in_hardware", lambda features: False)
    availability._has_float16.cache_clear()
    try:
        assert availability.why_not(Layout("float16", "float16", ())) == "this processor has no float16"
        assert availability.why_not(Layout("float32", "float32", ())) is None
    finally:
        availability._has_float16.cache_clear()
