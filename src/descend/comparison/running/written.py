"""Files in the folder of a comparison: written whole, through no link, and with advice where that fails."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from descend.errors import ComparisonError

__all__ = ["advice", "refuse_link", "replaced", "sqlite_name"]

_NO_ROOM = "make room on the disk, or choose another folder"
_NOT_ALLOWED = "see that you may write to the folder and to what is in it, or choose another folder"
_READ_ONLY = "it can be read alone here: choose another folder"
_LOCKED = "another program has locked it: let it end"

_BY_ERRNO = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EEXIST: "a file stands where a folder is needed: choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another folder",
    errno.ENAMETOOLONG: "choose a folder with a shorter name",
}
_BY_SQLITE = {
    "SQLITE_FULL": _NO_ROOM,
    "SQLITE_READONLY": _NOT_ALLOWED,
    "SQLITE_CANTOPEN": _NOT_ALLOWED,
    "SQLITE_PERM": _NOT_ALLOWED,
    "SQLITE_AUTH": _NOT_ALLOWED,
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_IOERR": "see that the disk is well and has room, or choose another folder",
    "SQLITE_CORRUPT": "the file is damaged: move it away, or choose another folder",
    "SQLITE_NOTADB": "the file is no store: move it away, or choose another folder",
}


def advice(error: BaseException) -> str:
    """What to do about a file that cannot be written or read, by the cause that the error tells."""
    if isinstance(error, sqlite3.Error):
        name = sqlite_name(error)
        return next((words for start, words in _BY_SQLITE.items() if name.startswith(start)), "choose another folder")
    return _BY_ERRNO.get(getattr(error, "errno", None) or 0, "choose another folder")


def sqlite_name(error: sqlite3.Error) -> str:
    """SQLite's name for an error, such as SQLITE_BUSY; empty for an error of Python's module."""
    return getattr(error, "sqlite_errorname", None) or ""


def refuse_link(path: Path) -> None:
    """Raise `ComparisonError` if what stands at the path, if anything, is not a file of its own.

    Writing through a symbolic link, or to a file that has another name besides, changes a file outside the folder.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        kind = "is a link to another file"
    elif not stat.S_ISREG(found.st_mode):
        kind = "is no file"
    elif found.st_nlink > 1:
        kind = "is the same file as another one (a hard link)"
    else:
        return
    raise ComparisonError(f"{path} {kind}, and is not written to: remove it, or choose another folder")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside `path`, to be written, which takes the place of `path` at the end of the block.

    A reader, or a full disk, never meets half a file. A link at `path` is replaced, and what it leads to stays as it
    is. After an error, whatever it is, nothing is left of the new file.
    """
    beside = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
