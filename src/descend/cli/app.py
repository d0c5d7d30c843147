"""The command line: parse, call, print.

Exit status: 0 done, 1 the work failed (a reason in one line), 2 wrong usage, 130 interrupted, 143 terminated. With
``--json`` the result goes to standard output for machines, and everything for people to standard error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import click

from descend import __version__
from descend.cli import streams
from descend.cli.completion import SHELLS, answer_shell, script
from descend.cli.ending import end_in_time
from descend.cli.help import Context
from descend.cli.parameters import Argument, Command
from descend.cli.terminated import Terminated
from descend.cli.words import corrected
from descend.errors import DescendError, OptionError, ProblemError, RuleError, nearest
from descend.printable import one_line

__all__ = ["app", "main"]

FAILED, WRONG_USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


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

    context_class = Context

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
            formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in commands if command])

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


def main() -> NoReturn:
    """Run the command line; the entry point of the `descend` command."""
    streams.prepare()
    status = FAILED
    try:
        status = _ended()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else FAILED
        raise
    finally:
        end_in_time(status)
    sys.exit(status)


def _ended() -> int:
    """Run what the command line asks for; returns the exit status, or exits with one after saying why."""
    try:
        answer_shell(app)
        status = _run(sys.argv[1:])
        streams.close_answer()
    except click.ClickException as error:  # wrong usage, in the command line's own words
        _fail(f"{corrected(error)} See: descend --help", WRONG_USAGE)
    except (OptionError, ProblemError, RuleError) as error:
        _fail(str(error), WRONG_USAGE)
    except DescendError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt as error:
        _fail(str(error) or "interrupted", TERMINATED if isinstance(error, Terminated) else INTERRUPTED)
    except MemoryError:
        _fail("out of memory", FAILED)
    except BrokenPipeError:  # the reader of our output has gone: not our failure
        streams.discard_answer()
        status = 0
    except OSError as error:
        streams.discard_answer()
        what = "cannot write the output" if error.filename is None else f"cannot use {str(error.filename)!r}"
        _fail(f"{what}: {error.strerror or error}", FAILED)
    return status


def _run(arguments: Sequence[str]) -> int:
    """Run a command; returns the exit status. Errors pass, which `click.Group.main` would turn into its own."""
    _find_current_folder()
    try:
        with app.make_context("descend", list(arguments)) as context:
            app.invoke(context)
    except click.exceptions.Exit as ended:  # after --help and --version
        return ended.exit_code
    except SystemExit as ended:  # none of ours
        raise ProblemError(f"the problem called sys.exit({'' if ended.code is None else repr(ended.code)})") from ended
    return 0


def _find_current_folder() -> None:
    """Let a problem's file import what lies in the current folder, as it can under ``python -m descend``."""
    if sys.flags.safe_path:
        return
    with contextlib.suppress(OSError):  # the folder may be gone
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)  # behind what is installed: a file here takes no library's place


def _fail(reason: str, status: int) -> NoReturn:
    click.echo(f"descend: {one_line(' '.join(reason.split()))}", err=True)
    raise SystemExit(status)
