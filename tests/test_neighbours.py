"""What a file imports of the user's own, read and not run."""

import ast
import sys
from pathlib import Path

import numpy as np

import descend
from descend.neighbours import imported_files, is_own

FILES = {
    "main_of_all.py": "import numpy, descend, os.path\nimport near_one\nfrom pack_here import inner\n"
    "def later():\n    import late_one, pack_here.deep.leaf\n"
    "import importlib\nlate = importlib.import_module('by_name')\n",
    "near_one.py": "import far_one\nimport main_of_all\n",
    "far_one.py": "x = 1\n",
    "late_one.py": "raise RuntimeError('imported')\n",
    "by_name.py": "",
    "unused_one.py": "",
    "pack_here/__init__.py": "from .beside import *\n",
    "pack_here/inner.py": "from . import another\nfrom .deep import leaf\n",
    "pack_here/another.py": "",
    "pack_here/beside.py": "from pack_here import another\n",
    "pack_here/unused.py": "",
    "pack_here/deep/__init__.py": "",
    "pack_here/deep/leaf.py": "from .. import rooted\nfrom ..another import x\n",
    "pack_here/rooted.py": "this is no python",
}


def test_imports_are_followed_to_their_end(tmp_path, monkeypatch):
    """Neighbours, packages, relative names, imports in functions: each file once, none of them run."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = imported_files(tmp_path / "main_of_all.py")
    names = {str(path.relative_to(tmp_path)) for path in found.values()}
    assert names == FILES.keys() - {"unused_one.py", "pack_here/unused.py"}
    assert found["pack_here.deep.leaf"] == tmp_path / "pack_here/deep/leaf.py"
    assert not {"late_one", "near_one", "pack_here"} & sys.modules.keys()


def test_a_file_that_is_none_imports_nothing(tmp_path):
    """Missing, not Python, with zeros in it."""
    assert imported_files(tmp_path / "missing.py") == {}
    for text in (b"import ", b"\x00", b"\xff\xfe", b"import nothing_of_that_name, a.b.c\nfrom ... import x\n"):
        (tmp_path / "odd.py").write_bytes(text)
        assert imported_files(tmp_path / "odd.py") == {}


def test_what_is_installed_is_not_ones_own(tmp_path):
    """Python's files, those of installed packages, descend's."""
    assert [is_own(Path(module.__file__)) for module in (ast, np, descend)] == [False, False, False]
    assert is_own(tmp_path / "mine.py")
