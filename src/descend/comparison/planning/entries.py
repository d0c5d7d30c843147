"""Entries of a comparison: rules with a batch size and a search space, each under a label."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from descend.checks import is_whole
from descend.code_hash import of_rule, spelled_rule
from descend.comparison.planning.spaces import LEARNING_RATES, Space, check_rates, checked_space, describe_space
from descend.errors import OptionError, RuleError, did_you_mean
from descend.printable import one_line
from descend.rules import GD, Adagrad, Adam, Momentum, RMSprop, Rule, resolve
from descend.rules.registry import PACKAGE, is_shadowed
from descend.training.batches import BatchSize

__all__ = ["BATCH", "BATCH_SIZE", "DEFAULT_ENTRIES", "Entry", "can_take", "entries_for", "label_of"]

BATCH_SIZE = 32
"""Examples a step, unless an entry or the comparison sets another number."""
BATCH = "batch_size"
"""What a search space calls the batch size, which is no hyperparameter of a rule."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a comparison: a rule with a batch size, under a label, and its search space.

    Parameters
    ----------
    label
        What tables call it.
    rule
        A rule, its class, or its name. What is not searched for stays as it is here.
    batch_size
        Examples a step, or ``"full"``. Default: the comparison's.
    space
        A `LogUniform`, `Uniform` or `Choice` for each hyperparameter to search for, by name; ``"batch_size"`` may be
        among them. A learning rate that is not is searched for where the comparison searches for it.

    >>> import descend
    >>> descend.Entry("Adam, long memory", descend.Adam(betas=(0.99, 0.999)), batch_size=16).rule.betas
    (0.99, 0.999)
    >>> from descend.comparison import Uniform
    >>> descend.Entry("tuned", "momentum", space={"momentum": Uniform(0.5, 0.99)}).batch_size is None
    True
    """

    label: str
    rule: Rule
    batch_size: BatchSize | None = None
    space: Mapping[str, Space] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise OptionError(f"Entry(label={self.label!r}): a name is needed, such as 'Adam, small batches'")
        object.__setattr__(self, "label", one_line(self.label))
        object.__setattr__(self, "rule", resolve(self.rule))
        if isinstance(self.batch_size, numbers.Integral) and is_whole(self.batch_size):
            object.__setattr__(self, "batch_size", int(self.batch_size))
        if self.space is not None:
            object.__setattr__(self, "space", checked_space(self.space))
            known = searchable(self.rule)
            for name in self.space:
                if name not in known:
                    raise OptionError(
                        f"{self.label}: space={{{name!r}: …}} is no hyperparameter of {type(self.rule).__name__}; "
                        f"{did_you_mean(name, known)}"
                    )

    def at(self, hyperparameters: Mapping[str, Any]) -> Entry:
        """The entry with some hyperparameters, and perhaps a batch size, set."""
        rule = dataclasses.replace(self.rule, **{k: v for k, v in hyperparameters.items() if k != BATCH})
        return dataclasses.replace(self, rule=rule, batch_size=hyperparameters.get(BATCH, self.batch_size), space=None)

    def settings(self) -> dict[str, Any]:
        """The entry as JSON holds it."""
        return {
            "label": self.label,
            "rule": spelled_rule(self.rule, without="lr"),
            "learning_rate": self.rule.lr,
            BATCH: self.batch_size,
            "space": {name: describe_space(space) for name, space in (self.space or {}).items()},
            "code": of_rule(self.rule),
        }


DEFAULT_ENTRIES = (
    Entry("Batch GD", GD(), "full"),
    Entry("SGD", GD(), 1),
    Entry("Mini-batch", GD()),
    Entry("Momentum", Momentum()),
    Entry("Adagrad", Adagrad()),
    Entry("RMSprop", RMSprop()),
    Entry("Adam", Adam()),
)
"""The seven techniques that every introduction to gradient descent teaches."""


def searchable(rule: Rule) -> list[str]:
    """The names that may be searched for: a rule's hyperparameters, and the batch size."""
    return [f.name for f in dataclasses.fields(rule)] + [BATCH]


