"""Wrong usage, and surroundings that are not as they should be: a status, and a reason in one line."""

import os
import subprocess
import sys

import pytest
from tests.cli.commands import command, descend

RAISES = "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: 1 / 0)\n"
LENGTHS = """import descend, numpy as np
data = np.ones(5), np.ones(4)
problem = descend.Problem(lambda rng: 0.0, lambda x, X, y: 0.0, data=data)
"""


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["compare"], 2, "Missing argument"),
        (["compare", "dgits"], 2, "unknown problem 'dgits': did you mean 'digits'?"),
        (["compare", "nowhere.py"], 2, "'nowhere.py' does not exist"),
        (["compare", "raises.py"], 2, "raises: fun raised ZeroDivisionError: division by zero"),
        (["compare", "lengths.py"], 2, "different lengths: 5, 4"),
        (["compare", "empty.py"], 2, "defines no 'problem'"),
        (["compare", "import.py"], 2, "failed at line 1: ModuleNotFoundError"),
        (["compare", "booth", "--rules", "adm"], 2, "unknown rule 'adm': did you mean 'adam'?"),
        (["compare", "booth", "--lr", "0.1,fast"], 2, "'fast' is not a number"),
        (["compare", "booth", "--lr=-1"], 2, "-1.0 is not a number > 0"),
        (["compare", "booth", "--budget", "0"], 2, "budget=0"),
        (["compare", "booth", "--budget", "many"], 2, "--budget"),
        (["compare", "booth", "--jobs", "0"], 2, "jobs=0"),
        (["compare", "booth", "--jobs", "2", "--dask", "tcp://x:1"], 2, "a cluster has its own workers"),
        (["compare", "booth", "--rules", "adma"], 2, "unknown rule 'adma': did you mean 'adam'?"),
        (["compare", "booth", "--techniques", "adma"], 2, "No such option '--techniques'. Did you mean '--rules'?"),
        (["compare", "booth", "--rulse", "adam"], 2, "No such option '--rulse'. Did you mean '--rules'?"),
        (["find-lr", "booth", "--optimizer", "adam"], 2, "No such option '--optimizer'. Did you mean '--rule'?"),
        (["problems", "quadratic:conditon=3"], 2, "unknown setting 'conditon'; did you mean 'condition'?"),
        (["completion", "bsh"], 2, "Did you mean 'bash'?"),
        (["compare", "booth", "--export", "."], 2, "must end in .csv, .json, .parquet"),
        (["compare", "booth", "--export", "folder.csv"], 2, "is a folder; give the name of a file"),
        (["compare", "booth", "--quick", "--thorough"], 2, "--quick and --thorough"),
        (["compare", "booth", "--export", "runs.xls"], 2, "must end in .csv, .json, .parquet"),
        (["compare", "booth", "--export", "nowhere/runs.csv"], 2, "there is no folder 'nowhere'"),
        (["compare", "booth", "--lr", "0.1", "--tune", "lr=0.01..1:log"], 2, "--lr 0.1 and --tune lr="),
        (["compare", "booth", "--lr", "0.1", "--trials", "3"], 2, "--trials 3 and --lr 0.1: each learning rate is a"),
        (["compare", "booth", "--tune", "momentum"], 2, "--tune momentum: give a name and where to search"),
        (["compare", "booth", "--tune", "momentum="], 2, "--tune momentum=: give a name and where to search"),
        (["compare", "booth", "--tune", "momentum=,"], 2, "--tune momentum=,: give a name and where to search"),
        (["compare", "booth", "--tune", "=0.5..0.9"], 2, "--tune =0.5..0.9: give a name and where to search"),
        (["compare", "booth", "--tune", "momentm=0.5..0.9"], 2, "'momentm'; did you mean 'momentum'?"),
        (["compare", "booth", "--tune", "momentum=0.9..0.9"], 2, "--tune momentum=0.9..0.9: Uniform(0.9, 0.9)"),
        (["compare", "booth", "--tune", "momentum=0.9..0.5"], 2, "the lower end comes first"),
        (["compare", "booth", "--tune", "momentum=a..b"], 2, "the ends of a range are numbers"),
        (["compare", "booth", "--tune", "momentum=0.5..nan"], 2, "nan is not a finite number"),
        (["compare", "booth", "--tune", "momentum=0.5..0.9:lin"], 2, "a range may end in :log, not in :lin"),
        (["compare", "booth", "--tune", "momentum=0.9,fast"], 2, "momentum='fast'"),
        (["compare", "booth", "--tune", "momentum=0.9", "--tune", "momentum=0.8"], 2, "momentum is searched for once"),
        (["compare", "booth", "--tune", "batch_size=16..64"], 2, "batch sizes are listed, such as"),
        (["compare", "digits", "--tune", "batch_size=16..64"], 2, "batch sizes are listed, such as"),
        (["compare", "digits", "--tune", "batch_size=16,9999"], 2, "batch_size=9999 is larger"),
        (["compare", "booth", "--tune", "lr=0..1:log"], 2, "--tune lr=0..1:log: LogUniform(0.0, 1.0): 0.0 is not"),
        (["compare", "booth", "--tune", "lr=-1..1"], 2, "lr must be a finite number"),
        (["compare", "booth", "--trials", "0"], 2, "trials=0"),
        (["compare", "booth", "--studies", "0"], 2, "studies=0"),
        (["compare", "booth", "--target", "abc"], 2, "target='abc': a value of the validation metric is needed"),
        (["compare", "booth", "--target", "nan"], 2, "target=nan"),
        (["compare", "booth", "dgits", "beale"], 2, "unknown problem 'dgits': did you mean 'digits'?"),
        (["compare", "booth", "beale", "booth"], 2, "two problems are called 'booth'"),
        (["compare", "booth", "twin.py"], 2, "two problems are called 'booth'"),
        (["compare", "booth", "beale", "--rules", ""], 2, "names nothing to compare"),
        (["compare", "booth", "beale", "--out", "/proc/nothing"], 2, "cannot be written"),
        (["compare", "booth", "--out", "twin.py"], 2, "cannot be written"),
        (["compare", "booth", "beale", "--quick", "--thorough"], 2, "--quick and --thorough"),
        (["compare", "booth", "--colour"], 2, "--colour"),
        (["compare", "digits", "--batch-size", "9999"], 2, "larger than the training data"),
        (["compare", "digits", "--batch-size", "some"], 2, "--batch-size some"),
        (["compare", "booth", "--out", "/proc/nothing"], 2, "cannot be written"),
        (["compare", "nan.py", "--jobs", "1"], 1, "every run failed on nan"),
        (["rules", "adm"], 2, "did you mean 'adam'?"),
        (["problems", "dgits"], 2, "did you mean 'digits'?"),
        (["comapre"], 2, "No such command 'comapre'. Did you mean 'compare'?"),
        (["rules", "--jsn"], 2, "--json"),
        (["completion", "tcsh"], 2, "tcsh"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_usage_is_one_line_and_a_status(args, status, words, run, tmp_path):
    """What was wrong and its value on standard error, in one line; nothing on standard output; no traceback."""
    (tmp_path / "raises.py").write_text(RAISES)
    (tmp_path / "lengths.py").write_text(LENGTHS)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "twin.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x, name='booth')\n"
    )
    (tmp_path / "import.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "nan.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: float('nan'), lambda x: 0.0)\n"
    )
    done = run(*args)
    assert done[0] == status
    check_one_line(*done, words)


