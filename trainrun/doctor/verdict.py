"""The verdict on a stored run: a summary in numbers, and the run's own command with each remedy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.limits import UnreadableError, check_text, read_text
from trainrun.config.overrides import key_of
from trainrun.config.paths import COMBINES
from trainrun.doctor.curves import RecordedRun
from trainrun.doctor.diagnosis import Diagnosis
from trainrun.ranks.launcher import torchrun
from trainrun.session.provenance import experiment_files
from trainrun.terminal.numbers import number

# What a run like this one does not take over: its place, and what only its owner may allow.
_OWN = ("run_dir", "name", "resume", "runtime.trust")


def summary(run: RecordedRun) -> str:
    """What the run came to, in numbers."""
    said = [f"{run.step} steps"]
    for part, name in (("train", "training"), ("val", "validation")):
        loss = run.curve(part, "loss").values
        if len(loss) > 1:
            said.append(f"{name} loss {number(loss[0])} to {number(loss[-1])}")
    metric = run.curve("val", run.metric).values
    if metric and run.metric != "loss":
        said.append(f"best {run.metric} {number(max(metric) if run.higher_is_better else min(metric))}")
    notes, state = [", ".join(said)], run.status.get("state")
    if state in ("running", "interrupted", "died"):
        notes.append(f"it {'died' if state == 'died' else f'is {state}'}, so this holds so far")
    if not run.has_verdict:
        more = f"log more often, as with loop.log_every={max(1, run.step // 8)}step"
        notes.append(f"too few points to see a trend: {more}")
    if not run.val:
        notes.append("without a validation split nothing shows overfitting")
    if run.unread:
        notes.append(f"{run.unread} lines of its records cannot be read, and are left out")
    return "; ".join(notes)


def record(
    folder: Path, run: RecordedRun, findings: Sequence[Diagnosis], base: Sequence[str]
) -> dict[str, Any]:
    """The verdict as JSON writes it."""
    symptoms = [
        {
            "symptom": diagnosis.symptom.name,
            "evidence": diagnosis.evidence,
            "cause": diagnosis.symptom.cause,
            "remedies": [
                {
                    "what": r.what,
                    "overrides": list(r.overrides),
                    "command": command(run.num_ranks, base, r.overrides),
                }
                for r in diagnosis.remedies
            ],
        }
        for diagnosis in findings
    ]
    healthy = run.has_verdict and not findings
    return {"run": str(folder), "healthy": healthy, "summary": summary(run), "symptoms": symptoms}


def command(num_ranks: int, base: Sequence[str], overrides: Sequence[str]) -> str:
    """The run's own command with other settings, for as many ranks, ready for bash and zsh."""
    words = list(base)
    for override in overrides:
        key, _, value = override.partition("=")
        before = [word for word in words if key_of(word) == key]
        if key in COMBINES and before:
            names = [*re.split(r"[\[\],\s]+", before[-1].partition("=")[2].strip("[] ")), value]
            override = f"{key}=[{','.join(dict.fromkeys(filter(None, names)))}]"
        elif "." not in key:  # another option lacks the settings of this one
            words = [word for word in words if not key_of(word).startswith(f"{key}.")]
        words = [word for word in words if key_of(word) != key] + [override]
    return shlex.join([*torchrun(num_ranks), *words])


def started_with(folder: Path) -> list[str]:
    """What the run was started with, but what was its own; nothing where that is not told."""
    try:
        text = read_text(folder / ".hydra" / "overrides.yaml")
        check_text(text, with_aliases=False)
        words = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, UnreadableError, yaml.YAMLError, RecursionError):
        return []
    if not isinstance(words, list):
        return []
    files = experiment_files(folder)
    plain = [word for word in words if isinstance(word, str) and "=" in word and word.isprintable()]
    overrides = [word for word in plain if key_of(word) not in _OWN and not key_of(word).startswith("hydra.")]
    return [files.get(word, word) for word in overrides]
