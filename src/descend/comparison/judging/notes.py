"""Notes: warnings that a reader should know before believing a table."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Sequence

from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import NO_VERDICT, WORSE, joint_confidence, seeds_needed
from descend.comparison.judging.target import Target
from descend.comparison.phrases import counted, listed
from descend.comparison.planning.plan import FROM_REFERENCE, Plan
from descend.comparison.planning.stretches import further_trials, searched_further
from descend.comparison.running.runs import Run, failure
from descend.problems.direction import direction_of_name

__all__ = ["notes", "pairing_sentence", "stretch_sentence", "too_few"]

ADAPTIVE = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adan", "ADOPT", "AdaBelief", "Yogi", "AdEMAMix")
FEW_STEPS = 100


def too_few(plan: Plan) -> list[str]:
    """Whether there are too few final seeds to say anything; known before the first run."""
    needed = seeds_needed(joint_confidence(len(plan.entries)))
    if len(plan.final_seeds) >= needed:
        return []
    return [
        f"{counted(len(plan.final_seeds), 'final seed')} are too few for a verdict on "
        f"{counted(len(plan.entries), 'technique')}: use at least {needed}."
    ]


def notes(
    plan: Plan, table: Sequence[EntryResult], target: Target | None, runs: Sequence[Run] = (), unrepeated: str = ""
) -> list[str]:
    """Every warning that applies; `runs` tell why some failed, `unrepeated` what the same seed did not give again."""
    return [
        *([pairing_sentence(unrepeated)] if unrepeated else []),
        *(stretch_sentence(plan, i) for i in range(len(plan.stretches))),
        *_at_the_edge(plan, table),
        *_missed(plan, table, runs),
        *too_few(plan),
        *_target(plan, table, target),
        *_direction(plan),
        *_under_tuned(plan, table),
        *_disagreeing(plan, table),
        *_studies(plan, table),
        *_starved(plan, table),
    ]


def pairing_sentence(unrepeated: str) -> str:
    """That a seed is no seed, and what follows."""
    return (
        f"Pairing is broken: the same seed gave another {unrepeated} when it ran again. Something draws random numbers "
        "where no seed reaches, such as numpy.random.default_rng() without a seed, the system's own or the time. So "
        "differences taken seed by seed are not between runs from the same start, and the same comparison made again "
        "gives other figures."
    )


def stretch_sentence(plan: Plan, i: int) -> str:
    """What was added to the plan when ranges were extended for the i-th time, and why."""
    parts = [f"{whose} {how_far}" for whose, how_far in searched_further(plan.stretches[i])]
    return (
        "Every trial failed, or the best one lay at the edge of the range: learning rates are searched further, for "
        f"{' and for '.join(parts)}, and every technique gets {counted(further_trials(plan.trials), 'more trial')}."
    )


def _at_the_edge(plan: Plan, table: Sequence[EntryResult]) -> Iterator[str]:
    at_edge = [row for row in table if row.at_edge]
    if at_edge:
        studies, entries = range(plan.studies), [plan.entries[row.entry] for row in at_edge]
        tried = [point["lr"] for entry in entries for study in studies for point in plan.points(entry, study)]
        yield (
            f"The best learning rate of {listed([row.label for row in at_edge])} lies at the edge of the range "
            f"{min(tried):g} … {max(tried):g}: a wider range may serve better "
            f"({'learning_rates' if plan.learning_rates else 'space'})."
        )


def _missed(plan: Plan, table: Sequence[EntryResult], runs: Sequence[Run]) -> Iterator[str]:
    for row in table:
        if row.learning_rate is None and row.test.verdict == NO_VERDICT:
            tried = [
                point["lr"] for study in range(plan.studies) for point in plan.points(plan.entries[row.entry], study)
            ]
            yield (
                f"Every trial of {row.label} failed, from {min(tried):g} to {max(tried):g}: lower learning rates may "
                f"serve ({'learning_rates' if plan.learning_rates else 'space'})."
            )
    missed = [f"{row.label} ({row.misses} of {row.runs}{_why(row, runs)})" for row in table if row.misses]
    if missed:
        yield f"Runs that failed and count as the worst: {listed(missed)}."


def _why(row: EntryResult, runs: Sequence[Run]) -> str:
    """Why most of an entry's failed runs failed: its final runs, or the tuning runs if it has no others."""
    phase = "tuning" if row.learning_rate is None else "final"
    told = collections.Counter(failure(r) for r in runs if r.entry == row.entry and r.phase == phase and r.miss)
    if not told:
        return ""
    return f": {told.most_common(1)[0][0]}{', mostly' * (len(told) > 1)}"