def entries_for(
    examples: int | None,
    rules: Iterable[Any] | None,
    batch_size: BatchSize | None,
    space: Mapping[str, Space] | None = None,
) -> tuple[Entry, ...]:
    """The entries for rules, classes, names or entries that the user gave; the seven techniques by default.

    `examples` counts the training data, None on a problem without data. `space` is for every entry that has no space of
    its own, as far as its rule has such hyperparameters.
    """
    found = [_with_batch(entry, examples, batch_size) for entry in _named_entries(examples, rules)]
    wanted = {} if space is None else checked_space(space)
    for name in wanted:
        if not any(name in searchable(e.rule) for e in found):
            known = sorted({n for e in found for n in searchable(e.rule)})
            raise OptionError(f"space: no rule here has {name!r}; {did_you_mean(name, known)}")
    ready = [_with_space(entry, wanted, examples) for entry in found]
    labels = [e.label for e in ready]
    for label in labels:
        if labels.count(label) > 1:
            raise OptionError(f"two entries are called {label!r}; name them: Entry('another name', rule)")
    return tuple(ready)


def _with_space(entry: Entry, wanted: Mapping[str, Space], examples: int | None) -> Entry:
    """The entry with the space that it is searched in: its own, or the learning rate and what is `wanted` for all."""
    if callable(entry.rule.lr):
        raise OptionError(f"{entry.label}: lr={entry.rule.lr!r} is a schedule, but lr is what is tuned; give a number")
    keeps = _kept_hyperparameters(entry)
    own: dict[str, Space] = {"lr": LEARNING_RATES}
    own |= {n: s for n, s in wanted.items() if n in searchable(entry.rule) and n not in keeps}
    searched = own if entry.space is None else {"lr": own["lr"], **entry.space}
    check_rates(entry.label, searched["lr"])
    if examples is not None:
        return dataclasses.replace(entry, space=searched)
    searched.pop(BATCH, None)
    return dataclasses.replace(entry, space=searched, batch_size="full")


def _kept_hyperparameters(entry: Entry) -> set[str]:
    """The hyperparameters that a space for all entries leaves alone: with others, the label would be wrong."""
    kept = {"momentum"} if type(entry.rule) is GD else set()
    usual = {e.label: e for e in DEFAULT_ENTRIES}.get(entry.label)
    return kept | ({BATCH} if usual is not None and usual.batch_size == entry.batch_size else set())


def _named_entries(examples: int | None, rules: Iterable[Any] | None) -> list[Entry]:
    if rules is None:
        # Without examples to sample, the first three are one and the same.
        return list(DEFAULT_ENTRIES) if examples is not None else [Entry("GD", GD()), *DEFAULT_ENTRIES[3:]]
    if isinstance(rules, (str, Rule, type, Entry)):
        rules = [rules]
    if not isinstance(rules, Iterable):
        raise OptionError(f"rules={rules!r}: give rules, their classes or names, such as ['adam', descend.Momentum()]")
    found = []
    for item in rules:
        if isinstance(item, Entry):
            found.append(item)
        else:
            rule = resolve(item)
            found.append(Entry(label_of(rule), rule))
    if not found:
        raise OptionError("rules=[] names nothing to compare; leave it out for the seven usual techniques")
    return found


def _with_batch(entry: Entry, examples: int | None, batch_size: BatchSize | None) -> Entry:
    """The entry with the batch size that it is run with: its own, or else the comparison's."""
    if examples is None:
        return dataclasses.replace(entry, batch_size="full")
    usual = min(BATCH_SIZE, examples) if batch_size is None else batch_size
    return dataclasses.replace(entry, batch_size=usual if entry.batch_size is None else entry.batch_size)


def can_take(entry: Entry, hyperparameters: Mapping[str, Any]) -> None:
    """Refuse, by `OptionError`, a point of the search space that the rule does not allow."""
    try:
        entry.at(hyperparameters)
    except RuleError as error:
        raise OptionError(f"{entry.label} cannot take every point of its search space: {error}") from None


def label_of(rule: Rule) -> str:
    """The class name, told apart from a rule of the user's, and every hyperparameter that is not at its default."""
    changed = [
        f"{f.name}={getattr(rule, f.name)!r}"
        for f in dataclasses.fields(rule)
        if f.name != "lr" and getattr(rule, f.name) != f.default
    ]
    name = f"{PACKAGE}.{type(rule).__name__}" if is_shadowed(type(rule)) else type(rule).__name__
    return name + (f"({', '.join(changed)})" if changed else "")
