"""Completion in bash, zsh and fish: of commands and options by click, of rules and problems from here."""

from __future__ import annotations

import os
import sys

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

__all__ = ["SHELLS", "answer_shell", "complete_problem", "complete_rule", "complete_rules", "script"]

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_DESCEND_COMPLETE"
"""By this variable of the environment a shell asks the command for completions."""


def script(command: click.Command, shell: str) -> str:
    """What a shell has to run so that it completes `command`."""
    made = get_completion_class(shell)
    assert made is not None, shell
    return made(command, {}, "descend", VARIABLE).source()


def answer_shell(command: click.Command) -> None:
    """Answer a shell that asks for completions, and end; return if none asks."""
    asked = os.environ.get(VARIABLE)
    if asked:
        sys.exit(shell_complete(command, {}, "descend", VARIABLE, asked))


def complete_problem(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Built-in problems; files where none begins so."""
    from descend import problems

    names = [name for name in problems.BUILT_IN if name.startswith(incomplete)]
    return [CompletionItem(name, help=problems.describe(name)[0]) for name in names] or [
        CompletionItem(incomplete, type="file")
    ]


def complete_rule(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Rules by name."""
    from descend import rules

    names = [name for name in rules.all() if name.startswith(incomplete.lower())]
    return [CompletionItem(name, help=rules.describe(rules.get(name)).summary) for name in names]


def complete_rules(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The last of several names between commas."""
    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in complete_rule(_ctx, _param, last)
    ]
