"""Distillation: open the stored run that a run learns from, its teacher, and give it to the loss."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.assembly.factory import Factory
from trainrun.checkpoint import reader
from trainrun.checkpoint.fetch import load_eval_weights
from trainrun.checkpoint.state import require_same_data
from trainrun.config.call import StoredOrigin
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer
from trainrun.config.stored import parse_stored, stored_text
from trainrun.config.suggest import hydra_value
from trainrun.loss import Distillation
from trainrun.run import signing
from trainrun.run.files import object_in, read_json
from trainrun.session.find_run import find_run
from trainrun.session.stored_weights import choose_checkpoint
from trainrun.vocabulary.errors import ConfigError, DataError, Problem, ResumeError

_KEY = "loss.teacher"
_ANY = ("num_workers", "root", "eval_batch_size", "balanced")  # of the data, which no sample depends on


def with_teacher(parts: Parts, run_dir: Path | None = None) -> Parts:
    """The parts; a loss that learns from a teacher has it. `run_dir`: the run that goes on.

    Raises ResumeError for a teacher that cannot be read or has changed since the run began, ConfigError
    and DataError for one that does not fit.
    """
    loss = getattr(parts.task, "loss", None)
    if not isinstance(loss, Distillation):
        return parts
    try:
        path = _checkpoint(loss.teacher)
        stored = _content(path)
        sha256 = reader.identity_of(reader.manifest_of(path))
        began_with = object_in(read_json(run_dir / "environment.json"), "teacher") if run_dir else {}
        if began_with.get("sha256", sha256) != sha256:
            raise ResumeError(f"{_KEY}: {path} has changed since the run began; start a new run")
        make = _factory(path.parent.parent, parts.make.trust)
        _require_same_samples(parts, make, stored)
        model = parts.another_model(make)
        weights = load_eval_weights(model, path, stored)
    except ResumeError as error:
        raise ResumeError(re.sub("^(RUN|checkpoint):", f"{_KEY}:", str(error))) from None
    loss.network = model.to(parts.runtime.device).requires_grad_(False).eval()
    text = f"the {weights} weights in {path}, {loss.alpha:g} of the loss at temperature {loss.temperature:g}"
    return replace(parts, plan=(*parts.plan, ("teacher", text)), teacher=(path, sha256))


def _checkpoint(teacher: str) -> Path:
    """The folder of the checkpoint that is meant: itself, or the best of a run."""
    path = Path(teacher).expanduser()
    if (path / "manifest.json").is_file():
        return path
    return choose_checkpoint(find_run(teacher), "best").path


def _content(path: Path) -> dict[str, Any]:
    """The parts that a checkpoint stores, which is whole."""
    if problem := reader.problem_of(path, None):
        raise ResumeError(f"{_KEY}: {path} {problem}")
    stored = reader.load_parts(path)
    if problem := reader.problem_in(stored, int(reader.manifest_of(path)["step"])):
        raise ResumeError(f"{_KEY}: {path} {problem}")
    return stored


def _factory(run_dir: Path, trust: tuple[str, ...]) -> Factory:
    """What makes the teacher's parts: of a stranger's run only what the user trusts by name."""
    file = run_dir / "config.yaml"
    text = stored_text(file)
    settings = Composer().compose_stored(parse_stored(text, file), [], run_dir).settings
    doubt = ranks.broadcast_object(signing.doubt(run_dir, text) or "") or None
    stored = StoredOrigin(run_dir, doubt)
    if problems := check(settings, trust=trust, stored=stored):
        raise ConfigError([Problem(_KEY, f"{run_dir}: {problem}", problem.fix) for problem in problems])
    return Factory(settings, stored, trust)


def _require_same_samples(parts: Parts, make: Factory, stored: Mapping[str, Any]) -> None:
    """Raise where teacher and run would see other inputs or classes, or split the data in another way."""
    ours, theirs = parts.settings["data"], make.settings["data"]
    for key in [key for key in {**theirs, **ours} if key not in _ANY and theirs.get(key) != ours.get(key)]:
        name = "data" if key == "_target_" else f"data.{key}"
        values = [hydra_value(settings.get(key)) for settings in (theirs, ours)]
        text = f"was trained with {name}={values[0]}, this run has {values[1]}"
        raise ConfigError.of(_KEY, f"{text}; choose the same data")
    try:
        require_same_data(stored["data"], parts.state.data)
    except DataError as error:
        raise DataError(
            f"{_KEY}: {str(error).removeprefix('data: the run ').rpartition('; bring')[0]}"
        ) from None
    if not _is_same(stored["fitted"], parts.state.fitted):
        raise DataError(f"{_KEY}: its inputs were standardised by other numbers; train it anew on these data")


def _is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_is_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours.cpu(), theirs.cpu())
    return bool(ours == theirs)
