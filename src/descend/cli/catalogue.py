"""The commands `descend rules` and `descend problems`: what there is, and a description of each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from descend import problems, rules
from descend.cli.completion import complete_problem, complete_rule
from descend.cli.console import listing, make_console
from descend.cli.parameters import Argument, Command, json_option

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["problems_command", "rules_command"]


@click.command("rules", cls=Command)
@click.argument(
    "name",
    cls=Argument,
    required=False,
    shell_complete=complete_rule,
    about="A rule, to see its formula, state and paper.",
)
@json_option
def rules_command(name: str | None, as_json: bool) -> None:
    """List the update rules, or describe one."""
    if name is None:
        listed = [rules.describe(rule) for rule in rules.all().values()]
        if as_json:
            click.echo(json.dumps([{"name": d.name, "summary": d.summary, "paper": d.paper} for d in listed]))
        else:
            make_console(to_stderr=False).print(listing("rule", "what it does", {d.name: d.summary for d in listed}))
        return
    found = rules.describe(rules.get(name))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        _print_rule(found, make_console(to_stderr=False))


def _print_rule(found: Any, console: Console) -> None:
    from rich.table import Table

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    say(found.summary)
    console.print("\n[bold]Formula[/bold]")
    say(found.formula)
    console.print("\n[bold]Hyperparameters[/bold]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for h in found.hyperparameters:
        table.add_row(h.name, repr(h.default), f"{h.doc} ({h.allowed})")
    console.print(table, highlight=False)
    console.print("\n[bold]State[/bold]")
    say(", ".join(found.state) or "none")
    if found.notes:
        console.print("\n[bold]Notes[/bold]")
        say(" ".join(found.notes.split()))
    console.print("\n[bold]Paper[/bold]")
    say(found.paper or "none given")


@click.command("problems", cls=Command)
@click.argument(
    "name",
    cls=Argument,
    required=False,
    shell_complete=complete_problem,
    about="A problem, to see its data, metric and settings.",
)
@json_option
def problems_command(name: str | None, as_json: bool) -> None:
    """List the built-in problems, or describe one."""
    console = make_console(to_stderr=False)
    if name is None:
        listed = {key: problems.describe(key)[0] for key in problems.BUILT_IN}
        if as_json:
            click.echo(json.dumps([{"name": key, "summary": text} for key, text in listed.items()]))
        else:
            console.print(listing("problem", "what it is", listed), highlight=False)
        return
    facts = _facts(name)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for line in _lines(name, facts):
        console.print(line, highlight=False, markup=False)


def _facts(name: str) -> dict[str, Any]:
    """What is known of a problem, as JSON holds it."""
    with contextlib.redirect_stdout(sys.stderr):  # what a problem file prints is no part of the answer
        found = problems.load(name)
    built_in = name.partition(":")[0]
    return {
        "name": found.name,
        "summary": found.summary,
        "metric": found.metric_name,
        "higher_is_better": found.higher_is_better,
        "optimum": found.optimum,
        "examples": found.examples,
        "settings": problems.describe(built_in)[1] if built_in in problems.BUILT_IN else {},
    }


def _lines(name: str, facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    better = "higher" if facts["higher_is_better"] else "lower"
    lines = [f"{facts['name']}: {facts['summary']}", f"metric: {facts['metric']} ({better} is better)"]
    if facts["examples"]["train"]:
        lines.append("examples: " + ", ".join(f"{count} {role}" for role, count in facts["examples"].items()))
    if facts["optimum"] is not None:
        lines.append(f"lowest training loss: {facts['optimum']:.6g}")
    if facts["settings"]:
        settings = ",".join(f"{k}={v:g}" for k, v in facts["settings"].items())
        lines.append(f"settings: {name.partition(':')[0]}:{settings}")
    return lines
