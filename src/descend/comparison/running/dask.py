"""A Dask cluster that makes the runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import Executor

from descend.errors import MissingExtra, OptionError

__all__ = ["on_dask", "workers_died"]


@contextlib.contextmanager
def on_dask(address: str) -> Iterator[Executor]:
    """The executor of the Dask cluster whose scheduler is at `address`; raises `OptionError` if none answers."""
    try:
        from distributed import Client
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] not in ("dask", "distributed"):
            raise
        raise MissingExtra("distributed", "dask", "--dask") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except Exception as error:  # for an address that is none, it is of any class
        raise OptionError(
            f"--dask {address}: no scheduler answers there ({type(error).__name__}); give the address that `dask "
            "scheduler` prints, such as tcp://127.0.0.1:8786"
        ) from None
    with client:
        yield client.get_executor(pure=False)


def workers_died(error: Exception) -> bool:
    """Whether this is how a cluster says that it tried a run again and again, and each time the worker died."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(error, distributed.KilledWorker)
