"""A stored run as live parts again: from its folder alone, or with a few settings changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from trainrun import ranks
from trainrun.assembly.build import Parts, build
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
from trainrun.checkpoint.weights import Weights, read_checkpoint, read_file
from trainrun.config import imports
from trainrun.config.call import StoredOrigin
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.overrides import key_of
from trainrun.config.stored import parse_stored, stored_text
from trainrun.config.suggest import hydra_value
from trainrun.run import signing
from trainrun.run.directory import find_run
from trainrun.run.files import object_in, read_json
from trainrun.session.find_run import find_run as find_aloud
from trainrun.vocabulary.errors import CannotResume, ConfigError

_FILES = (".pt", ".pth", ".bin", ".safetensors")  # that hold weights


@dataclass(frozen=True)
class StoredRun:
    """A run's folder as live parts. `before` are its settings as stored, `composition` with the overrides."""

    parts: Parts
    before: Mapping[str, Any]
    composition: Composition


def open_run(run_dir: Path, overrides: Sequence[str] = (), typed: Collection[str] = ()) -> StoredRun:
    """Build a stored run. Raises CannotResume for settings that no run would store.

    The user's modules are imported where the user's key has signed the run, and where the user names
    them: in `overrides`, by runtime.trust, or as one of the targets `typed` elsewhere.
    """
    file, composer = run_dir / "config.yaml", Composer()
    text = stored_text(file)
    tree = parse_stored(text, file)
    before = composer.compose_stored(tree, [], run_dir)
    composition = composer.compose_stored(tree, list(overrides), run_dir) if overrides else before
    settings = composition.settings
    trust = _trust_in(overrides, settings)
    doubt = ranks.broadcast_object(signing.doubt(run_dir, text) or "") or None  # the others may have no key
    named = {*typed, *_named_in(overrides, before.settings, settings)}
    stored = StoredOrigin(run_dir, doubt, named)
    imports.admit(None if doubt is None else {*trust, *named})
    if problems := check(settings, trust=trust, stored=stored):
        raise ConfigError(problems)
    weights = weights_again(before.settings["init_from"], run_dir)
    return StoredRun(build(settings, stored, trust, weights), before.settings, composition)


