"""`descend find-lr`: the answer, the picture and the JSON, and errors in one line."""

import json

import pytest
from tests.cli.commands import descend as command

import descend


def test_command(tmp_path):
    """Answer, picture and JSON; the same figures everywhere."""
    done = command("find-lr", "booth", "--rule", "gd", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    direct = descend.find_lr(descend.problems.load("booth"), "gd").to_dict()
    assert {k: found[k] for k in direct if k != "seconds"} == {k: v for k, v in direct.items() if k != "seconds"}
    assert found["answer"] in " ".join(done.stderr.split())
    assert json.loads((tmp_path / found["table"]).read_text(encoding="utf-8"))["answer"] == found["answer"]
    page = (tmp_path / found["picture"]).read_text(encoding="utf-8")
    assert "median of seeds" in page
    assert "http://" not in page.partition("<body>")[0]
    narrow = command("find-lr", "booth", "--rule", "gd", "--out", "there", cwd=tmp_path, width=80)
    assert narrow.returncode == 0
    assert max(map(len, narrow.stdout.splitlines())) <= 80
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
def test_command_errors(tmp_path, args, status, says):
    done = command("find-lr", *args, cwd=tmp_path)
    assert done.returncode == status
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_command_cannot_write(tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = command("find-lr", "booth", "--out", "taken", cwd=tmp_path)
    assert done.returncode == 2
    assert "out='taken' cannot be written" in done.stderr