def check_one_line(status, out, err, words):
    """One line on standard error with the words; nothing on standard output if it was the usage that was wrong."""
    assert words in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("descend: ")]) == 1
    if status == 2:
        assert len(err.splitlines()) == 1
        assert out == ""


@pytest.mark.parametrize("args", [["compare", "dgits"], ["comapre"]])
def test_a_real_process_says_the_same(args):
    """Status, streams and words of the installed command."""
    done = descend(*args)
    check_one_line(done.returncode, done.stdout, done.stderr, "id you mean")
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "reader"), [("rules --json", "head -c 1"), ("rules", "true"), ("--help", "true")]
)
def test_a_reader_that_goes_away_is_no_failure(arguments, reader):
    """`descend rules | true` ends quietly, with status 0, whatever prints."""
    done = subprocess.run(
        f"{sys.executable} -m descend.cli {arguments} | {reader}; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("encoding", "args"),
    [("ascii", ["rules", "adam"]), ("latin-1", ["problems", "diabetes"]), ("ascii", ["compare", "dgits"])],
)
def test_a_terminal_without_greek_letters_is_no_failure(encoding, args):
    """What it cannot show becomes a question mark."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command(*args), capture_output=True, env=environment, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode == (2 if args[0] == "compare" else 0)


def test_output_that_cannot_be_written_is_one_line():
    """A full device: status 1 and a reason."""
    done = subprocess.run(
        f"{sys.executable} -m descend.cli rules adam > /dev/full",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("descend: cannot write the output")
    assert len(done.stderr.splitlines()) == 1
