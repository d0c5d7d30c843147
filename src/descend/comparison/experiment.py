"""`compare`: plan, tune, judge, report."""

from __future__ import annotations

import collections
import datetime
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from descend.code_hash import versions
from descend.comparison.judging.choice import choose, sensitivity
from descend.comparison.judging.notes import notes, pairing_sentence, stretch_sentence, too_few
from descend.comparison.judging.range_ends import extended
from descend.comparison.judging.results import entry_results
from descend.comparison.judging.target import Target, best_of_pool, find_target
from descend.comparison.machine import machine
from descend.comparison.options import CompareOptions, Leaders, Progress, Say
from descend.comparison.phrases import listed
from descend.comparison.planning.make_plan import make_plan, starting_at
from descend.comparison.planning.plan import FROM_REFERENCE, Plan
from descend.comparison.planning.spaces import Space
from descend.comparison.planning.task import Chosen, Task
from descend.comparison.reporting.comparison import Comparison
from descend.comparison.reporting.files import STORE, TABLE, save, writable
from descend.comparison.reporting.owner import identity, refuse_other
from descend.comparison.reporting.wording import duration, where
from descend.comparison.running.bundles import Bundler
from descend.comparison.running.dry_run import dry_run
from descend.comparison.running.repeatability import same_starts, unrepeatable
from descend.comparison.running.runs import Run
from descend.comparison.running.shapes import check_shapes
from descend.comparison.running.store import Store
from descend.comparison.running.workers import Workers, daemonic
from descend.engines import usable_cores
from descend.engines.one_thread import one_thread
from descend.errors import ComparisonError
from descend.problems import Problem
from descend.problems.registry import named
from descend.training.batches import BatchSize

__all__ = ["Experiment", "compare"]

SHORT = 2.0
"""Seconds from which on it is worth saying how long a comparison will take."""
BETWEEN = 0.5
"""Seconds between two calls of `leaders`."""

logger = logging.getLogger("descend")