def _trust_in(overrides: Sequence[str], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the user trusts; what the folder says of that is not asked."""
    trust = settings["runtime"].get("trust") if "runtime.trust" in map(key_of, overrides) else ()
    return tuple(map(str, trust)) if isinstance(trust, list) else ()


def targets_of(settings: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """(place, dotted name) of whatever settings call."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == "_target_":
                yield at, str(value)
            else:
                yield from targets_of(value, f"{at}.{key}" if at else str(key))
    elif isinstance(settings, list):
        for value in settings:
            if at == "task.metrics" and isinstance(value, str):
                yield at, value
            else:
                yield from targets_of(value, at)


def _named_in(overrides: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The targets that words of the user put into stored settings, or the options they choose."""
    keys, stored = {key_of(word) for word in overrides}, set(targets_of(before))
    for place, target in targets_of(after):
        is_chosen = place.split(".")[0] in keys
        if is_chosen or (place, target) not in stored or f"{place}._target_" in keys:
            yield target


@dataclass(frozen=True)
class CheckpointChoice:
    """A checkpoint of a run, and what is special about it."""

    path: Path
    step: int
    is_best: bool  # on the monitored metric
    is_last: bool


def choose(run_dir: Path, checkpoint: str) -> CheckpointChoice:
    """The checkpoint that `best`, `last` or a step means; without a best one, `best` is the last."""
    folder = run_dir / "checkpoints"
    run_id = run_id_of(run_dir)
    problems = {step: problem_of(path_of(folder, step), run_id) for step in steps_in(folder)}
    steps = [step for step, problem in problems.items() if problem is None]
    if not steps:
        damage = [f"{path_of(folder, step).name} {problem}" for step, problem in problems.items()]
        text = "; ".join(damage) if damage else "restore that folder, or train anew"
        raise CannotResume(f"checkpoint: {folder} holds no valid checkpoint: {text}")
    best = _best_step(run_dir, steps)
    wanted = {"last": steps[-1], "best": best or steps[-1]}.get(checkpoint)
    step = wanted if wanted is not None else int(checkpoint) if checkpoint.isdigit() else -1
    if step not in steps:
        shown = ", ".join(map(str, steps))
        raise CannotResume(
            f"checkpoint: there is none of {checkpoint}; there are best, last and steps {shown}"
        )
    return CheckpointChoice(path_of(folder, step), step, step == best, step == steps[-1])


def load_choice(parts: Parts, choice: CheckpointChoice) -> str:
    """Load a checkpoint's judged weights into the model; returns which they are: raw or an average."""
    stored = load_parts(choice.path)
    if problem := problem_in(stored, choice.step):
        raise CannotResume(f"checkpoint: {choice.path} {problem}")
    weights = load_eval_weights(parts.state.model, choice.path, stored)
    parts.state.check_fitted(stored)
    parts.data.restore(stored["fitted"])
    return weights


def load_weights(parts: Parts, run_dir: Path, checkpoint: str) -> tuple[int, str]:
    """Load a checkpoint's judged weights into the model: `best`, `last` or a step; returns (step, which)."""
    choice = choose(run_dir, checkpoint)
    return choice.step, load_choice(parts, choice)


def _best_step(run_dir: Path, steps: Sequence[int]) -> int | None:
    """By status.json, which also knows of an evaluation after the last save, else by that save."""
    newest = manifest_of(path_of(run_dir / "checkpoints", steps[-1]))
    recorded = object_in(read_json(run_dir / "status.json"), "best").get("step")
    known = [step for step in steps if step in (recorded, newest["best_step"])]
    return recorded if recorded in known else known[-1] if known else None


def weights_from(source: str) -> Weights:
    """The weights that `source` means; of a run those of its best checkpoint. Raises CannotResume."""
    path = Path(source).expanduser()
    if path.suffix in _FILES and not (path / "config.yaml").is_file():
        return read_file(path)
    if (path / "manifest.json").is_file():
        return read_checkpoint(path)
    if path.is_file():
        raise CannotResume(f"init_from: {path} is none of {', '.join(_FILES)}")
    try:
        return read_checkpoint(choose(find_aloud(source), "best").path)
    except CannotResume as error:
        raise CannotResume(re.sub("^(RUN|checkpoint):", "init_from:", str(error))) from None


def weights_again(source: str | None, run_dir: Path) -> Weights | None:
    """The same for a stored run, which needs them only until its first checkpoint.

    Raises CannotResume where they are no longer those that it began with.
    """
    if source is None or steps_in(run_dir / "checkpoints"):
        return None
    weights = weights_from(source)
    begun = object_in(read_json(run_dir / "environment.json"), "init_from").get("sha256", weights.sha256)
    if begun != weights.sha256:
        raise CannotResume(f"init_from: {source} has changed since the run began; start a new run")
    return weights


def load(run: str, checkpoint: str | None = "best", trust: Sequence[str] = ()) -> nn.Module:
    """`trainrun.load(RUN)`: the trained model of a run, on its device, in evaluation mode.

    `checkpoint`: best, last, a step, or None for the model as it was built.
    """
    run_dir = find_run(run)
    overrides = [f"runtime.trust={hydra_value(list(trust))}"] if trust else []
    parts = open_run(run_dir, overrides).parts
    if checkpoint is not None:
        load_weights(parts, run_dir, checkpoint)
    return parts.state.model.eval()


def changes(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> dict[str, tuple[Any, Any]]:
    """key -> (old, new) of every value that differs."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**before, **after}:
        path = f"{at}.{key}" if at else str(key)
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= changes(old, new, path)
        elif old != new or type(old) is not type(new):
            found[path] = (old, new)
    return found
