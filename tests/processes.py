"""What tests share that need a Python process of their own."""

import os
import subprocess
import sys
import textwrap

PATIENCE = 240
"""Seconds that a process may take, which needs a few: others may keep the processor busy."""


def run(code, **environment):
    """Run Python code in a process of its own, with these variables of its environment."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env={**os.environ, **environment},
    )
