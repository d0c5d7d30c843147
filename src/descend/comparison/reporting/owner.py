"""Whose report lies in a folder: one problem's does not take the place of another's."""

from __future__ import annotations

import os
from pathlib import Path

from descend.comparison.reporting.files import REPORT, TABLE
from descend.errors import ComparisonError

__all__ = ["identity", "refuse_other"]

_FILE = "file "


def identity(source: Path | str | None, name: str, folder: Path) -> str:
    """A text that tells a problem from others: its file as seen from the folder, its name with settings, or its name.

    So a folder and a file that are moved together, or copied, still belong together.
    """
    if isinstance(source, Path):
        return _FILE + os.path.relpath(source.resolve(), folder.resolve())
    return f"name {name if source is None else ''.join(source.split()).lower().replace('_', '-')}"


def refuse_other(owner: str | None, mine: str, folder: Path) -> None:
    """Raise `ComparisonError` if the report in the folder is of another problem, whose file, if any, is still there."""
    if owner in (None, mine) or not any((folder / name).exists() for name in (REPORT, TABLE)):
        return
    if owner.startswith(_FILE) and mine.startswith(_FILE):
        theirs, ours = (folder / text.removeprefix(_FILE) for text in (owner, mine))
        if not theirs.exists() or (ours.exists() and theirs.samefile(ours)):  # it was moved
            return
    what = ascii(owner.partition(" ")[2])[:200]
    raise ComparisonError(
        f"{folder} has the report of another problem, {what}, whose place this one's would take: choose another folder "
        "(--out)"
    )
