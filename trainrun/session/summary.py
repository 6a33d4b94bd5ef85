"""Print a run's closing summary: its folder, and the commands to continue or inspect it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trainrun import ranks
from trainrun.run.directory import ROOT
from trainrun.terminal.lines import answer, say
from trainrun.vocabulary.duration import parse

if TYPE_CHECKING:
    from trainrun.session.resume import RunEnd
    from trainrun.session.session import Result


def summarized(ended: RunEnd, quiet: bool) -> int:
    """Print the summary of a run that did anything; returns the exit code."""
    if ended.result is None:
        return 0
    print_summary(ended.result, ended.budget, quiet)
    return ended.result.exit_code


def print_summary(result: Result, budget: str, quiet: bool) -> None:
    """Print it to stderr; with -q only the folder of a complete run, on stdout."""
    folder, command = shlex.quote(str(result.run_dir)), shlex.join(ranks.command())
    if quiet:
        if result.state == "completed":
            answer(result.run_dir)
        return
    if result.state == "interrupted":
        say("", *_overhead(result), "to go on:", f"  {command} resume {folder}")
        return
    length, by_budget = parse(budget), result.reason == "budget"  # else a longer one would change nothing
    twice = f"  {command} resume {folder} budget={2 * length.value:g}{length.unit}"
    split = next((split for split in ("val", "test") if split in result.metrics), None)
    say("", f"finished in {result.seconds:.1f} s{'' if by_budget else f', by {result.reason}'}: {folder}")
    say(*_overhead(result), result.final_weights, "next:", *([twice] if by_budget else []))
    if split:
        say(f"  trainrun eval {folder} --split {split}")
    board = ROOT if ROOT in result.run_dir.parents else folder
    say(f"  trainrun doctor {folder}", f"  tensorboard --logdir {board}")


def _overhead(result: Result) -> list[str]:
    """`time: 83% steps, 2% data, 11% evaluation, 1% save, 3% logging`; then memory, and the trace."""
    whole = sum(result.seconds_by_part.values())
    shares = (f"{seconds / whole:.0%} {name}" for name, seconds in result.seconds_by_part.items() if seconds)
    memory = [result.memory] if result.memory else []
    trace = result.run_dir / "profile" / "trace.json"
    return [f"time: {', '.join(shares)}", *memory, *([f"traced: {trace}"] if trace.is_file() else [])]
