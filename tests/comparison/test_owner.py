"""Whose report lies in a folder: no problem's takes the place of another's."""

import shutil

import pytest
from tests.comparison.comparing import SMALL, line

import descend
from descend.errors import ComparisonError

OPTIONS = {**SMALL, "learning_rates": [0.1], "budget": 5, "tuning_seeds": 1}
TEXT = "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"


def made(folder):
    """A problem's file, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "same_stem.py"
    path.write_text(TEXT)
    return path


def test_two_files_of_one_stem_do_not_share_a_folder(tmp_path):
    """The first report stays; the same file may have it made anew, by whatever path."""
    first, other, out = made(tmp_path / "a"), made(tmp_path / "b"), tmp_path / "o"
    descend.compare(first, ["gd"], **OPTIONS, out=out)
    report = (out / "report.html").read_bytes()
    with pytest.raises(
        ComparisonError, match=r"has the report of another problem, '\.\./a/same_stem\.py', whose place"
    ):
        descend.compare(other, ["gd"], **OPTIONS, out=out)
    assert (out / "report.html").read_bytes() == report
    assert descend.compare(tmp_path / "b" / ".." / "a" / "same_stem.py", ["gd"], **OPTIONS, out=out).reused == 7
    (out / "report.html").unlink()
    (out / "comparison.json").unlink()
    descend.compare(other, ["gd"], **OPTIONS, out=out)


def test_moved_or_copied_together_a_file_finds_its_report(tmp_path):
    """The whole folder moved, copied, or the file alone moved."""
    path = made(tmp_path / "a")
    descend.compare(path, ["gd"], **OPTIONS, out=tmp_path / "a" / "o")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert descend.compare(tmp_path / "copy" / path.name, ["gd"], **OPTIONS, out=tmp_path / "copy" / "o").reused == 7
    (tmp_path / "a").rename(tmp_path / "moved")
    assert descend.compare(tmp_path / "moved" / path.name, ["gd"], **OPTIONS, out=tmp_path / "moved" / "o").reused == 7
    alone = (tmp_path / "moved" / path.name).rename(tmp_path / "alone.py")
    descend.compare(alone, ["gd"], **OPTIONS, out=tmp_path / "moved" / "o")


def test_settings_and_names_tell_problems_apart(tmp_path):
    """A built-in problem with other settings; a problem of Python by its name."""
    descend.compare("quadratic:condition=10,dimension=3", ["gd"], **OPTIONS, out=tmp_path / "o")
    descend.compare("quadratic:condition=10, dimension=3", ["gd"], **OPTIONS, out=tmp_path / "o")
    with pytest.raises(ComparisonError, match="report of another problem, 'quadratic:condition=10,dimension=3'"):
        descend.compare("quadratic:condition=20,dimension=3", ["gd"], **OPTIONS, out=tmp_path / "o")
    options = {**OPTIONS, "budget": 240}
    descend.compare(line(), ["gd"], **options, out=tmp_path / "p")
    descend.compare(line(), ["gd"], **options, out=tmp_path / "p")
    with pytest.raises(ComparisonError, match="report of another problem, 'line'"):
        descend.compare(line(name="other"), ["gd"], **options, out=tmp_path / "p")


def test_a_link_in_place_of_a_problems_folder_is_not_followed(tmp_path):
    """Several problems in a folder from a stranger."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "booth").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ComparisonError, match="booth is a link to another folder, and is not written to"):
        descend.compare_all(["booth", "beale"], ["gd"], **OPTIONS, out=tmp_path / "o")
    assert list((tmp_path / "elsewhere").iterdir()) == []