def compare(
    problem: Problem | str | Path,
    rules: Iterable[Any] | None = None,
    *,
    learning_rates: Sequence[float] | None = None,
    space: Mapping[str, Space] | None = None,
    trials: int | None = None,
    batch_size: BatchSize | None = None,
    budget: int | None = None,
    target: float | str = FROM_REFERENCE,
    tuning_seeds: int | None = None,
    final_seeds: int | None = None,
    studies: int | None = None,
    effort: str = "default",
    untuned: bool = True,
    timed: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    max_run_seconds: float | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    announce: Say | None = None,
    progress: Progress | None = None,
    leaders: Leaders | None = None,
) -> Comparison:
    """Compare optimizers on a problem, fairly: equal tuning, equal cost, fresh seeds, intervals.

    Reference runs, which are no part of the comparison, set a target first. Every rule then gets the same number of
    trials, points of its search space. Each trial runs from the same few seeds, and the trial that is best on
    validation data is chosen. Where the usual range of learning rates does not fit a rule, it is extended, with as many
    trials more for all. What was chosen runs again from fresh seeds. The first figure is the number of gradient
    evaluations to the target, the second the test metric; test data are read once, at the point that was best on
    validation data. The same seed gives every rule the same start and the same order of examples, and every run has the
    same number of gradient evaluations. A run that diverges, or that does not reach the target, is a miss, and counts
    as the worst.

    Parameters
    ----------
    problem
        A `Problem`, a built-in name, or the path of a Python file that defines ``problem``.
    rules
        Rules, their classes or names, or `Entry` for a label, a batch size and a search space of its own. Default:
        batch gradient descent, SGD, mini-batch, Momentum, Adagrad, RMSprop, Adam.
    learning_rates
        What is tried for each rule, in place of points that fill the range from 1e-4 to 10.
    space
        What else to search for: ``{"momentum": Uniform(0.5, 0.99), "batch_size": Choice([16, 64])}``. Each rule takes
        what it has; an `Entry` with a space of its own takes that. A ``"lr"`` here sets another range.
    trials
        How many points of its space each rule tries: quasi-random ones that fill it evenly. Default 16.
    batch_size
        For every rule that does not bring its own: a number or "full". Default 32.
    budget
        Gradient evaluations a run, that is examples seen. Default: 20 passes over the training data; 500 on a
        problem without data.
    target
        The validation metric that is good enough. Default: ``"reference"``; Momentum and Adam, with twice the budget,
        say what can be reached, and the target is 98 % of the way there from the start (99.9 % on a problem without
        data). ``"none"`` for no target.
    tuning_seeds
        How many seeds each trial runs from. Default 3.
    final_seeds
        How many fresh seeds judge the winner. Default 10.
    studies
        How often the tuning is done over, with other points and other seeds; the winner of each is judged on its own
        fresh seeds. Default 1. With several, the chance in tuning shows, and a verdict has to hold in each.
    effort
        What trials, seeds and studies are where they are not given: ``"default"`` as above; ``"quick"``, 8 trials from
        one seed, for a first idea; ``"thorough"``, 3 studies.
    untuned
        Also run each entry with its own learning rate, the published default unless it was set, on the seeds of the
        final runs. It shows what tuning is worth, and is no part of the verdicts. Default True.
    timed
        At the end, run each entry three more times with no other run beside it, and say how long that takes. Default
        False.
    jobs
        Processes to use. Default: as many as there are cores.
    executor
        Make the runs through this `concurrent.futures.Executor` instead, such as a Dask cluster's
        ``client.get_executor()``. It is left running.
    max_run_seconds
        How long a run may take; one that takes longer is ended, and a miss. Runs are made in processes of their own
        then, also with ``jobs=1``. Default: 30 times what the pilot foretells, and a minute at the least; no limit
        with ``jobs=1`` or an executor.
    out
        A folder for ``report.html``, ``comparison.json`` and ``runs.sqlite``. A comparison of a named problem that
        was stopped goes on from there. Default: nothing is written.
    fresh
        Forget finished runs of the same plan in `out`. Default False.
    announce
        Called with sentences: the plan, and how long it will take, before the first run. Without it they go to the
        logger ``descend``.
    progress
        Called with the phase ("reference", "tuning", "final", "timing"), the runs done and the runs to do, as they end.
    leaders
        Called with the plan and the finished runs of the phase, as they end, to show who leads.

    Returns
    -------
    Comparison
        The table, every run, and what to know before believing it.

    Raises
    ------
    OptionError, ProblemError, RuleError
        Something is wrong with what was asked for, before anything is run.
    ComparisonError
        Every run failed, no worker process can work, or `out` cannot be written, or has the report of another problem;
        finished runs are kept there.

    Examples
    --------
    >>> import descend
    >>> table = descend.compare("booth", ["gd", "adam"], learning_rates=[0.01, 0.1], budget=100,
    ...                         tuning_seeds=1, final_seeds=6, jobs=1)
    >>> [(row.label, row.learning_rate, row.misses) for row in table.rows]
    [('GD', 0.1, 0), ('Adam', 0.1, 0)]
    """
    options = CompareOptions(
        learning_rates=learning_rates,
        space=space,
        trials=trials,
        batch_size=batch_size,
        budget=budget,
        target=target,
        tuning_seeds=tuning_seeds,
        final_seeds=final_seeds,
        studies=studies,
        effort=effort,
        untuned=untuned,
        timed=timed,
        jobs=jobs,
        executor=executor,
        max_run_seconds=max_run_seconds,
        out=out,
        fresh=fresh,
        announce=announce,
        progress=progress,
        leaders=leaders,
    )
    experiment = Experiment(problem, rules, options)
    folder = None if options.out is None else writable(Path(options.out))
    experiment.try_out()
    return experiment.run(folder, options.announce)


