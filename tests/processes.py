"""What tests share that need a Python process of their own."""

import os
import subprocess
import sys
import textwrap


def run(code, **environment):
    """Run Python code in a process of its own, with these variables of its environment."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **environment},
    )
