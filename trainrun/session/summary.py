"""The last words of a run: where it lies, and what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trainrun import ranks
from trainrun.run.directory import ROOT
from trainrun.terminal.lines import answer, say
from trainrun.vocabulary.duration import parse

if TYPE_CHECKING:
    from trainrun.session.session import Result


def print_summary(result: Result, budget: str, quiet: bool) -> None:
    """With -q the folder alone, on stdout, once the run is complete."""
    folder, command = shlex.quote(str(result.run_dir)), shlex.join(ranks.command())
    if quiet:
        if result.state == "completed":
            answer(result.run_dir)
        return
    if result.state == "interrupted":
        say("", "to go on:", f"  {command} resume {folder}")
        return
    length, by_budget = parse(budget), result.reason == "budget"  # else more of it would change nothing
    twice = f"  {command} resume {folder} budget={2 * length.value:g}{length.unit}"
    judged = next((split for split in ("val", "test") if split in result.metrics), None)
    lines = [
        "",
        f"finished in {result.seconds:.1f} s{'' if by_budget else f', by {result.reason}'}: {folder}",
        result.kept,
        "next:",
        *([twice] if by_budget else []),
        *([f"  trainrun eval {folder} --split {judged}"] if judged else []),
        f"  trainrun doctor {folder}",
        f"  tensorboard --logdir {ROOT if ROOT in result.run_dir.parents else folder}",
    ]
    say(*lines)
