"""Machine code on disk: made once, and found again by later processes.

A file is named by a hash of everything its code depends on, so that stale code has another name. What is read is
checked against a hash of its own, so that a damaged file is made anew. Where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MAGIC", "folder", "kept"]

MAGIC = b"descend kernel 1\n"


def kept(about: Any, make: Callable[[], bytes]) -> bytes:
    """What `make` returned when first called for `about`, which JSON can spell; if that is None, nothing is kept."""
    where = None if about is None else folder()
    if where is None:
        return make()
    file = where / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:40]
    code = _read(file)
    if code is None:
        code = make()
        _write(file, code)
    return code


@functools.cache
def folder() -> Path | None:
    """Where code is kept: ``$DESCEND_CACHE_DIR``, or ``descend/kernels`` in the user's cache; None if nowhere.

    What is loaded from it runs. So it must belong to the user, and nobody else may write to it.
    """
    given = os.environ.get("DESCEND_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    where = Path(given) if given else Path(base) / "descend" / "kernels"
    try:
        where = where.expanduser().absolute()
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = where.stat()
    except (OSError, RuntimeError):
        return None
    if about.st_uid not in (os.getuid(), 0) or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        print(
            f"descend: kernels are not kept in {where}: others can write to it; chmod go-w, or set DESCEND_CACHE_DIR",
            file=sys.stderr,
        )
        return None
    return where


def _read(file: Path) -> bytes | None:
    """What was written under that name; None if there is nothing, or it is not whole."""
    try:
        found = file.read_bytes()
    except OSError:
        return None
    start = len(MAGIC) + 32
    whole = found.startswith(MAGIC) and hashlib.sha256(found[start:]).digest() == found[len(MAGIC) : start]
    return found[start:] if whole else None


def _write(file: Path, code: bytes) -> None:
    """Write it whole or not at all; where it cannot be written it is made again next time."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(MAGIC + hashlib.sha256(code).digest() + code)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError:
        pass
