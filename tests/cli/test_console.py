"""The names of folders, where none is given."""

from pathlib import Path

import pytest

from descend.cli.console import default_folder


@pytest.mark.parametrize(
    ("problem", "folder"),
    [
        ("digits", "descend-digits"),
        ("p.py", "descend-p"),
        ("./p.py", "descend-p"),
        ("{here}/p.py", "descend-p"),
        ("a/p.py", "descend-a-p"),
        ("a/b/p.py", "descend-a-b-p"),
        ("../a/p.py", "descend-a-p"),
        ("/data/of mine/p.py", "descend-data-of-mine-p"),
        ("quadratic:condition=10", "descend-quadratic-condition=10"),
        ("quadratic:condition=20, dimension=5", "descend-quadratic-condition=20-dimension=5"),
    ],
)
def test_other_files_and_other_settings_have_other_folders(tmp_path, monkeypatch, problem, folder):
    """Two files of one stem, one built-in problem with two settings: no report takes another's place."""
    monkeypatch.chdir(tmp_path)
    assert default_folder(problem.format(here=tmp_path)) == Path(folder)