def _target(plan: Plan, table: Sequence[EntryResult], target: Target | None) -> Iterator[str]:
    if target is None and plan.target == FROM_REFERENCE:
        yield "The reference runs got nowhere, so there is no target: entries are ranked by the last figure alone."
    elif target is not None and all(row.to_target is None or math.isinf(row.to_target.median) for row in table):
        yield (
            f"No technique reached the target of {target.value:g} in half of its runs, so they are ranked by the last "
            "figure: a larger budget or an easier target would tell who is faster."
        )


def _direction(plan: Plan) -> Iterator[str]:
    said = direction_of_name(plan.metric)
    if said is not None and said != plan.higher_is_better:
        better, other = ("higher", "lower") if plan.higher_is_better else ("lower", "higher")
        yield (
            f"A {better} {plan.metric} counts as better here, though by that name a {other} one is: "
            "see that higher_is_better is right."
        )


def _under_tuned(plan: Plan, table: Sequence[EntryResult]) -> Iterator[str]:
    """An adaptive rule that loses much to a tuned momentum has usually been searched in the wrong place."""
    momentum = [row for row in table if getattr(plan.entries[row.entry].rule, "momentum", 0.0)]
    for row in table:
        if type(plan.entries[row.entry].rule).__name__ not in ADAPTIVE:
            continue
        for other in momentum:
            much = _much_worse(row, other, plan.higher_is_better)
            if much and row.entry != other.entry:
                yield (
                    f"{row.label} is far behind {other.label}. Well tuned, an adaptive method seldom is (Choi et al. "
                    "2019): before you conclude that it is worse, search its other hyperparameters, too (space)."
                )
                break


def _much_worse(row: EntryResult, other: EntryResult, higher: bool) -> bool:
    """Clearly worse than the best, and its whole interval on the bad side of the other's, with a gap as wide."""
    a, b = row.test, other.test
    if row.test.verdict != WORSE or a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    widest = max(a.high - a.low, b.high - b.low)
    return b.low - a.high > widest if higher else a.low - b.high > widest


def _disagreeing(plan: Plan, table: Sequence[EntryResult]) -> Iterator[str]:
    """Validation data that name another winner than test data, where the difference is clear."""
    if plan.examples is None:
        return
    ranked = [row for row in table if row.validation is not None]
    if len(ranked) < 2:
        return
    chosen = min(ranked, key=lambda row: plan.cost(row.validation))
    if chosen.test.verdict == WORSE:
        best = min(ranked, key=lambda row: plan.cost(row.test.median))
        yield (
            f"Validation and test data disagree: {chosen.label} is best on validation data and clearly worse than "
            f"{best.label} on test data. One of the two may be too small, or not alike."
        )


def _studies(plan: Plan, table: Sequence[EntryResult]) -> Iterator[str]:
    far = [row.label for row in table if row.learning_rates and row.learning_rates[-1] > 10 * row.learning_rates[0]]
    if plan.studies > 1 and far:
        yield (
            f"The studies chose learning rates for {listed(far)} that are more than a factor of ten apart: "
            "what tuning finds there is chance; more tuning seeds would make it surer."
        )


def _starved(plan: Plan, table: Sequence[EntryResult]) -> Iterator[str]:
    steps = 0 if plan.examples is None else plan.budget // plan.examples
    starved = [row.label for row in table if row.batch_size == "full" and 0 < steps <= FEW_STEPS]
    if starved and any(row.batch_size != "full" for row in table):
        yield (
            f"{listed(starved)} makes one step for each pass over the data, so only {steps} steps at this budget: "
            "that is what equal cost means."
        )
