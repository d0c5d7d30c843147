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


def test_a_problem_that_exits_is_wrong_usage(run, tmp_path):
    """What calls sys.exit in its loss does not choose the command's exit status."""
    (tmp_path / "leaves.py").write_text(
        "import descend, sys\nproblem = descend.Problem(lambda rng: 1.0, lambda x: sys.exit(0), lambda x: 2 * x)\n"
    )
    status, out, err = run("find-lr", "leaves.py", "--rule", "gd", "--jobs", "1")
    assert (status, out) == (2, "")
    assert err == "descend: the problem called sys.exit(0)\n"


def test_the_work_is_announced_and_bounded(run):
    """What will be done is told first, on standard error; --budget and --jobs are the options of `find_lr`."""
    options = ["--rule", "gd", "--seeds", "2", "--steps", "20", "--trial-steps", "10"]
    status, out, err = run("find-lr", "booth", *options, "--budget", "100", "--jobs", "1")
    assert status == 0, err
    assert "Looking for a learning rate of GD on booth: 2 seeds" in err
    assert "up to 3 descents of 10; 100 gradients at most" in " ".join(err.split())
    assert out.startswith("On booth, ")
    assert run("find-lr", "booth", *options, "--budget", "10")[2].startswith("descend: budget=10: 2 seeds, each with a")


def test_command_cannot_write(run, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "taken").write_text("a file")
    status, _, err = run("find-lr", "booth", "--out", "taken")
    assert status == 2
    assert "out='taken' cannot be written" in err
