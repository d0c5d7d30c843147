"""What tests of the command line share: processes of its own, and options of a comparison that is soon over."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.processes import PATIENCE

QUICK = ["--rules", "gd,adam", "--lr", "0.01,0.1", "--budget", "40", "--tuning-seeds", "1", "--final-seeds", "6"]

SLOW = """import descend, pathlib, time
def loss(x):
    time.sleep(0 if pathlib.Path("quick").exists() else {seconds})
    return x ** 2
problem = descend.Problem(lambda rng: rng.uniform(1, 2), loss, lambda x: 2 * x)
"""
"""A problem whose evaluations take their time, unless there is a file called quick."""


def command(*arguments):
    """The words that start the command line in a process of its own."""
    return [sys.executable, "-m", "descend.cli", *map(str, arguments)]


def descend(*arguments, cwd=None, width=80):
    """Run the command line in a process of its own."""
    environment = {**os.environ, "COLUMNS": str(width)}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=PATIENCE
    )


def started(*arguments, cwd):
    """Start the command line in a process of its own, to which Ctrl-C can be sent."""
    return subprocess.Popen(command(*arguments), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def count(store: Path) -> int:
    """Finished runs in a store that another process may be making."""
    if not store.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db, db:
            return db.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
