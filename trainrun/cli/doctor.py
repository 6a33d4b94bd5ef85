"""`trainrun doctor RUN`: what went wrong in a stored run, by its records alone, and what to try."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainrun.cli.arguments import ArgumentParser
from trainrun.doctor.curves import RecordedRun, read
from trainrun.doctor.diagnosis import Diagnosis, diagnose
from trainrun.doctor.verdict import command, record, started_with, summary
from trainrun.session.find_run import find_run
from trainrun.terminal.layout import paragraph
from trainrun.terminal.lines import Line, show
from trainrun.terminal.numbers import printable
from trainrun.vocabulary.events import to_line

FOUND = 3
_ABOUT = """Name what went wrong in a stored run, with the evidence and what to try. Reads its records alone.
Exit 0: healthy, or too short for a verdict, 3: something was found."""


def run(words: list[str]) -> int:
    """The verdict goes to stdout."""
    parser = ArgumentParser(prog="trainrun doctor", description=_ABOUT)
    parser.add_argument("run", metavar="RUN", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(words)
    folder = find_run(arguments.run)
    examined = read(folder)
    findings, base = diagnose(examined), started_with(folder)
    if arguments.json:
        print(to_line(record(folder, examined, findings, base)), end="")
    else:
        show(_lines(folder, examined, findings, base), sys.stdout)
    return FOUND if findings else 0


def _lines(folder: Path, run: RecordedRun, findings: Sequence[Diagnosis], base: Sequence[str]) -> list[Line]:
    from rich.text import Text

    if not findings:
        verdict, colour = ("healthy", "green") if run.has_verdict else ("no verdict", "yellow")
        return [Text(line, colour) for line in paragraph(f"{verdict}: {summary(run)}", hanging="  ")]
    names = ", ".join(diagnosis.symptom.name for diagnosis in findings)
    lines: list[Line] = [*paragraph(f"{printable(str(folder))}: {names}", hanging="  ")]
    for diagnosis in findings:
        lines += ["", Text(diagnosis.symptom.name, "bold yellow")]
        lines += paragraph(f"seen    {diagnosis.evidence}", "  ", " " * 10)
        lines += paragraph(f"likely  {diagnosis.symptom.cause}", "  ", " " * 10)
        for place, remedy in enumerate(diagnosis.remedies):
            lines += paragraph(f"{'' if place else 'try':<8}{remedy.what}", "  ", " " * 10)
            lines.append(f"            {command(run.num_ranks, base, remedy.overrides)}")
    return lines
