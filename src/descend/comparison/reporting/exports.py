"""The files that a comparison's figures are exported to: CSV and JSON by descend itself, Parquet by pandas."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from descend.checks import path as path_of
from descend.comparison.running.written import advice, replaced
from descend.errors import ComparisonError, MissingExtra, OptionError
from descend.jsonable import jsonable
from descend.printable import printable

__all__ = ["exportable", "exported"]

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would take for a formula, and carry out."""


def exportable(name: str | Path, coming: Path | None = None) -> Path:
    """The path, if such a file can be written; raises `OptionError` or `MissingExtra`.

    `coming` is a folder that will be there by then.
    """
    path = path_of("path", name)
    if path.suffix.lower() not in _EXPORTS:
        raise OptionError(f"{str(path)!r}: the name of the file must end in {', '.join(_EXPORTS)}")
    if path.is_dir():
        raise OptionError(f"{str(path)!r} is a folder; give the name of a file")
    for package in _NEEDS.get(path.suffix.lower(), ()):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "frames", f"A {path.suffix} file")
    if coming is not None and path.parent == coming and not coming.exists():
        return path
    if not path.parent.is_dir():
        raise OptionError(f"{str(path)!r}: there is no folder {str(path.parent)!r}; make it, or choose another")
    try:
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OptionError(f"{str(path)!r} cannot be written ({error.strerror or error}); choose another file") from None
    return path


def exported(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Write rows, in which not every column need be, to a file; raises `ComparisonError`."""
    try:
        with _place(path) as place:
            _EXPORTS[path.suffix.lower()](rows, place)
    except OSError as error:
        raise ComparisonError(f"{str(path)!r} cannot be written: {error.strerror or error}; {advice(error)}") from error
    return path


def _place(path: Path) -> contextlib.AbstractContextManager[Path]:
    """Where to write: a new file that takes the old one's place, or itself a pipe, or a file in a closed folder."""
    if path.is_symlink() or not path.exists() or (path.is_file() and os.access(path.parent, os.W_OK)):
        return replaced(path)
    return contextlib.nullcontext(path)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The names of all columns, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    names = _columns(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(map(_cell, names))
        lines.writerows([_cell(row.get(name)) for name in names] for row in rows)


def _cell(value: Any) -> str:
    """A value as a cell of a CSV file has it; a text never becomes a formula, and a number is never changed."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        return str(value)
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULAS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write_json(rows: Sequence[dict[str, Any]], path: Path) -> None:
    names = _columns(rows)
    whole = [{name: jsonable(row.get(name)) for name in names} for row in rows]
    path.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import pandas as pd

    pd.DataFrame(rows).to_parquet(path, index=False)


_EXPORTS: dict[str, Callable[[Sequence[dict[str, Any]], Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
"""How a file is written, by the end of its name."""
_NEEDS = {".parquet": ("pandas", "pyarrow")}
"""What else that takes."""
