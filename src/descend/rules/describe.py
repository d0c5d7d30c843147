"""A rule described for people and machines, from what its class already says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from descend.rules.hyperparameters import allowed_range
from descend.rules.rule import Rule

__all__ = ["Description", "Hyperparameter", "describe"]


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a rule."""

    name: str
    default: Any
    allowed: str
    doc: str


@dataclasses.dataclass(frozen=True)
class Description:
    """A rule in parts: what `descend rules NAME` prints and the documentation shows."""

    name: str
    summary: str
    formula: str
    hyperparameters: tuple[Hyperparameter, ...]
    state: tuple[str, ...]
    notes: str
    paper: str


def describe(rule: type[Rule]) -> Description:
    """Take a rule's class apart into its description."""
    sections = _sections(inspect.getdoc(rule) or "")
    return Description(
        name=rule.name,
        summary=sections[""].partition("\n\n")[0].replace("\n", " ").replace("`", ""),
        formula=_formula(sections.get("Formula", "")),
        hyperparameters=tuple(_hyperparameter(f) for f in dataclasses.fields(rule)),
        state=rule.state,
        notes=sections.get("Notes", "").replace("`", ""),
        paper=rule.paper,
    )


def _formula(section: str) -> str:
    """The section without the marks of reStructuredText."""
    lines = section.removeprefix("::").strip("\n").replace("`", "")
    return re.sub(r"^    ", "", lines, flags=re.MULTILINE)


def _hyperparameter(field: dataclasses.Field[Any]) -> Hyperparameter:
    if isinstance(field.default, bool):
        allowed = "True or False"
    else:
        allowed = str(allowed_range(field))
        if isinstance(field.default, tuple):
            allowed = f"{len(field.default)} numbers, each {allowed}"
    return Hyperparameter(field.name, field.default, allowed, field.metadata.get("doc", ""))


def _sections(doc: str) -> dict[str, str]:
    """A docstring's sections by heading; what stands before the first heading under the empty name."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    return {"": parts[0].strip()} | {parts[i]: parts[i + 1].strip("\n").rstrip() for i in range(1, len(parts) - 1, 2)}
