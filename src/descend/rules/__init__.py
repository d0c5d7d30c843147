"""What a step is: every update rule, written once, and the registry that knows them by name.

>>> from descend import rules
>>> sorted(rules.all())[:3]
['adabelief', 'adadelta', 'adagrad']
>>> rules.get("Adam")().lr
0.001
"""

from __future__ import annotations

from collections.abc import Mapping

from descend.errors import RuleError, did_you_mean
from descend.rules import maths
from descend.rules.adagrad import Adagrad
from descend.rules.adam import Adam, Adamax, AdamW, NAdam, RAdam
from descend.rules.adam_momenta import Adan, AdEMAMix
from descend.rules.adam_scales import ADOPT, AdaBelief, Yogi
from descend.rules.describe import Description, Hyperparameter, describe
from descend.rules.hyperparameters import Range, hyper
from descend.rules.registry import known_rules, rule_named
from descend.rules.rmsprop import Adadelta, RMSprop
from descend.rules.rule import Rule
from descend.rules.sgd import ASGD, GD, SGD, Momentum, Nesterov
from descend.rules.signs import Lion, Rprop
from descend.rules.step import cautious_mask, cautious_scale, step

__all__ = [
    "ADOPT",
    "ASGD",
    "GD",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Description",
    "Hyperparameter",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "RAdam",
    "RMSprop",
    "Range",
    "Rprop",
    "Rule",
    "Yogi",
    "all",
    "cautious_mask",
    "cautious_scale",
    "describe",
    "get",
    "hyper",
    "maths",
    "resolve",
    "step",
]


def all() -> Mapping[str, type[Rule]]:
    """Every rule known now, the user's own included: name → class, in alphabetical order."""
    return dict(sorted(known_rules().items()))


def get(name: str) -> type[Rule]:
    """The rule class of that name, in any spelling of case, ``-`` and ``_``; raises `RuleError` for an unknown one.

    A rule of your own comes before one that is shipped under the same name, which is ``descend.NAME``.
    """
    found = rule_named(name)
    if found is None:
        raise RuleError(f"unknown rule {name!r}: {did_you_mean(name, known_rules())}")
    return found


def resolve(rule: Rule | type[Rule] | str) -> Rule:
    """A rule from a rule, its class, or its name; the last two with their default hyperparameters."""
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str):
        return get(rule)()
    if isinstance(rule, type) and issubclass(rule, Rule):
        return rule()
    raise RuleError(f"{rule!r} is not a rule: pass one such as descend.Adam(lr=1e-3), or a name such as 'adam'")
