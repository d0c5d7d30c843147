"""The answer on standard output and nothing else there; readers that have gone; words that stay whole."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console
from tests.cli.commands import QUICK, command
from tests.processes import PATIENCE

import descend

CHATTY = """import atexit, ctypes, descend, os, sys
print("at import")
print("past sys.stdout", file=sys.__stdout__)
os.system("echo from a shell")
os.write(1, b"by the system\\n")
ctypes.CDLL(None).puts(b"from C")
atexit.register(print, "at exit")
def loss(x):
    print("in a run")
    return x ** 2
problem = descend.Problem(lambda rng: rng.uniform(1, 2), loss, lambda x: 2 * x)
"""
"""A problem's file that prints in every way there is."""
SAID = ["at import", "past sys.stdout", "from a shell", "by the system", "from C", "at exit"]


def shell(line, cwd, **environment):
    """Run a line of bash, in which DESCEND is the command line."""
    line = line.replace("DESCEND", " ".join(command()))
    return subprocess.run(
        ["/bin/bash", "-c", line], capture_output=True, text=True, check=False, cwd=cwd, timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "80", **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["problems", "chatty.py"], SAID),
        pytest.param(
            ["find-lr", "chatty.py", "--rule", "gd", "--seeds", "1", "--steps", "20"],
            [*SAID, "in a run"],
            marks=pytest.mark.slow,
        ),
        pytest.param(["compare", "chatty.py", *QUICK, "--jobs", "2"], [*SAID, "in a run"], marks=pytest.mark.slow),
    ],
    ids=["problems", "find-lr", "compare"],
)
def test_only_the_answer_is_on_standard_output(arguments, said, tmp_path):
    """Whatever a problem's file prints, at whatever time, in this process or in a worker: it goes to standard error."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    done = shell(f"DESCEND {' '.join(arguments)} --json", tmp_path)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert [words for words in said if words not in done.stderr] == []
    plain = shell(f"DESCEND {' '.join(arguments)} 2>/dev/null", tmp_path)
    assert [words for words in said if words in plain.stdout] == []
    assert plain.stdout.startswith(("chatty: ", "On chatty, "))


def test_the_plan_is_no_part_of_the_answer(run):
    """Plan and phases on standard error, the answer on standard output, for one problem and for several."""
    for problems, plan in ((["booth"], "2 techniques × 2 trials"), (["booth", "beale"], "booth (1 of 2)")):
        status, out, err = run("compare", *problems, *QUICK, "--target", "none", "--no-untuned", "--jobs", "1")
        assert status == 0, err
        assert plan in err
        assert "tuning: 4 runs" in err
        assert plan not in out
        assert "Report: " in out


@pytest.mark.parametrize(
    "arguments",
    [
        "rules",
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in ("rules --json", "problems digits", "completion bash", "--help", "compare --help", "--version")
        ),
    ],
)
def test_closed_streams_are_no_failure(arguments, tmp_path):
    """Standard output, standard error, or all three streams are closed: status 0, and no word of it."""
    closed = shell(f"DESCEND {arguments} >&-", tmp_path)
    assert (closed.returncode, closed.stderr) == (0, "")
    assert shell(f"DESCEND {arguments} 2>&-", tmp_path).stdout != ""
    assert shell(f"DESCEND {arguments} <&- >&- 2>&-", tmp_path).returncode == 0


@pytest.mark.slow
def test_wrong_usage_with_closed_streams_keeps_its_status(tmp_path):
    """Nobody can be told why, but a script learns that it was wrong."""
    assert shell("DESCEND compare dgits 2>&-", tmp_path).returncode == 2
    assert shell("DESCEND compare dgits <&- >&- 2>&-", tmp_path).returncode == 2
    assert shell("DESCEND compare dgits 2>/dev/full", tmp_path).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "DESCEND compare booth OPTIONS >&-",
        "DESCEND compare booth OPTIONS <&- >&- 2>&-",
        "DESCEND compare booth OPTIONS | true; exit ${PIPESTATUS[0]}",
        "DESCEND compare booth OPTIONS | head -1; exit ${PIPESTATUS[0]}",
        "DESCEND compare booth OPTIONS 2>&1 | head -1; exit ${PIPESTATUS[0]}",
        "DESCEND compare booth OPTIONS 2>/dev/full",
    ],
)
def test_a_comparison_ends_whoever_listens(line, tmp_path):
    """Streams that are closed, full or abandoned: every run is made, the report is written, status 0."""
    options = [*QUICK, "--target", "none", "--jobs", "2", "--out", "there", "--export", "there/runs.csv"]
    done = shell(line.replace("OPTIONS", " ".join(options)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(json.loads((tmp_path / "there" / "comparison.json").read_text())["runs"]) == 2 * 2 + 4 * 6
    assert (tmp_path / "there" / "report.html").exists()
    assert len((tmp_path / "there" / "runs.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 2 + 4 * 6
    if "head" in line:
        assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("arguments", [["compare"], ["find-lr"], ["rules"], ["problems"], ["completion"], []])
def test_help_fits_and_breaks_no_word(arguments, width, run):
    """Every word of the help is there in one piece, and lines are no longer than the terminal but for long words."""
    narrow, wide = (run(*arguments, "--help", width=w)[1] for w in (width, 1000))
    assert sorted(narrow.split()) == sorted(wide.split())
    assert [line for line in narrow.splitlines() if len(line) > width and len(line.split()) > 2] == []


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("arguments", [["rules"], ["rules", "adamw"], ["problems"], ["problems", "digits"]])
def test_lists_break_no_word(arguments, width, run):
    """What a table would break or cut off stands in lines of its own, which need no heads."""
    narrow, wide = (run(*arguments, width=w)[1] for w in (width, 1000))
    heads = {"rule", "what", "it", "does", "problem", "is"}
    assert set(narrow.split()) | heads == set(wide.split()) | heads
    assert [line for line in narrow.splitlines() if len(line) > width and len(line.split()) > 2] == []


def test_tables_of_a_comparison_break_no_word():
    """Names of techniques, notes and figures stay whole, in the table of one problem and in that of several."""
    entries = [descend.Entry("Adam, decoupled_weight_decay", "adamw"), "nesterov", "ademamix"]
    options = {"learning_rates": [0.01, 0.1], "budget": 40, "tuning_seeds": 1, "final_seeds": 6, "target": "none"}
    suite = descend.compare_all(["booth", "beale"], entries, **options, jobs=1, untuned=False)
    for found in (suite, *suite.comparisons):
        shown = {}
        for width in (30, 40, 60, 80, 200):
            page = io.StringIO()
            found.show(Console(file=page, width=width))
            shown[width] = page.getvalue()
            names = {"Nesterov"} if found is suite else {"decoupled_weight_decay", "AdEMAMix", "Nesterov"}
            assert names <= set(re.findall(r"\w+", shown[width]))
            assert not re.search(r"\w…", shown[width])  # a range may have one between its ends
            lines = shown[width].splitlines()
            assert [line for line in lines if len(line.rstrip()) > width and len(line.split()) > 1] == []
        words = {width: set(re.findall(r"[^\W\d_]{3,}", text)) for width, text in shown.items()}
        assert words[30] - words[200] <= {"batch", "missed", "interval"}
        assert words[200] - words[30] <= {"technique", "problem", "median", "miss", "beside", "the"}


STEERING = r"""import descend
name, summary = 'a\x1b]0;title\x07b\u202ec', '\x1b[31mred\nsecond line'
problem = descend.Problem(lambda rng: 1.0, lambda x: x * x, lambda x: 2 * x, name=name, summary=summary)
"""


def test_a_terminal_is_not_steered_by_a_problem(run, tmp_path):
    """Escapes in names, summaries, errors and file names are spelled out, on the terminal and in the report."""
    (tmp_path / "steering.py").write_text(STEERING)
    (tmp_path / "raising.py").write_text(r"raise ValueError('\x1b[2J\x9b31m gone')")
    (tmp_path / "\x1b[31m.py").write_text("1 / 0\n")
    shown = run("problems", "steering.py")[1]
    assert shown.splitlines()[0] == r"a\x1b]0;title\x07b\u202ec: \x1b[31mred second line"
    for arguments in (
        ["compare", "steering.py", "--rules", "gd", "--lr", "0.1", "--budget", "20", "--quick", "--jobs", "1"],
        ["find-lr", "steering.py", "--rule", "gd", "--seeds", "1", "--steps", "20"],
        ["problems", "raising.py"],
        ["problems", "\x1b[31m.py"],
        ["compare", "\x1b[31m.py"],
        ["rules", "\x1b[31m"],
        ["\x1b[31m"],
        ["compare", "booth", "--jobs", "\x1b[31m"],
    ):
        _, out, err = run(*arguments)
        assert not set(out + err) & {"\x1b", "\x07", "\x9b", "\u202e"}, arguments
        assert r"\x1b" in out + err
    page = (tmp_path / "descend-steering" / "report.html").read_text(encoding="utf-8")
    assert "\x07" not in page
    assert "\u202e" not in page


@pytest.mark.slow
def test_python_dash_m_is_the_command(tmp_path):
    """`python -m descend` does what `descend` does, and both find a package of the current folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("LIMIT = 3.0\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own.py").write_text(
        "import descend\nfrom mine import LIMIT\n"
        "problem = descend.Problem(lambda rng: LIMIT, lambda x: x * x, lambda x: 2 * x, summary='found')\n"
    )
    script = tmp_path / "bin" / "descend"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom descend.cli.app import main\nmain()\n")
    script.chmod(0o755)
    for words in ([str(script)], [sys.executable, "-m", "descend"]):
        done = subprocess.run(
            [*words, "compare", "sub/own.py", *QUICK, "--jobs", "2", "--json"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["problem"]["summary"] == "found"
