"""Choose a stored run's checkpoint (best, last or a step) and load the weights it is evaluated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainrun.assembly.build import Parts
from trainrun.checkpoint.reader import (
    load_eval_weights,
    load_parts,
    manifest_of,
    path_of,
    problem_in,
    problem_of,
    run_id_of,
    steps_in,
)
from trainrun.run.files import object_in, read_json
from trainrun.vocabulary.errors import ResumeError


@dataclass(frozen=True)
class CheckpointChoice:
    """A checkpoint of a run, and what is special about it."""

    path: Path
    step: int
    is_best: bool  # on the monitored metric
    is_last: bool


def choose_checkpoint(run_dir: Path, checkpoint: str) -> CheckpointChoice:
    """The checkpoint that `best`, `last` or a step means; without a best one, `best` is the last."""
    folder = run_dir / "checkpoints"
    run_id = run_id_of(run_dir)
    problems = {step: problem_of(path_of(folder, step), run_id) for step in steps_in(folder)}
    steps = [step for step, problem in problems.items() if problem is None]
    if not steps:
        damage = [f"{path_of(folder, step).name} {problem}" for step, problem in problems.items()]
        text = "; ".join(damage) if damage else "restore that folder, or train again"
        raise ResumeError(f"checkpoint: {folder} holds no valid checkpoint: {text}")
    best = _best_step(run_dir, steps)
    step = {"last": steps[-1], "best": best or steps[-1]}.get(checkpoint)
    if step is None and checkpoint.isdecimal():
        step = int(checkpoint)
    if step is None or step not in steps:
        shown = ", ".join(map(str, steps))
        raise ResumeError(
            f"checkpoint: there is none of {checkpoint}; there are best, last and steps {shown}"
        )
    return CheckpointChoice(path_of(folder, step), step, step == best, step == steps[-1])


def load_weights(parts: Parts, choice: CheckpointChoice) -> str:
    """Load the weights that a checkpoint is evaluated with; returns which they are: raw or an average."""
    stored = load_parts(choice.path)
    if problem := problem_in(stored, choice.step):
        raise ResumeError(f"checkpoint: {choice.path} {problem}")
    weights = load_eval_weights(parts.state.model, choice.path, stored)
    parts.state.check_fitted(stored)
    parts.data.restore(stored["fitted"])
    return weights


def _best_step(run_dir: Path, steps: Sequence[int]) -> int | None:
    """By status.json, which also has an evaluation after the last save, else by that save."""
    newest = manifest_of(path_of(run_dir / "checkpoints", steps[-1]))["best_step"]
    recorded = object_in(read_json(run_dir / "status.json"), "best").get("step")
    return next((step for step in (recorded, newest) if step in steps), None)