class Experiment:
    """One comparison, planned when it is made: whatever is wrong with what was asked for is refused by then."""

    def __init__(self, problem: Problem | str | Path, rules: Iterable[Any] | None, options: CompareOptions) -> None:
        began = time.perf_counter()
        self._source: Path | str | None = None
        if isinstance(problem, (str, Path)):
            self._source = Path(problem).expanduser() if str(problem).endswith(".py") else str(problem)
        self.problem, self.options = named(problem), options
        self.plan = make_plan(self.problem, rules, options, self._source)
        self._unrepeated = ""
        self._seconds = time.perf_counter() - began

    def try_out(self) -> None:
        """Make one step of every rule, and one seed twice; raises `ProblemError` or `OptionError`."""
        with one_thread():  # as the runs will have
            seed = dry_run(self.problem, self.plan)
            self.plan = starting_at(self.plan, seed)
            check_shapes(self.problem, seed)
            self._unrepeated = unrepeatable(self.problem, seed)

    def run(self, folder: Path | None, announce: Say | None) -> Comparison:
        """Make the runs that the folder does not have yet, and the comparison of all; write it to the folder."""
        problem, plan, options, say = self.problem, self.plan, self.options, announce or logger.info
        began = time.perf_counter() - self._seconds
        with (
            Store(None if folder is None else folder / STORE, plan, say) as store,
            Workers(problem, plan, self._jobs(say), options.executor, options.max_run_seconds) as workers,
        ):
            if folder is not None:
                refuse_other(store.owner(), identity(self._source, plan.problem, folder), folder)
            if options.fresh:
                store.forget(plan.possible())
            phases = _Phases(problem, plan, store, workers, options, say)
            if announce is not None or logger.isEnabledFor(
                logging.INFO
            ):  # else nobody reads it, and the pilot is in vain
                place = where(None if options.executor is not None else workers.jobs)
                say(" ".join([f"{plan.describe()}, {place}{phases.expected_duration()}.", *too_few(plan)]))
                if self._unrepeated:
                    say(pairing_sentence(self._unrepeated))
            comparison = self._concluded(phases, workers, began)
            if folder is not None:
                save(folder, TABLE, comparison.to_dict(), comparison.save_report, f"the runs are kept in {STORE}")
                store.own(identity(self._source, plan.problem, folder))
        return comparison

    def _jobs(self, say: Say) -> int:
        """How many processes make the runs; one, which is this one, where it may have no others."""
        if not daemonic() or self.options.executor is not None or self.options.processes == 1:
            return self.options.processes
        say(
            "This process is daemonic, as in a multiprocessing.Pool, and may have no children: it makes the runs alone."
        )
        return 1

    def _concluded(self, phases: _Phases, workers: Workers, began: float) -> Comparison:
        """Make every run that is missing, and conclude from all of them."""
        target, chosen = phases.make_all()
        problem, plan = self.problem, phases.plan
        value = None if target is None else target.value
        results = entry_results(plan, phases.runs, chosen, value)
        unrepeated = self._unrepeated or ("" if same_starts(phases.runs) else "start")
        return Comparison(
            plan=plan,
            source=None if self._source is None else str(self._source),
            target=target,
            rows=tuple(results),
            sensitivity=tuple(sensitivity(plan, phases.runs, value)),
            runs=tuple(phases.runs),
            notes=tuple(notes(plan, results, target, phases.runs, unrepeated)),
            summary=problem.summary,
            shape=problem.examples,
            optimum=problem.optimum,
            paired=not unrepeated,
            seconds=time.perf_counter() - began,
            jobs=None if workers.executor is not None else min(workers.jobs, plan.runs),
            reused=phases.reused,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            machine=machine(),
            max_run_seconds=workers.max_run_seconds,
        )


