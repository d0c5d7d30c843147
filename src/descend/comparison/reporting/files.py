"""The folder of a comparison, and the files in it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.errors import ComparisonError, OptionError

__all__ = ["REPORT", "STORE", "SUITE_TABLE", "TABLE", "save", "writable"]

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
        raise OptionError(
            f"out={str(out)!r} cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    return out


def save(folder: Path, table: str, whole: dict[str, Any], report: Callable[[Path], Any], kept: str) -> None:
    """Write what was found as JSON and as a report; raises `ComparisonError` that says what is `kept` if that fails.

    Each is written whole under another name first: a reader, or a full disk, never meets half a file.
    """
    try:
        text = json.dumps(whole, indent=1, allow_nan=False)
        (folder / f".{table}").write_text(text + "\n", encoding="utf-8")
        os.replace(folder / f".{table}", folder / table)
        report(folder / f".{REPORT}")
        os.replace(folder / f".{REPORT}", folder / REPORT)
    except OSError as error:
        raise ComparisonError(
            f"the report cannot be written to {str(folder)!r} ({error.strerror or error}); {kept}: run the same "
            "command again once that is mended"
        ) from error
