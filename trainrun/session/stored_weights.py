"""Choose stored weights: a run's checkpoint (best, last or a step), or what `init_from` names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainrun.assembly.build import Parts
from trainrun.checkpoint import reader
from trainrun.checkpoint.fetch import load_eval_weights
from trainrun.checkpoint.weights import Weights, read_checkpoint, read_file
from trainrun.model.pretrained import PRETRAINED, download
from trainrun.run.files import object_in, read_json
from trainrun.session.find_run import find_run
from trainrun.vocabulary.errors import ResumeError

_FILES = (".pt", ".pth", ".bin", ".safetensors")  # that hold weights


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
    run_id = reader.run_id_of(run_dir)
    problems = {
        step: reader.problem_of(reader.path_of(folder, step), run_id) for step in reader.steps_in(folder)
    }
    steps = [step for step, problem in problems.items() if problem is None]
    if not steps:
        damage = [f"{reader.path_of(folder, step).name} {problem}" for step, problem in problems.items()]
        text = "; ".join(damage) if damage else "restore that folder, or train again"
        raise ResumeError(f"checkpoint: {folder} holds no valid checkpoint: {text}")
    # status.json also has an evaluation after the last save.
    recorded = object_in(read_json(run_dir / "status.json"), "best").get("step")
    saved = reader.manifest_of(reader.path_of(folder, steps[-1]))["best_step"]
    best = next((step for step in (recorded, saved) if step in steps), None)
    step = {"last": steps[-1], "best": best or steps[-1]}.get(checkpoint)
    if step is None and checkpoint.isdecimal():
        step = int(checkpoint)
    if step is None or step not in steps:
        text = f"there are best, last and steps {', '.join(map(str, steps))}"
        raise ResumeError(f"checkpoint: there is none of {checkpoint}; {text}")
    return CheckpointChoice(reader.path_of(folder, step), step, step == best, step == steps[-1])


def load_weights(parts: Parts, choice: CheckpointChoice) -> str:
    """Load the weights that a checkpoint is evaluated with; returns which they are: raw or an average."""
    stored = reader.load_parts(choice.path)
    if problem := reader.problem_in(stored, choice.step):
        raise ResumeError(f"checkpoint: {choice.path} {problem}")
    weights = load_eval_weights(parts.state.model, choice.path, stored)
    parts.state.check_fitted(stored)
    if parts.state.features is not None:
        parts.state.features.load_state_dict(stored["features"])
    parts.data.restore(stored["fitted"])
    return weights


def weights_from(source: str) -> Weights:
    """The weights that `source` means; of a run those of its best checkpoint. Raises ResumeError."""
    path = Path(source).expanduser()
    if path.suffix in _FILES and not (path / "config.yaml").is_file():
        return read_file(path)
    if (path / "manifest.json").is_file():
        return read_checkpoint(path)
    if path.is_file():
        raise ResumeError(f"init_from: {path} must end in one of {', '.join(_FILES)}")
    try:
        return read_checkpoint(choose_checkpoint(find_run(source), "best").path)
    except ResumeError as error:
        raise ResumeError(re.sub("^(RUN|checkpoint):", "init_from:", str(error))) from None


def initial_weights(settings: Mapping[str, Any]) -> Weights | None:
    """The weights that settings start from; None where `init_from` is null. Raises as `weights_from` does."""
    source = settings["init_from"]
    if source != PRETRAINED:
        return weights_from(source) if source else None
    description, tensors = download(settings["model"])
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return Weights(Path(PRETRAINED), digest.hexdigest(), description, tensors)


def stored_weights(settings: Mapping[str, Any], run_dir: Path) -> Weights | None:
    """The weights that a stored run began with, which it needs until its first checkpoint.

    Raises ResumeError where the file has changed since.
    """
    if settings["init_from"] is None or reader.steps_in(run_dir / "checkpoints"):
        return None
    weights = initial_weights(settings)
    assert weights is not None
    environment = read_json(run_dir / "environment.json")
    if object_in(environment, "init_from").get("sha256", weights.sha256) != weights.sha256:
        raise ResumeError(
            f"init_from: {settings['init_from']} has changed since the run began; start a new run"
        )
    return weights
