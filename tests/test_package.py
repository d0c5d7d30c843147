"""The package as it is installed: what an import loads, what is public, what the wheel holds."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.processes import run

import descend

HEAVY = [
    *("torch", "jax", "optax", "llvmlite", "numba", "scipy", "sklearn", "pandas", "plotly", "sqlite3", "rich"),
    *("click", "filelock", "loky", "joblib", "jinja2", "cloudpickle"),
]  # fmt: skip
GONE = {"numba", "scikit-learn", "joblib", "pydantic"}
"""Packages that installing descend does not bring: each is large, or brings much along."""


def loaded_by(statement):
    """Which heavy packages a fresh interpreter has loaded after a statement."""
    script = f"import sys, json\n{statement}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    return json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def test_importing_descend_loads_nothing_heavy():
    """No torch, JAX, plotting, statistics or database until something needs them."""
    assert loaded_by("import descend") == []


def test_minimising_loads_nothing_heavy():
    """A descent with a gradient at hand needs NumPy alone, by a rule and by L-BFGS."""
    call = "descend.minimize(lambda x: x ** 2, 1.0, jac=lambda x: 2 * x, max_steps=3, method={!r})"
    assert loaded_by(f"import descend; {call.format('gd')}; {call.format('lbfgs')}") == []


def test_the_public_face_is_what_all_says():
    """Every name in __all__ is there and documented; nothing else without an underscore is offered but modules."""
    for name in descend.__all__:
        assert getattr(descend, name).__doc__, name
    assert set(descend.__all__) <= set(dir(descend))
    with pytest.raises(AttributeError, match="no attribute 'adamm'"):
        _ = descend.adamm


def test_torch_missing_is_said_in_one_line():
    """TorchProblem without torch names the extra to install; everything else works."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import descend\n"
        "try: descend.TorchProblem\n"
        "except descend.errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "TorchProblem needs torch, which is not installed: pip install 'descend[torch]'\n"


@pytest.mark.slow
def test_nothing_is_written():
    """With no home to write to and whatever caches are not there, descents and optimizers open no file for writing."""
    code = """
        import os, sys, warnings
        warnings.simplefilter("error")
        sys.dont_write_bytecode = True
        import numpy as np, torch, scipy.optimize
        torch.optim.Adam([torch.zeros(1)])  # PyTorch's own first optimizer makes folders
        written = []
        def note(event, arguments):
            if event == "open" and isinstance(arguments[0], (str, bytes)) and os.fsdecode(arguments[0]) != os.devnull:
                mode, flags = str(arguments[1]), arguments[2] or 0
                if set(mode) & set("wxa+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    written.append(arguments[0])
            elif event in ("os.mkdir", "os.rename", "shutil.copyfile"):
                written.append((event, *arguments))
        sys.addaudithook(note)
        import descend
        assert descend.minimize(lambda x: np.sum((x - 1) ** 2), [3, 4]).success
        descend.minimize(lambda x: np.sum((x - 1) ** 2), [3, 4], method="adam", max_steps=3)
        model = torch.nn.Linear(3, 1)
        optimizer = descend.optim.Adam(model.parameters())
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        print(written)
    """
    nowhere = os.path.join(os.sep, "nonexistent")
    assert run(code, HOME=nowhere, XDG_CACHE_HOME=nowhere, XDG_CONFIG_HOME=nowhere).stdout == "[]\n"


@pytest.mark.slow
def test_the_wheel_works_alone(tmp_path):
    """Built, installed with its dependencies into an empty environment, run from elsewhere: the job and its report."""

    def run(*command):
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, Path(__file__).parents[1])
    venv.create(tmp_path / "env", with_pip=True)
    python, command = (tmp_path / "env" / "bin" / name for name in ("python", "descend"))
    (wheel,) = tmp_path.glob("descend-*.whl")
    run(python, "-m", "pip", "install", "-q", wheel)
    assert "GD" in run(command, "compare", "booth", "--rules", "gd", "--lr", "0.1", "--budget", "20")
    assert (tmp_path / "descend-booth" / "report.html").stat().st_size > 100_000
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    assert {package["name"].lower() for package in listed} & GONE == set()
    typed = "import descend, pathlib; print((pathlib.Path(descend.__file__).parent / 'py.typed').exists())"
    assert run(python, "-c", typed) == "True\n"
    shipped = "from descend.problems.datasets import *; print(*(len(load_arrays(name)[1]) for name in DATA_SETS))"
    assert run(python, "-c", shipped) == "1797 569 442\n"