class _Phases:
    """The phases of a comparison, each of which decides which runs the next one makes."""

    def __init__(
        self, problem: Problem, plan: Plan, store: Store, workers: Workers, options: CompareOptions, say: Say
    ) -> None:
        self.problem, self.plan, self.store, self.workers = problem, plan, store, workers
        self.options, self.say = options, say
        self.bundler = Bundler(problem, plan)
        self.runs: list[Run] = []
        self.reused = 0
        self._explained: set[str] = set()

    def expected_duration(self) -> str:
        """How long it is going to take, in words; nothing if it is short, or if an executor makes the runs."""
        plan, store = self.plan, self.store
        if self.workers.executor is not None:
            return ""
        known = [*plan.pool(), *plan.tuning(), *plan.defaults()]
        missing = [task for task in known if store.get(task) is None]
        first = dict(next(plan.tuning()).hyperparameters)
        for i, entry in enumerate(plan.entries):  # which learning rates will be chosen makes no difference here
            seeds = plan.final_seeds if any(t.entry == i for t in missing) else ()
            point = first if entry.space == plan.entries[0].space else plan.points(entry, 0)[0]
            missing += [Task(i, tuple(point.items()), seed, "final") for seed in seeds]
        seconds = self.workers.pilot.estimate(self.bundler.bundles(missing), min(self.workers.jobs, usable_cores()))
        return f", about {duration(seconds)}" if seconds >= SHORT else ""

    def make_all(self) -> tuple[Target | None, list[tuple[Chosen, ...]]]:
        """Make the runs of every phase; returns the target and what each study chose for each entry."""
        target = self._target()
        chosen, tuned = self._tune()
        if all(point is None for found in chosen for point in found):
            raise ComparisonError(
                f"every run failed on {self.problem.name}; the first one: {tuned[0].message} Mend the problem, or "
                "widen the learning rates downwards"
            )
        self._make("final", [*self.plan.finals(chosen), *self.plan.defaults()])
        if self.plan.timed:
            self._make("timing", list(self.plan.timings(chosen)))
        return target, chosen

    def _tune(self) -> tuple[list[tuple[Chosen, ...]], list[Run]]:
        """What each study chose for each entry, and the tuning runs; the plan has what they added to it."""
        tuned = self._make("tuning", list(self.plan.tuning()))
        chosen = choose(self.plan, tuned)
        while (wider := extended(self.plan, chosen, tuned)) is not None:
            made, self.plan = set(self.plan.tuning()), wider
            self.say(stretch_sentence(wider, len(wider.stretches) - 1))
            tuned += self._make("tuning", [task for task in wider.tuning() if task not in made])
            chosen = choose(wider, tuned)
        return chosen, tuned

    def _target(self) -> Target | None:
        """The target that the reference pool sets, or that was given."""
        trials = list(self.plan.pool())
        if not trials:
            return find_target(self.plan, [])
        best = best_of_pool(self.plan, trials, self._make("reference", trials))
        last = [] if best is None else self._make("reference", list(self.plan.pool_finals(best)))
        return find_target(self.plan, last)

    def _make(self, phase: str, tasks: list[Task]) -> list[Run]:
        """The runs of `tasks`, in their order: from the store where they are finished, else made now."""
        store = self.store
        self.reused += sum(map(store.kept, tasks))
        same = collections.Counter(map(store.key, tasks))
        different = list({store.key(task): task for task in tasks}.values())
        bundles = self.bundler.bundles(different, alone=phase == "timing")
        self._explain_single_runs()
        missing = [bundle for bundle in bundles if any(store.get(task) is None for task in bundle.tasks)]
        finished = sum(store.get(task) is not None for task in tasks)
        told = time.perf_counter()

        def tell() -> None:
            if self.options.progress is not None:
                self.options.progress(phase, finished, len(tasks))

        def done(task: Task, run: Run) -> None:
            nonlocal finished, told
            if store.get(task) is None:  # of a bundle, some may be there
                store.put(task, run)
                finished += same[store.key(task)]
                tell()
            if self.options.leaders is not None and time.perf_counter() - told > BETWEEN:
                told = time.perf_counter()
                self.options.leaders(self.plan, [run for run in map(store.get, tasks) if run is not None])

        tell()
        self.workers.make(missing, done, in_turns=phase == "timing")
        runs = [run for run in map(store.get, tasks) if run is not None]
        self.runs += runs
        return runs

    def _explain_single_runs(self) -> None:
        """Say why runs are made one at a time, once for each reason."""
        reasons = self.bundler.reasons
        for why in sorted({*reasons.values()} - self._explained):
            self._explained.add(why)
            labels = [label for label, reason in reasons.items() if reason == why]
            whose = "" if len(labels) == len(self.plan.all_entries) else f" of {listed(labels)}"
            self.say(f"Runs{whose} are made one at a time: {why}.")
