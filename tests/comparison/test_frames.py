"""The figures of a comparison as frames and files."""

import pytest
from tests.comparison.comparing import SMALL, line

import descend
from descend.errors import ComparisonError, OptionError


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
    with pytest.raises(ComparisonError, match="cannot be written"):
        found.export(tmp_path / "taken.csv")


@pytest.mark.slow
def test_parquet(tmp_path):
    """The frame from a Parquet file is the frame."""
    pytest.importorskip("pyarrow")
    import pandas

    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    pandas.testing.assert_frame_equal(pandas.read_parquet(found.export(tmp_path / "runs.parquet")), found.frame())
