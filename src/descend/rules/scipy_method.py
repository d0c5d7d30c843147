"""The hook by which rules and methods serve as a `method` of `scipy.optimize.minimize`.

SciPy calls a method with the function and its start. A rule knows of no descent, which stands in a layer above it; so
the layer that can descend hands its adapter down, when ``import descend`` loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from descend.errors import DescendError

__all__ = ["SciPyMethod", "register_adapter"]

Adapter = Callable[..., Any]

GIVEN_BY_SCIPY = {"args", "jac", "hess", "hessp", "bounds", "constraints", "callback"}
"""What SciPy hands to every method, by keyword."""

_adapter: Adapter | None = None


def register_adapter(adapter: Adapter) -> Adapter:
    """Have SciPy's calls go to ``adapter(method, fun, x0, args, **options)``; usable as a decorator."""
    global _adapter  # noqa: PLW0603 - the one place of the one adapter
    _adapter = adapter
    return adapter


class SciPyMethod:
    """A mixin of what `scipy.optimize.minimize` takes as its `method`: rules and methods, and their classes."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        """The object or, where SciPy calls a class as its method, what one with default constants finds."""
        if options.keys() >= GIVEN_BY_SCIPY:
            return cls()(*arguments, **options)
        return super().__new__(cls)

    def __call__(self, fun: Any, x0: Any, args: Any = (), **options: Any) -> Any:
        """``scipy.optimize.minimize(fun, x0, method=self)``, which calls it so."""
        if _adapter is None:
            raise DescendError(
                f"{type(self).__name__} is called before descend.minimize is there: import descend first"
            )
        return _adapter(self, fun, x0, args, **options)
