"""What the commands have in common: how they show their help, and options that several of them take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from descend.cli.completion import complete_problem
from descend.cli.help import Context

__all__ = ["Argument", "Command", "json_option", "out_option", "problem_argument"]

F = TypeVar("F", bound=Callable[..., Any])


class Argument(click.Argument):
    """An argument with a line of help of its own."""

    def __init__(self, declarations: Any, about: str = "", **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.about = about


class Command(click.Command):
    """A command whose help lists the arguments before the options."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both lists."""
        arguments = [p for p in self.params if isinstance(p, Argument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(p.metavar or p.human_readable_name, p.about) for p in arguments])
        super().format_options(ctx, formatter)


def problem_argument(function: F) -> F:
    """The argument PROBLEM of a command that takes one."""
    add = click.argument(
        "problem",
        cls=Argument,
        metavar="PROBLEM",
        about="A built-in name (see: descend problems) or a Python file.",
        shell_complete=complete_problem,
    )
    return add(function)


def json_option(function: Any) -> Any:
    """The option ``--json``, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")(
        function
    )


def out_option(help: str) -> Callable[[F], F]:
    """The option ``--out``, a folder."""
    return click.option("--out", metavar="FOLDER", type=click.Path(path_type=Path), help=help)
