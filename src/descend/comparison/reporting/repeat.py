"""How to make a comparison again: the command, and the call in Python."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from descend.comparison.options import EFFORTS
from descend.comparison.planning.entries import entries_for
from descend.comparison.planning.make_plan import EPOCHS, STEPS
from descend.comparison.planning.plan import FROM_REFERENCE
from descend.comparison.planning.spaces import LEARNING_RATES, Choice, Space, space_option
from descend.errors import DescendError
from descend.rules import Rule
from descend.rules.registry import PACKAGE, is_shadowed

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["repeat", "rule_in_python"]


def repeat(comparison: Comparison) -> tuple[str | None, str]:
    """The command that makes the same comparison, None where the command line cannot say it; and the call in Python."""
    plan, size, source = comparison.plan, comparison.shape["train"], comparison.source
    usual = EFFORTS["default"]
    rates = None if plan.learning_rates is None else list(plan.learning_rates)
    numbers = {
        "trials": (plan.trials, usual.trials if rates is None else plan.trials),
        "budget": (plan.budget, EPOCHS * size or STEPS),
        "target": (plan.target, FROM_REFERENCE),
        "tuning_seeds": (len(plan.tuning_seeds) // plan.studies, usual.tuning_seeds),
        "final_seeds": (len(plan.final_seeds) // plan.studies, usual.final_seeds),
        "studies": (plan.studies, usual.studies),
    }
    limit = {} if comparison.max_run_seconds is None else {"max_run_seconds": comparison.max_run_seconds}
    changed = {name: value for name, (value, default) in numbers.items() if value != default} | limit
    words, command = _entry_options(comparison), None
    if source is not None and words is not None:
        parts = ["descend", "compare", source, *words]
        if rates is not None:
            parts += ["--lr", ",".join(f"{r:g}" if float(f"{r:g}") == r else repr(r) for r in rates)]
        for name, value in changed.items():
            parts += [f"--{name.replace('_', '-')}", str(value)]
        parts += ["--no-untuned"] * (not plan.untuned) + ["--time"] * plan.timed
        command = shlex.join(parts)
    call = [repr(source) if source is not None else "problem", f"[\n{_entries(comparison)}    ]"]
    call += [] if rates is None else [f"learning_rates={rates}"]
    call += [f"{name}={value!r}" for name, value in changed.items()]
    call += ["untuned=False"] * (not plan.untuned) + ["timed=True"] * plan.timed
    python = "import descend\n\ndescend.compare(\n" + "".join(f"    {part},\n" for part in call) + ")"
    return command, python


def _entry_options(comparison: Comparison) -> list[str] | None:
    """The options of the command line that name the entries; None where it has none that do."""
    plan, size = comparison.plan, comparison.shape["train"]
    wanted = plan.settings()["entries"]
    names = [f"{PACKAGE}." * is_shadowed(type(entry.rule)) + entry.rule.name for entry in plan.entries]
    searched: dict[str, Space] = {}
    for entry in plan.entries:
        searched |= {n: s for n, s in (entry.space or {}).items() if (n, s) != ("lr", LEARNING_RATES)}
    tuned = [word for name, space in searched.items() for word in ("--tune", f"{name}={space_option(space)}")]
    for rules in (None, names):
        for batch in (None, *{entry.batch_size for entry in plan.entries}):
            try:
                entries = entries_for(plan.examples, rules, batch, searched)
            except DescendError:
                continue
            if dataclasses.replace(plan, entries=entries).settings()["entries"] == wanted:
                words = [] if rules is None else ["--rules", ",".join(names)]
                return words + ([] if batch is None or not size else ["--batch-size", str(batch)]) + tuned
    return None


def _entries(comparison: Comparison) -> str:
    """The entries as Python, a line each."""
    lines = []
    for entry in comparison.plan.entries:
        prefix = "descend." if type(entry.rule).__module__.startswith("descend.") else ""
        batch = f", {entry.batch_size!r}" if comparison.shape["train"] else ""
        space = "" if dict(entry.space or {}) == {"lr": LEARNING_RATES} else f", space={_space(entry.space or {})}"
        lines.append(f"        descend.Entry({entry.label!r}, {prefix}{rule_in_python(entry.rule)}{batch}{space}),\n")
    return "".join(lines)


def _space(space: Mapping[str, Space]) -> str:
    """A search space as Python."""
    spelled = []
    for name, part in space.items():
        arguments = list(part.values) if isinstance(part, Choice) else f"{part.low!r}, {part.high!r}"
        spelled.append(f"{name!r}: descend.{type(part).__name__}({arguments})")
    return f"{{{', '.join(spelled)}}}"


def rule_in_python(rule: Rule) -> str:
    """A rule with the hyperparameters that are not at their default; its own learning rate is the untuned one."""
    fields = [f for f in dataclasses.fields(rule) if getattr(rule, f.name) != f.default]
    return f"{type(rule).__name__}({', '.join(f'{f.name}={getattr(rule, f.name)!r}' for f in fields)})"
