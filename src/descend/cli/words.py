"""Words of the command line that are not known, and those that were probably meant."""

from __future__ import annotations

import re

import click

from descend.errors import nearest

__all__ = ["corrected"]

MEANT = {
    "--techniques": "--rules",
    "--optimizers": "--rules",
    "--optimizer": "--rule",
    "--method": "--rule",
    "--methods": "--rules",
    "--learning-rate": "--lr",
    "--learning-rates": "--lr",
    "--output": "--out",
    "--folder": "--out",
    "--processes": "--jobs",
    "--workers": "--jobs",
    "--cores": "--jobs",
    "--space": "--tune",
    "--epochs": "--budget",
}
"""What other tools, and the guides, call an option."""


def corrected(error: click.ClickException) -> str:
    """The words of an error of usage; for an unknown option or choice, with the one that was probably meant."""
    words = error.format_message()
    if isinstance(error, click.NoSuchOption):
        return f"No such option {error.option_name!r}.{_hint(error.option_name, _options(error.ctx))}"
    parameter = error.param if isinstance(error, click.BadParameter) else None
    if parameter is not None and isinstance(parameter.type, click.Choice):
        given = re.search(r"'([^']*)' is not one of", words)
        return words if given is None else f"{words}{_hint(given[1], [str(c) for c in parameter.type.choices])}"
    return words


def _hint(wrong: str, known: list[str]) -> str:
    """The name that was probably meant, as a question; nothing where none is close."""
    other = MEANT.get(wrong, "--")
    meant = [name for name in known if name in (other, f"{other}s", other.removesuffix("s"))]
    if not meant:
        bare = {name.lstrip("-"): name for name in known}  # the dashes are no likeness
        close = nearest(wrong.lstrip("-"), bare)
        meant = [] if close is None else [bare[close]]
    return f" Did you mean {meant[0]!r}?" if meant else ""


def _options(ctx: click.Context | None) -> list[str]:
    return (
        [] if ctx is None else [name for p in ctx.command.get_params(ctx) for name in p.opts if name.startswith("--")]
    )
