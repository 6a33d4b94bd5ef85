"""`trainrun doctor RUN`: what went wrong in a stored run, by its records alone, and what to try."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.limits import Unreadable, check_text, read_text
from trainrun.config.paths import COMBINES
from trainrun.doctor.curves import Run, read
from trainrun.doctor.diagnosis import Diagnosis, diagnose
from trainrun.session.find_run import find_run
from trainrun.session.lineage import experiment_files
from trainrun.terminal.layout import paragraph
from trainrun.terminal.lines import Line, show
from trainrun.terminal.numbers import number, printable
from trainrun.vocabulary.events import to_line

FOUND = 3
_ABOUT = """Name what went wrong in a stored run, with the evidence and what to try. Reads its records alone.
Exit 0: healthy, or too short to be judged, 3: something was found."""
# What a run like this one does not take over: its place, and what only its owner may allow.
_OWN = ("run_dir", "name", "resume", "runtime.trust")


def run(words: list[str]) -> int:
    """The verdict goes to stdout."""
    parser = argparse.ArgumentParser(prog="trainrun doctor", description=_ABOUT)
    parser.add_argument("run", metavar="RUN", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    try:
        arguments = parser.parse_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    folder = find_run(arguments.run)
    examined = read(folder)
    findings, base = diagnose(examined), _overrides(folder)
    if arguments.json:
        print(to_line(_record(folder, examined, findings, base)), end="")
    else:
        show(_lines(folder, examined, findings, base), sys.stdout)
    return FOUND if findings else 0


def _lines(folder: Path, run: Run, findings: Sequence[Diagnosis], base: Sequence[str]) -> list[Line]:
    from rich.text import Text

    if not findings:
        verdict, colour = ("healthy", "green") if run.has_verdict else ("cannot be judged", "yellow")
        return [Text(line, colour) for line in paragraph(f"{verdict}: {_course(run)}", hanging="  ")]
    names = ", ".join(diagnosis.symptom.name for diagnosis in findings)
    lines: list[Line] = [*paragraph(f"{printable(str(folder))}: {names}", hanging="  ")]
    for diagnosis in findings:
        lines += ["", Text(diagnosis.symptom.name, "bold yellow")]
        lines += paragraph(f"seen    {diagnosis.evidence}", "  ", " " * 10)
        lines += paragraph(f"likely  {diagnosis.symptom.cause}", "  ", " " * 10)
        for place, remedy in enumerate(diagnosis.remedies):
            lines += paragraph(f"{'' if place else 'try':<8}{remedy.what}", "  ", " " * 10)
            lines.append(f"            {command(base, remedy.overrides)}")
    return lines


def _course(run: Run) -> str:
    """What the run came to, in numbers."""
    loss, val, metric = run.curve("train", "loss"), run.curve("val", "loss"), run.curve("val", run.metric)
    said = [f"{run.step} steps"]
    if len(loss) > 1:
        said.append(f"training loss {number(loss.values[0])} to {number(loss.values[-1])}")
    if len(val) > 1:
        said.append(f"validation loss {number(val.values[0])} to {number(val.values[-1])}")
    if metric and run.metric != "loss":
        best = max(metric.values) if run.higher_is_better else min(metric.values)
        said.append(f"best {run.metric} {number(best)}")
    state = run.status.get("state")
    ending = "died" if state == "died" else f"is {state}"
    open_end = f"; it {ending}, so this holds so far" if state in ("running", "interrupted", "died") else ""
    more = f"log more often, as with loop.log_every={max(1, run.step // 8)}step"
    few = "" if run.has_verdict else f"; too few points to see a trend: {more}"
    blind = "" if run.val else "; without a validation split nothing shows overfitting"
    unread = f"; {run.unread} lines of its records cannot be read, and are left out" if run.unread else ""
    return ", ".join(said) + open_end + few + blind + unread


def _record(folder: Path, run: Run, findings: Sequence[Diagnosis], base: Sequence[str]) -> dict[str, Any]:
    symptoms = [
        {
            "symptom": diagnosis.symptom.name,
            "evidence": diagnosis.evidence,
            "cause": diagnosis.symptom.cause,
            "remedies": [
                {
                    "what": remedy.what,
                    "overrides": list(remedy.overrides),
                    "command": command(base, remedy.overrides),
                }
                for remedy in diagnosis.remedies
            ],
        }
        for diagnosis in findings
    ]
    return {
        "run": str(folder),
        "healthy": run.has_verdict and not findings,
        "summary": _course(run),
        "symptoms": symptoms,
    }


def command(base: Sequence[str], overrides: Sequence[str]) -> str:
    """The run's own command with other settings, ready for bash and zsh."""
    words = list(base)
    for override in overrides:
        key, _, value = override.partition("=")
        before = [word for word in words if _key(word) == key]
        if key in COMBINES and before:
            names = [*re.split(r"[\[\],\s]+", before[-1].partition("=")[2].strip("[] ")), value]
            override = f"{key}=[{','.join(dict.fromkeys(filter(None, names)))}]"
        elif "." not in key:  # another option lacks the settings of this one
            words = [word for word in words if not _key(word).startswith(f"{key}.")]
        words = [word for word in words if _key(word) != key] + [override]
    return shlex.join(["trainrun", *words])


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _overrides(folder: Path) -> list[str]:
    """What the run was started with, but what was its own; nothing where that is not told."""
    try:
        text = read_text(folder / ".hydra" / "overrides.yaml")
        check_text(text, with_aliases=False)
        words = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, Unreadable, yaml.YAMLError, RecursionError):
        return []
    if not isinstance(words, list):
        return []
    plain = [word for word in words if isinstance(word, str) and "=" in word and word.isprintable()]
    files = experiment_files(folder)
    overrides = [word for word in plain if _key(word) not in _OWN and not _key(word).startswith("hydra.")]
    return [files.get(word, word) for word in overrides]
