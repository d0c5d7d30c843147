"""The command line as a person and a script meet it: real processes, exit statuses, one-line errors."""

import contextlib
import json
import os
import pty
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from descend import problems, rules

QUICK = ["--rules", "gd,adam", "--lr", "0.01,0.1", "--budget", "40", "--tuning-seeds", "1", "--final-seeds", "6"]


def descend(*args, cwd=None, width=80):
    """Run the command line in a process of its own."""
    environment = {**os.environ, "COLUMNS": str(width)}
    return subprocess.run(
        [sys.executable, "-m", "descend.cli", *map(str, args)],
        capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=240,
    )  # fmt: skip


# ---- compare ----------------------------------------------------------------------------------------------------


def test_compare_prints_a_table_and_writes_a_report(tmp_path):
    """The main job on a small problem: status 0, answer and table within 80 columns, files where it says."""
    done = descend("compare", "booth", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "GD" in done.stdout
    assert "Adam" in done.stdout
    assert "95 % interval" in done.stdout
    assert "Report: descend-booth/report.html" in done.stdout
    assert (tmp_path / "descend-booth" / "report.html").exists()
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "setting the target: 16 runs" in done.stderr
    assert "tuning: 4 runs" in done.stderr
    assert done.stdout.count("\ntechnique ") == 2  # who gets there first, and where they end


def test_a_quick_comparison_exports_its_runs(tmp_path):
    """--quick, and --export: a line for each run, which the table can be made from."""
    done = descend(
        "compare", "booth", "--rules", "gd,adam", "--budget", "30", "--quick", "--export", "runs.csv", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("label,batch_size,epochs,lr,entry,seed,phase,study")
    assert sum(",reference," in line for line in lines) == 2 * 8 + 5
    assert sum(",tuning," in line for line in lines) == 2 * 8
    assert sum(",final," in line for line in lines) == 2 * 10
    assert "Untuned, with its own learning rate:" in done.stdout


def test_compare_json_is_all_that_stands_on_standard_output(tmp_path):
    """--json: one document for machines on stdout, everything for people on stderr."""
    done = descend("compare", "booth", *QUICK, "--json", "--out", "there", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["schema"] == 2
    assert found["target"]["value"] == pytest.approx(
        found["target"]["reference"]
        + found["target"]["share"] * (found["target"]["start"] - found["target"]["reference"]),
        rel=1e-3,
    )
    assert {row["label"] for row in found["rows"]} == {"GD", "Adam"}
    assert found["report"] == "there/report.html"
    assert "gradient evaluations" in done.stderr
    assert json.loads((tmp_path / "there" / "comparison.json").read_text())["rows"] == found["rows"]


def test_several_problems_as_json(tmp_path):
    """Several problems: one document on standard output, a folder for each of them, a page over all."""
    options = [*QUICK, "--jobs", "1", "--out", "there"]
    done = descend("compare", "booth", "beale", *options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["report"] == "there/report.html"
    assert found["table"] == "there/comparisons.json"
    assert [c["problem"]["name"] for c in found["comparisons"]] == ["booth", "beale"]
    assert {p["label"] for p in found["profiles"]} == {"GD", "Adam"}
    written = json.loads((tmp_path / "there" / "comparisons.json").read_text())
    assert written == {key: value for key, value in found.items() if key not in ("report", "table")}
    for name in ("booth", "beale"):
        assert (tmp_path / "there" / name / "report.html").exists()
        assert f"{name} (" in done.stderr
    again = descend("compare", "booth", "beale", *options, cwd=tmp_path)
    assert "Report: there/report.html" in again.stdout
    assert "are finished already" in again.stderr
    assert max(map(len, again.stdout.splitlines())) <= 80
    assert found["answer"] in " ".join(again.stdout.split())


def test_studies_other_hyperparameters_and_seconds(tmp_path):
    """--tune, --trials, --studies, --time, --target: what was chosen is named, and how long a run takes."""
    done = descend(
        "compare", "booth", "--rules", "momentum", "--tune", "momentum=0.5..0.99", "--trials", "4", "--studies", "2",
        "--time", "--target", "0.5", "--tuning-seeds", "1", "--final-seeds", "6", "--budget", "60", "--jobs", "1",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, words = json.loads(done.stdout), " ".join(done.stderr.split())
    row = found["rows"][0]
    assert found["target"]["value"] == 0.5
    assert len(row["chosen"]) == 2
    assert all(0.5 <= point["momentum"] <= 0.99 for point in row["chosen"])
    assert "Chosen besides: Momentum momentum 0." in words
    assert "A run with no other beside it takes: Momentum" in words
    assert "timing, one at a time: 3 runs" in words
    assert row["seconds"]["median"] > 0


def test_the_leaders_are_shown_on_a_terminal(tmp_path):
    """On a terminal: bars, who leads, and nothing of it left at the end; one set of bars for each problem."""
    (tmp_path / "slow.py").write_text(
        "import descend, time\n"
        "def loss(x):\n    time.sleep(0.003)\n    return x ** 2\n"
        "problem = descend.Problem(lambda rng: rng.uniform(1, 2), loss, lambda x: 2 * x)\n"
    )
    main, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    command = [sys.executable, "-m", "descend.cli", "compare", "slow.py", "booth", *QUICK, "--target", "none"]
    with subprocess.Popen(
        [*command, "--jobs", "1"], cwd=tmp_path, stdout=other, stderr=other, env=environment
    ) as process:
        os.close(other)
        seen = b""
        with contextlib.suppress(OSError):  # that is how Linux says that the other end is closed
            while more := os.read(main, 65536):
                seen += more
    os.close(main)
    assert process.returncode == 0
    text = seen.decode()
    assert "Traceback" not in text
    assert "so far" in text
    assert text.index("slow (1 of 2)") < text.index("so far") < text.index("booth (2 of 2)")
    assert "judging on fresh seeds" in text


@pytest.mark.parametrize("jobs", [1, 2])
def test_compare_goes_on_after_ctrl_c(jobs, tmp_path):
    """SIGINT in mid-work: status 130, what is kept is said; the same command goes on and ends with the full table."""
    path = tmp_path / "slow.py"
    path.write_text(
        "import descend, time\n"
        "def loss(x):\n    time.sleep(0.01)\n    return x ** 2\n"
        "problem = descend.Problem(lambda rng: rng.uniform(1, 2), loss, lambda x: 2 * x)\n"
    )
    command = [sys.executable, "-m", "descend.cli", "compare", "slow.py", *QUICK, "--jobs", str(jobs), "--out", "o"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    store = tmp_path / "o" / "runs.sqlite"
    deadline = time.time() + 60
    while time.time() < deadline and count(store) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command goes on from there" in err
    assert "Exception" not in err
    kept = count(store)
    assert kept >= 2
    again = descend("compare", "slow.py", *QUICK, "--out", "o", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["reused_runs"] == kept


def count(store: Path) -> int:
    """Finished runs in a store that another process may be making."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_full_disk_loses_no_finished_run(tmp_path):
    """No room for more than a few runs: a reason in a line; with room, the same command goes on from there."""
    command = [sys.executable, "-m", "descend.cli", "compare", "booth", "--rules", "gd,adam", "--trials", "8"]
    command += ["--jobs", "1", "--out", "o", "--json"]
    little = ["bash", "-c", 'ulimit -f 120; exec "$@"', "bash", *command]  # no file over 120 kB
    full = subprocess.run(little, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    kept = int(re.search(r"cannot be written: .*; the (\d+) runs before are kept", full.stderr)[1])
    assert kept > 0
    on = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(on.stdout)["reused_runs"] == kept


@pytest.mark.slow
def test_compare_survives_sigkill_at_random_instants(tmp_path):
    """Killed with SIGKILL at 20 random instants: each resumption ends with the table of one that was never stopped."""
    (tmp_path / "slow.py").write_text(
        "import descend, time\n"
        "def loss(x):\n    time.sleep(0.001)\n    return x ** 2\n"
        "problem = descend.Problem(lambda rng: rng.uniform(1, 2), loss, lambda x: 2 * x)\n"
    )
    command = [sys.executable, "-m", "descend.cli", "compare", "slow.py", *QUICK, "--json", "--out"]
    began = time.perf_counter()
    whole = subprocess.run([*command, "whole"], cwd=tmp_path, capture_output=True, text=True, check=True)
    long = time.perf_counter() - began
    table = json.dumps(json.loads(whole.stdout)["rows"])
    kept, chance = [], random.Random(0)
    for i in range(20):
        with subprocess.Popen(
            [*command, str(i)], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as one:
            time.sleep(chance.random() * long)
            one.kill()
        ended = subprocess.run([*command, str(i)], cwd=tmp_path, capture_output=True, text=True, check=True)
        found = json.loads(ended.stdout)
        assert json.dumps(found["rows"]) == table
        kept.append(found["reused_runs"])
    assert len(set(kept)) > 3  # at different points of it


@pytest.mark.slow
def test_the_main_job_ends_within_its_time(tmp_path):
    """`descend compare digits` on real data: seven techniques, none of them failing, a table that makes sense."""
    done = descend("compare", "digits", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    rows = {row["label"]: row for row in found["rows"]}
    assert set(rows) == {"Batch GD", "SGD", "Mini-batch", "Momentum", "Adagrad", "RMSprop", "Adam"}
    assert all(rows[name]["test"]["median"] > 0.95 for name in rows if name != "Batch GD")
    assert rows["Batch GD"]["test"]["verdict"] == "clearly worse"
    assert rows["Batch GD"]["to_target"]["hits"] == 0
    reached = [row["to_target"]["median"] for row in found["rows"] if row["label"] != "Batch GD"]
    assert all(0 < median < found["plan"]["budget"] for median in reached)
    assert reached == sorted(reached)
    assert 0.9 < found["target"]["value"] < found["target"]["reference"] <= 1.0
    table = done.stderr.partition("Gradient evaluations to")[2].partition("Note:")[0]
    assert table.count("\ntechnique ") == 2
    assert max(map(len, table.splitlines())) <= 80
    assert all(row["misses"] == 0 for row in rows.values())


# ---- rules, problems, help --------------------------------------------------------------------------------------


def test_rules_lists_every_rule():
    """One line a rule, and as JSON."""
    done = descend("rules")
    assert all(name in done.stdout for name in rules.all())
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert {r["name"] for r in json.loads(descend("rules", "--json").stdout)} == set(rules.all())


@pytest.mark.parametrize("name", ["sgd", "adam", "RMSprop"])
def test_rules_describes_one(name):
    """Formula, hyperparameters with ranges, state, paper; within 80 columns."""
    done = descend("rules", name)
    known = rules.describe(rules.get(name))
    assert known.formula.splitlines()[0] in done.stdout
    assert all(h.name in done.stdout for h in known.hyperparameters)
    assert all(s in done.stdout for s in known.state)
    assert known.paper.split()[0] in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert json.loads(descend("rules", name, "--json").stdout)["state"] == list(known.state)


def test_problems_lists_and_describes():
    """Every built-in problem; one with its data and settings; a user's file."""
    done = descend("problems")
    assert all(name in done.stdout for name in problems.BUILT_IN)
    one = descend("problems", "digits")
    assert "1078 train, 359 validation, 360 test" in one.stdout
    assert json.loads(descend("problems", "quadratic:condition=50", "--json").stdout)["optimum"] == 0.0


def test_help_and_version():
    """Help for every command within 80 columns; a bare call shows help and counts as wrong usage."""
    for command in ([], ["compare"], ["rules"], ["problems"]):
        done = descend(*command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
    assert descend("--version").stdout.startswith("descend 0.")
    assert descend().returncode == 2


# ---- wrong usage ------------------------------------------------------------------------------------------------

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
        (["compare", "nan.py"], 1, "every run failed on nan"),
        (["rules", "adm"], 2, "did you mean 'adam'?"),
        (["problems", "dgits"], 2, "did you mean 'digits'?"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_wrong_usage_is_one_line_and_a_status(args, status, words, tmp_path):
    """What was wrong and its value on standard error, in one line; nothing on standard output; no traceback."""
    (tmp_path / "raises.py").write_text(RAISES)
    (tmp_path / "lengths.py").write_text(LENGTHS)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "twin.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x, name='booth')\n"
    )
    (tmp_path / "import.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "nan.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: float('nan'), lambda x: 0.0)\n"
    )
    done = descend(*args, cwd=tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("descend: ")]
    assert len(lines) == 1
    if status == 2:
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


def test_a_reader_that_goes_away_is_no_failure():
    """`descend rules | head -1` ends quietly."""
    done = subprocess.run(
        f"{sys.executable} -m descend.cli rules --json | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


# ---- surroundings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_greek_letters_is_no_failure(encoding):
    """What it cannot show becomes a question mark."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for args in (["rules", "adam"], ["problems", "diabetes"], ["compare", "dgits"]):
        done = subprocess.run(
            [sys.executable, "-m", "descend.cli", *args], capture_output=True, env=environment, check=False
        )
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


def test_json_is_json_though_the_problem_file_prints(tmp_path):
    """What the file prints goes to standard error."""
    (tmp_path / "chatty.py").write_text(
        "import descend\nprint('loading data…')\n"
        "problem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"
    )
    for args in (["compare", "chatty.py", *QUICK, "--json"], ["problems", "chatty.py", "--json"]):
        done = descend(*args, cwd=tmp_path)
        assert json.loads(done.stdout)
        assert "loading data" in done.stderr


def test_a_narrow_terminal_gets_lines_instead_of_a_table(tmp_path):
    """At 40 columns no figure is cut off."""
    done = descend("compare", "booth", *QUICK, cwd=tmp_path, width=40)
    assert "…" not in done.stdout.partition("Note")[0]
    assert "GD (lr 0.1" in done.stdout


def test_early_ctrl_c_is_no_success(tmp_path):
    """While a problem file still loads: status 130, so that `descend … && next` does not go on."""
    (tmp_path / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    command = [sys.executable, "-m", "descend.cli", "compare", "slow.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_workers_end_with_their_parent(tmp_path):
    """kill -9 of a comparison leaves no process behind."""
    (tmp_path / "pids.py").write_text(
        "import descend, os, time\n"
        "def loss(x):\n"
        "    open(f'{os.getpid()}.pid', 'w').close()\n"
        "    time.sleep(0.02)\n"
        "    return x ** 2\n"
        "problem = descend.Problem(lambda rng: 1.0, loss, lambda x: 2 * x)\n"
    )
    command = [sys.executable, "-m", "descend.cli", "compare", "pids.py", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while time.time() < deadline and len(list(tmp_path.glob("*.pid"))) < 3:
        time.sleep(0.05)
    workers = {int(p.stem) for p in tmp_path.glob("*.pid")} - {process.pid}
    process.kill()
    process.wait()
    assert len(workers) == 2
    while time.time() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
