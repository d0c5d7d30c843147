"""The commands `descend rules` and `descend problems`: what there is, and a description of each."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from descend import problems, rules
from descend.cli.completion import complete_problem, complete_rule
from descend.cli.console import listed, make_console
from descend.cli.parameters import Argument, Command, json_option
from descend.cli.streams import answer_kept_clean
from descend.printable import say

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
        known = [rules.describe(rule) for rule in rules.all().values()]
        if as_json:
            click.echo(json.dumps([{"name": d.name, "summary": d.summary, "paper": d.paper} for d in known]))
        else:
            listed(make_console(), [(d.name, d.summary) for d in known], ("rule", "what it does"))
        return
    found = rules.describe(rules.get(name))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        _print_rule(found, make_console())


def _print_rule(found: Any, console: Console) -> None:
    say(console, found.summary)
    console.print("\n[bold]Formula[/bold]")
    say(console, found.formula)
    console.print("\n[bold]Hyperparameters[/bold]")
    listed(console, [(h.name, repr(h.default), f"{h.doc} ({h.allowed})") for h in found.hyperparameters])
    console.print("\n[bold]State[/bold]")
    say(console, ", ".join(found.state) or "none")
    if found.notes:
        console.print("\n[bold]Notes[/bold]")
        say(console, " ".join(found.notes.split()))
    console.print("\n[bold]Paper[/bold]")
    say(console, found.paper or "none given")


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
    if name is None:
        known = [(key, problems.describe(key)[0]) for key in problems.BUILT_IN]
        if as_json:
            click.echo(json.dumps([{"name": key, "summary": text} for key, text in known]))
        else:
            listed(make_console(), known, ("problem", "what it is"))
        return
    facts = _facts(name)
    if as_json:
        click.echo(json.dumps(facts))
        return
    console = make_console()
    for line in _lines(name, facts):
        say(console, line)


def _facts(name: str) -> dict[str, Any]:
    """What is known of a problem, as JSON holds it."""
    with answer_kept_clean():  # what a problem file prints is no part of the answer
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
    better = {True: "higher is better", False: "lower is better", None: "whether higher or lower is better is not said"}
    lines = [f"{facts['name']}: {facts['summary']}", f"metric: {facts['metric']} ({better[facts['higher_is_better']]})"]
    if facts["examples"]["train"]:
        lines.append("examples: " + ", ".join(f"{count} {role}" for role, count in facts["examples"].items()))
    if facts["optimum"] is not None:
        lines.append(f"lowest training loss: {facts['optimum']:.6g}")
    if facts["settings"]:
        settings = ",".join(f"{k}={v:g}" for k, v in facts["settings"].items())
        lines.append(f"settings: {name.partition(':')[0]}:{settings}")
    return lines
