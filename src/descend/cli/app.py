"""The command line: parse, call, print.

Exit status: 0 done, 1 the work failed (a reason in one line), 2 wrong usage, 130 interrupted. With ``--json`` the
result goes to standard output for machines, and everything for people to standard error.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import click

from descend import __version__
from descend.cli.completion import SHELLS, answer_shell, script
from descend.cli.parameters import Argument, Command
from descend.errors import DescendError, OptionError, ProblemError, RuleError, nearest

__all__ = ["app", "main"]

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def _compare() -> click.Command:
    from descend.cli.compare import compare_command

    return compare_command


def _find_lr() -> click.Command:
    from descend.cli.find_lr import find_lr_command

    return find_lr_command


def _rules() -> click.Command:
    from descend.cli.catalogue import rules_command

    return rules_command


def _problems() -> click.Command:
    from descend.cli.catalogue import problems_command

    return problems_command


@click.command("completion", cls=Command)
@click.argument("shell", cls=Argument, type=click.Choice(SHELLS), metavar="SHELL", about=f"One of {', '.join(SHELLS)}.")
def _completion(shell: str) -> None:
    """Print a script that switches on completion in a shell.

    For bash, put eval "$(descend completion bash)" into ~/.bashrc; for zsh, eval "$(descend completion zsh)" into
    ~/.zshrc. For fish, write the script to ~/.config/fish/completions/descend.fish.
    """
    click.echo(script(app, shell))


_COMMANDS: dict[str, Callable[[], click.Command]] = {
    "compare": _compare,
    "completion": lambda: _completion,
    "find-lr": _find_lr,
    "problems": _problems,
    "rules": _rules,
}
"""Each command is imported when it is asked for: `descend rules` does not wait for what a comparison needs."""


class _Commands(click.Group):
    """The commands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _COMMANDS[name]() if name in _COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            close = nearest(name, _COMMANDS)
            ctx.fail(f"No such command {name!r}.{'' if close is None else f' Did you mean {close!r}?'}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="descend %(version)s", help="Print the version.")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Gradient descent: compare optimizers on a problem, and look up rules and problems."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(WRONG_USAGE)


def main() -> None:
    """Run the command line; the entry point of the `descend` command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Greek letters gets '?' for them, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        answer_shell(app)
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except click.ClickException as error:  # wrong usage, in the command line's own words
        _fail(f"{error.format_message()} See: descend --help", WRONG_USAGE)
    except (OptionError, ProblemError, RuleError) as error:
        _fail(str(error), WRONG_USAGE)
    except DescendError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt as error:
        _fail(str(error) or "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone: not our failure
        _discard_output()
        status = 0
    except OSError as error:
        _discard_output()
        _fail(f"cannot write the output: {error.strerror or error}", FAILED)
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit status. Errors pass, which `click.Group.main` would turn into its own."""
    try:
        with app.make_context("descend", list(arguments)) as context:
            app.invoke(context)
    except click.exceptions.Exit as ended:  # after --help and --version
        return ended.exit_code
    return 0


def _discard_output() -> None:
    """Throw away what standard output still holds, so that Python does not fail on it as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(reason: str, status: int) -> NoReturn:
    click.echo(f"descend: {' '.join(reason.split())}", err=True)
    raise SystemExit(status)
