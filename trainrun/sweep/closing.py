"""Print a sweep's closing table, its best job and the command to resume; return its exit code."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Sequence

from trainrun.sweep import ranking
from trainrun.sweep.job import STOP
from trainrun.sweep.outcome import outcome
from trainrun.sweep.ranking import RankedJob, RankedSetting
from trainrun.sweep.sweep import counted
from trainrun.sweep.sweep_json import RunningSweep, is_trusted, repeat_command, write_sweep_json
from trainrun.terminal.lines import answer, columns, say, show
from trainrun.terminal.numbers import number
from trainrun.vocabulary.errors import INTERRUPTED


def close_sweep(sweep: RunningSweep) -> int:
    """Write sweep.json for the last time and print the result; returns the exit code."""
    from trainrun.sweep.standings import table

    stop = sweep.folder / STOP
    reason = stop.read_text() if stop.exists() else ""
    states = {outcome(sweep.folder / key).state for key in sweep.planned}
    is_open = bool(states & {"interrupted", "pending"})
    state = "interrupted" if is_open or reason in INTERRUPTED else "completed"
    jobs, settings = write_sweep_json(sweep, "failed" if "failed" in states else state)
    lines = table(jobs, settings, sweep.search.monitor, columns(sys.stderr))
    show(["", f"sweep {sweep.folder}, {_counts(jobs)}", *lines], sys.stderr)
    _print_best(sweep, settings)
    statuses = sweep.folder.glob("*/status.json")
    if others := sum(file.parent.name not in sweep.planned for file in statuses):
        say(f"{counted(others, 'more job')} lie here that this line does not ask for")
    if is_open or reason:
        say("to go on:", f"  {_resume_command(sweep)}")
    elif "failed" in states:
        say("to repeat what failed:", f"  {_resume_command(sweep, 'sweep.repeat_failed=true')}")
    if reason in INTERRUPTED and "failed" not in states:
        return INTERRUPTED[reason]
    return ranking.exit_code(jobs)


def _print_best(sweep: RunningSweep, settings: Sequence[RankedSetting]) -> None:
    best = ranking.best_of(settings, sweep.search.maximize)
    if best is None:
        return
    folder = sweep.folder / best.key
    say("", *_test_line(settings[0], sweep.search.monitor))
    say(f"best: {folder}", "again:", f"  {repeat_command(sweep, best)}")
    if sweep.quiet:
        answer(folder)


def _test_line(best: RankedSetting, monitor: str) -> list[str]:
    """A line on the first row's metrics on the test split, which chose nothing."""
    from trainrun.sweep.standings import extra_metrics

    tests = [job.outcome.test or {} for job in best.jobs if job.outcome.state == "completed"]
    figures = []
    for name in (monitor.removeprefix("val/"), *extra_metrics([best], monitor)):
        values = [test[name] for test in tests if name in test]
        if values:
            spread = f" +/- {number(statistics.stdev(values))} over {len(values)}" if len(values) > 1 else ""
            figures.append(f"{name} {number(statistics.mean(values))}{spread}")
    return [f"row 1 on the test split, which chose nothing: {', '.join(figures)}"] if figures else []


def _resume_command(sweep: RunningSweep, *more: str) -> str:
    """The command that resumes the sweep: by its folder, unless the line says what no file may."""
    if all(map(is_trusted, sweep.typed)):
        return shlex.join(["trainrun", "resume", str(sweep.folder), *more])
    return shlex.join(["trainrun", *sweep.typed, *more])


def _counts(jobs: Sequence[RankedJob]) -> str:
    states = [job.outcome.state for job in jobs]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{counted(len(jobs), 'job')}: {', '.join(counts)}"
