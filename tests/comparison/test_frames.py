"""The figures of a comparison as frames and files."""

import csv
import dataclasses
import importlib.util
import json
import sys

import pytest
from tests.comparison.comparing import SMALL, line

import descend
from descend.comparison.reporting.exports import exportable
from descend.errors import MissingExtra, OptionError


def test_frames_and_files(tmp_path):
    """Every run, every look and the table as frames; the same from files."""
    pandas = pytest.importorskip("pandas")
    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    runs = found.frame()
    assert len(runs) == len(found.runs)
    assert runs.groupby("label")["test"].median().to_dict() == pytest.approx(
        {r.label: r.test.median for r in found.rows}
    )
    curves = found.frame("curves")
    assert len(curves) == sum(len(run.curve) for run in found.runs)
    assert set(curves.columns) >= {"label", "seed", "examples", "loss", "metric"}
    assert found.frame("rows")["test_median"].tolist() == [row.test.median for row in found.rows]
    readers = {".csv": pandas.read_csv, ".json": pandas.read_json}
    for suffix, read in readers.items():
        back = read(found.export(tmp_path / f"runs{suffix}"))
        assert back["validation"].tolist() == pytest.approx(runs["validation"].tolist())
    with pytest.raises(OptionError, match=r"must end in \.csv, \.json, \.parquet"):
        found.export(tmp_path / "runs.xls")
    with pytest.raises(OptionError, match="what='nothing'"):
        found.frame("nothing")
    with pytest.raises(OptionError, match=r"there is no folder .*nowhere'; make it, or choose another"):
        found.export(tmp_path / "nowhere" / "runs.csv")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(OptionError, match="is a folder"):
        found.export(tmp_path / "taken.csv")


@pytest.mark.slow
def test_parquet(tmp_path):
    """The frame from a Parquet file is the frame."""
    pytest.importorskip("pyarrow")
    import pandas

    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    pandas.testing.assert_frame_equal(pandas.read_parquet(found.export(tmp_path / "runs.parquet")), found.frame())


def test_files_need_no_pandas(tmp_path, monkeypatch):
    """CSV and JSON are written without it, every figure to the last bit; a frame and Parquet say what they need."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    suite = descend.compare_all([line(), "booth"], ["gd", "adam"], **SMALL)
    for found in (suite, suite.comparisons[0]):
        runs = [run for c in suite.comparisons for run in c.runs] if found is suite else found.runs
        as_json = json.loads(found.export(tmp_path / "runs.json").read_text(encoding="utf-8"))
        with found.export(tmp_path / "runs.CSV").open(encoding="utf-8", newline="") as file:
            as_csv = list(csv.DictReader(file))
        for rows in (as_json, as_csv):
            assert [float(row["validation"]) for row in rows] == [run.validation for run in runs]
            assert [float(row["lr"]) for row in rows] == [run.learning_rate for run in runs]
        assert list(as_json[0]) == list(as_csv[0])
        assert {row["phase"] for row in as_csv} == {"tuning", "final"}
        assert {row["test"] for row in as_csv if row["phase"] == "tuning"} == {""}
        with pytest.raises(MissingExtra, match="pandas"):
            found.frame()
        with pytest.raises(MissingExtra, match=r"A \.parquet file needs pandas"):
            found.export(tmp_path / "runs.parquet")


def test_no_text_of_a_csv_file_is_a_formula(tmp_path):
    """What a spreadsheet would carry out begins with an apostrophe; numbers keep their signs, and JSON every text."""
    labels = ["=1+1", "+1+cmd", "-2+3", "@SUM(A1)", '=HYPERLINK("x")', "-0.5", "plain", "a\tb", "\x1b[31m"]
    entries = [descend.Entry(label, descend.GD()) for label in labels]
    found = descend.compare(
        descend.Problem(lambda rng: rng.normal(), lambda x: -1 - x * x, lambda x: -2 * x, name="@fall"), entries,
        **{**SMALL, "budget": 10, "tuning_seeds": 1},
    )  # fmt: skip
    with descend.comparison.Suite((found,)).export(tmp_path / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spelled = {row["label"] for row in rows}
    assert spelled == {
        "'=1+1", "'+1+cmd", "'-2+3", "'@SUM(A1)", "'=HYPERLINK(\"x\")", "-0.5", "plain", "a b", r"\x1b[31m",
    }  # fmt: skip
    assert {row["problem"] for row in rows} == {"'@fall"}
    assert all(float(row["validation"]) < -1 for row in rows)
    assert {row["label"] for row in json.loads(found.export(tmp_path / "runs.json").read_text())} >= {
        "=1+1",
        "@SUM(A1)",
    }


def test_the_table_is_what_pandas_makes_of_it():
    """A column for each figure, whose name says where in the row it stands."""
    pandas = pytest.importorskip("pandas")
    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    nested = pandas.json_normalize([dataclasses.asdict(row) for row in found.rows], sep="_")
    pandas.testing.assert_frame_equal(found.frame("rows"), nested, check_like=True)


def test_an_export_that_cannot_be_is_refused_first(tmp_path, monkeypatch):
    """A folder, a folder that is not there, a file that is read-only, a package that is missing: no run is made."""
    (tmp_path / "taken.csv").mkdir()
    for path, match in (
        (tmp_path / "taken.csv", "is a folder; give the name of a file"),
        (tmp_path / "none" / "runs.csv", "there is no folder"),
        ("/proc/version.csv", "cannot be written"),
        ("runs", r"must end in \.csv, \.json, \.parquet"),
        ("", "the path of a file is needed"),
    ):
        with pytest.raises(OptionError, match=match):
            exportable(path)
    assert exportable(tmp_path / "new" / "runs.csv", coming=tmp_path / "new") == tmp_path / "new" / "runs.csv"
    (tmp_path / "old.csv").write_text("kept")
    exportable(tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert {p.name for p in tmp_path.iterdir()} == {"taken.csv", "old.csv"}


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_link_in_place_of_an_export_is_replaced(booth, tmp_path, ending):
    """In a folder from a stranger, it may lead anywhere."""
    (tmp_path / "letter").write_text("to a friend")
    (tmp_path / f"runs.{ending}").symlink_to(tmp_path / "letter")
    booth.export(tmp_path / f"runs.{ending}")
    assert (tmp_path / "letter").read_text() == "to a friend"
    assert "GD" in (tmp_path / f"runs.{ending}").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"letter", f"runs.{ending}"}
