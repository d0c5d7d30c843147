"""The values of options as the command line writes them: lists, ranges, words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from descend.errors import OptionError
from descend.training.batches import BatchSize

__all__ = ["batch_size", "floats", "names", "spaces", "target"]


def names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def floats(option: str, text: str) -> list[float]:
    """Numbers between commas."""
    values = []
    for part in names(text):
        try:
            values.append(float(part))
        except ValueError:
            raise OptionError(f"{option} {text}: {part!r} is not a number; try {option} 0.001,0.01,0.1") from None
    return values


def spaces(tune: Sequence[str]) -> dict[str, Any] | None:
    """The search spaces of ``--tune``, by name; None without any."""
    if not tune:
        return None
    from descend.comparison.planning.spaces import Choice, parse_space

    found: dict[str, Any] = {}
    for part in tune:
        name, _, text = (word.strip() for word in part.partition("="))
        if not name or not text.strip(", "):
            raise OptionError(f"--tune {part}: give a name and where to search, such as --tune momentum=0.5..0.99")
        if name in found:
            raise OptionError(f"--tune {part}: {name} is searched for once; leave one of the two out")
        try:
            found[name] = parse_space(text)
        except OptionError as error:
            words = str(error)
            raise OptionError(words if words.startswith("--tune") else f"--tune {part}: {words}") from None
        if name == "batch_size" and not isinstance(found[name], Choice):
            raise OptionError(f"--tune {part}: batch sizes are listed, such as --tune batch_size=16,32,64")
    return found


def target(text: str) -> float | str:
    """The target as `descend.compare` takes it: a number or a word."""
    try:
        return float(text)
    except ValueError:
        return text


def batch_size(text: str) -> BatchSize:
    """A number of examples, or ``"full"``."""
    if text == "full":
        return "full"
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--batch-size {text}: a whole number, or full, is needed; try 32") from None
