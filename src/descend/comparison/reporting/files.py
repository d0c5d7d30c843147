"""The folder of a comparison, and the files in it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.comparison.running.written import advice, replaced
from descend.errors import ComparisonError, OptionError

__all__ = ["REPORT", "STORE", "SUITE_TABLE", "TABLE", "folder_in", "save", "writable"]

STORE = "runs.sqlite"
REPORT = "report.html"
TABLE, SUITE_TABLE = "comparison.json", "comparisons.json"


def writable(out: Path) -> Path:
    """The folder, made if it is not there; raises `OptionError` if nothing can be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OptionError(f"out={str(out)!r} cannot be written ({error.strerror or error}); {advice(error)}") from None
    return out


def folder_in(out: Path, name: str) -> Path:
    """A folder of a folder, made if it is not there; raises `ComparisonError` where a link stands in its place."""
    if (out / name).is_symlink():
        raise ComparisonError(f"{out / name} is a link to another folder, and is not written to: remove it")
    return writable(out / name)


def save(folder: Path, table: str, whole: dict[str, Any], report: Callable[[Path], Any], kept: str) -> None:
    """Write what was found as JSON and as a report; raises `ComparisonError` that says what is `kept` if that fails."""
    try:
        text = json.dumps(whole, indent=1, allow_nan=False)
        with replaced(folder / table) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
        report(folder / REPORT)
    except OSError as error:
        raise ComparisonError(
            f"the report cannot be written to {str(folder)!r} ({error.strerror or error}); {kept}: {advice(error)}, "
            "and run the same command again"
        ) from error
