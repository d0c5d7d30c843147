"""`descend find-lr`: the answer, the picture and the JSON, and errors in one line."""

import json

import pytest

import descend


def test_command(run, tmp_path):
    """Answer, picture and JSON; the same figures everywhere."""
    status, out, err = run("find-lr", "booth", "--rule", "gd", "--json")
    assert status == 0, err
    found = json.loads(out)
    direct = descend.find_lr(descend.problems.load("booth"), "gd").to_dict()
    assert {k: found[k] for k in direct if k != "seconds"} == {k: v for k, v in direct.items() if k != "seconds"}
    assert found["answer"] in " ".join(err.split())
    assert json.loads((tmp_path / found["table"]).read_text(encoding="utf-8"))["answer"] == found["answer"]
    page = (tmp_path / found["picture"]).read_text(encoding="utf-8")
    assert "median of seeds" in page
    assert "http://" not in page.partition("<body>")[0]
    status, out, _ = run("find-lr", "booth", "--rule", "gd", "--out", "there", width=80)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert (tmp_path / "there" / "find-lr-gd.html").exists()


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["nowhere"], 2, "unknown problem 'nowhere'"),
        (["booth", "--rule", "adamm"], 2, "unknown rule"),
        (["booth", "--low", "-1"], 2, "low=-1.0"),
        (["booth", "--batch-size", "x"], 2, "--batch-size x"),
    ],
)
def test_command_errors(run, args, status, says):
    """What was wrong, in one line, and no traceback."""
    done = run("find-lr", *args)
    assert done[0] == status
    assert says in done[2]
    assert len(done[2].splitlines()) == 1


def test_command_cannot_write(run, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "taken").write_text("a file")
    status, _, err = run("find-lr", "booth", "--out", "taken")
    assert status == 2
    assert "out='taken' cannot be written" in err
