"""`descend compare` as a person and a script meet it: what it prints, what it writes, how it goes on."""

import contextlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.commands import QUICK, SLOW, command, count, descend, started
from tests.processes import PATIENCE


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


def test_a_quick_comparison_exports_its_runs(run, tmp_path):
    """--quick, and --export: a line for each run, which the table can be made from."""
    options = ["--rules", "gd,adam", "--budget", "30", "--quick", "--export", "runs.csv", "--jobs", "1"]
    status, out, err = run("compare", "booth", *options)
    assert status == 0, err
    lines = (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("label,batch_size,epochs,lr,entry,seed,phase,study")
    assert sum(",reference," in line for line in lines) == 2 * 8 + 5
    assert sum(",tuning," in line for line in lines) == 2 * 8
    assert sum(",final," in line for line in lines) == 2 * 10
    assert "Untuned, with its own learning rate:" in out


def test_compare_json_is_all_that_stands_on_standard_output(run, tmp_path):
    """--json: one document for machines on stdout, everything for people on stderr."""
    _, out, err = run("compare", "booth", *QUICK, "--json", "--out", "there", "--jobs", "1")
    found = json.loads(out)
    assert found["schema"] == 2
    assert found["target"]["value"] == pytest.approx(
        found["target"]["reference"]
        + found["target"]["share"] * (found["target"]["start"] - found["target"]["reference"]),
        rel=1e-3,
    )
    assert {row["label"] for row in found["rows"]} == {"GD", "Adam"}
    assert found["report"] == "there/report.html"
    assert "gradient evaluations" in err
    assert json.loads((tmp_path / "there" / "comparison.json").read_text())["rows"] == found["rows"]


def test_several_problems_as_json(run, tmp_path):
    """Several problems: one document on standard output, a folder for each of them, a page over all."""
    options = [*QUICK, "--jobs", "1", "--out", "there"]
    status, out, err = run("compare", "booth", "beale", *options, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["report"] == "there/report.html"
    assert found["table"] == "there/comparisons.json"
    assert [c["problem"]["name"] for c in found["comparisons"]] == ["booth", "beale"]
    assert {p["label"] for p in found["profiles"]} == {"GD", "Adam"}
    written = json.loads((tmp_path / "there" / "comparisons.json").read_text())
    assert written == {key: value for key, value in found.items() if key not in ("report", "table")}
    for name in ("booth", "beale"):
        assert (tmp_path / "there" / name / "report.html").exists()
        assert f"{name} (" in err
    _, again, err = run("compare", "booth", "beale", *options)
    assert "Report: there/report.html" in again
    assert "are finished already" in err
    assert max(map(len, again.splitlines())) <= 80
    assert found["answer"] in " ".join(again.split())


def test_studies_other_hyperparameters_and_seconds(run):
    """--tune, --trials, --studies, --time, --target: what was chosen is named, and how long a run takes."""
    status, out, err = run(
        "compare", "booth", "--rules", "momentum", "--tune", "momentum=0.5..0.99", "--trials", "4", "--studies", "2",
        "--time", "--target", "0.5", "--tuning-seeds", "1", "--final-seeds", "6", "--budget", "60", "--jobs", "1",
        "--json",
    )  # fmt: skip
    assert status == 0, err
    found, words = json.loads(out), " ".join(err.split())
    row = found["rows"][0]
    assert found["target"]["value"] == 0.5
    assert len(row["chosen"]) == 2
    assert all(0.5 <= point["momentum"] <= 0.99 for point in row["chosen"])
    assert "Chosen besides: Momentum momentum 0." in words
    assert "A run with no other beside it takes: Momentum" in words
    assert "timing, one at a time: 3 runs" in words
    assert row["seconds"]["median"] > 0


def test_a_narrow_terminal_gets_lines_instead_of_a_table(run):
    """At 40 columns no figure is cut off."""
    _, out, _ = run("compare", "booth", *QUICK, "--jobs", "1", width=40)
    assert "…" not in out.partition("Note")[0]
    assert "GD (lr 0.1" in out


def test_json_is_json_though_the_problem_file_prints(run, tmp_path):
    """What the file prints goes to standard error."""
    (tmp_path / "chatty.py").write_text(
        "import descend\nprint('loading data…')\n"
        "problem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"
    )
    for args in (["compare", "chatty.py", *QUICK, "--json", "--jobs", "1"], ["problems", "chatty.py", "--json"]):
        _, out, err = run(*args)
        assert json.loads(out)
        assert "loading data" in err


@pytest.mark.slow
def test_the_leaders_are_shown_on_a_terminal(tmp_path):
    """On a terminal: bars, who leads, and nothing of it left at the end; one set of bars for each problem."""
    (tmp_path / "slow.py").write_text(SLOW.format(seconds=0.003))
    main, other = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    words = command("compare", "slow.py", "booth", *QUICK, "--target", "none", "--jobs", "1")
    with subprocess.Popen(words, cwd=tmp_path, stdout=other, stderr=other, env=environment) as process:
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
def test_compare_goes_on_after_ctrl_c(jobs, run, tmp_path):
    """SIGINT in mid-work: status 130, what is kept is said; the same command goes on and ends with the full table."""
    (tmp_path / "slow.py").write_text(SLOW.format(seconds=0.004))
    process = started("compare", "slow.py", *QUICK, "--jobs", jobs, "--out", "o", cwd=tmp_path)
    store = tmp_path / "o" / "runs.sqlite"
    deadline = time.time() + PATIENCE
    while time.time() < deadline and count(store) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command goes on from there" in err
    assert "Exception" not in err
    kept = count(store)
    assert kept >= 2
    (tmp_path / "quick").touch()
    status, out, err = run("compare", "slow.py", *QUICK, "--out", "o", "--json", "--jobs", "1")
    assert status == 0, err
    assert json.loads(out)["reused_runs"] == kept


@pytest.mark.slow
def test_a_full_disk_loses_no_finished_run(run, tmp_path):
    """No room for more than a few runs: a reason in a line; with room, the same command goes on from there."""
    options = ["compare", "booth", "--rules", "gd,adam", "--trials", "8", "--jobs", "1", "--out", "o", "--json"]
    little = ["bash", "-c", 'ulimit -f 120; exec "$@"', "bash", *command(*options)]  # no file over 120 kB
    full = subprocess.run(little, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    kept = int(re.search(r"cannot be written: .*; the (\d+) runs before are kept", full.stderr)[1])
    assert kept > 0
    _, out, _ = run(*options)
    assert json.loads(out)["reused_runs"] == kept


@pytest.mark.slow
def test_compare_survives_sigkill_at_random_instants(tmp_path):
    """Killed with SIGKILL at 20 random instants: each resumption ends with the table of one that was never stopped."""
    (tmp_path / "slow.py").write_text(SLOW.format(seconds=0.001))
    words = command("compare", "slow.py", *QUICK, "--json", "--out")
    began = time.perf_counter()
    whole = subprocess.run([*words, "whole"], cwd=tmp_path, capture_output=True, text=True, check=True)
    long = time.perf_counter() - began
    table = json.dumps(json.loads(whole.stdout)["rows"])
    kept, chance = [], random.Random(0)
    for i in range(20):
        with subprocess.Popen([*words, str(i)], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE) as one:
            time.sleep(chance.random() * long)
            one.kill()
        ended = subprocess.run([*words, str(i)], cwd=tmp_path, capture_output=True, text=True, check=True)
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


@pytest.mark.slow
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
    words = command("compare", "pids.py", "--jobs", "2")
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + PATIENCE
    while time.time() < deadline and len(list(tmp_path.glob("*.pid"))) < 3:
        time.sleep(0.05)
    workers = {int(p.stem) for p in tmp_path.glob("*.pid")} - {process.pid}
    process.kill()
    process.wait()
    assert len(workers) == 2
    while time.time() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_early_ctrl_c_is_no_success(tmp_path):
    """While a problem file still loads: status 130, so that `descend … && next` does not go on."""
    (tmp_path / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    process = started("compare", "slow.py", cwd=tmp_path)
    assert process.stderr.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
