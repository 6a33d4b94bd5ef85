"""Build the model, data and optimizer of a run: of a new one, or of a stored one again, with overrides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun import ranks
from trainrun.assembly.build import Parts, build
from trainrun.config import imports
from trainrun.config.call import StoredOrigin
from trainrun.config.check import check
from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.overrides import key_of
from trainrun.config.stored import parse_stored, stored_text
from trainrun.run import signing
from trainrun.session.stored_weights import initial_weights, stored_weights
from trainrun.session.teacher import with_teacher
from trainrun.vocabulary.errors import ConfigError

AS_WRITTEN = "runtime.activation_checkpointing=null"  # for what trains nothing


@dataclass(frozen=True)
class StoredRun:
    """A run's folder as live parts. `before` are its settings as stored, `composition` with the overrides."""

    parts: Parts
    before: Mapping[str, Any]
    composition: Composition


def build_new(settings: Mapping[str, Any]) -> Parts:
    """Build a new run, with the weights that it starts from and the teacher that it learns from."""
    return with_teacher(build(settings, weights=initial_weights(settings)))


def open_run(run_dir: Path, overrides: Sequence[str] = (), typed: Collection[str] = ()) -> StoredRun:
    """Build a stored run. Raises ResumeError for settings that no run would store.

    The user's modules are imported where the user's key has signed the run, and where the user names
    them: in `overrides`, by runtime.trust, or as one of the targets `typed` elsewhere.
    """
    file, composer = run_dir / "config.yaml", Composer()
    text = stored_text(file)
    tree = parse_stored(text, file)
    before = composer.compose_stored(tree, [], run_dir)
    composition = composer.compose_stored(tree, list(overrides), run_dir) if overrides else before
    settings = composition.settings
    # What the folder itself says of trust does not count.
    trusted = settings["runtime"].get("trust") if "runtime.trust" in map(key_of, overrides) else None
    trust = tuple(map(str, trusted)) if isinstance(trusted, list) else ()
    doubt = ranks.broadcast_object(signing.doubt(run_dir, text) or "") or None  # other ranks may have no key
    named = {*typed, *_named_in(overrides, before.settings, settings)}
    stored = StoredOrigin(run_dir, doubt, named)
    imports.admit(None if doubt is None else {*trust, *named})
    if problems := check(settings, trust=trust, stored=stored):
        raise ConfigError(problems)
    weights = stored_weights(before.settings, run_dir)
    return StoredRun(build(settings, stored, trust, weights), before.settings, composition)


def targets_of(settings: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, dotted name) of whatever settings call."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == "_target_":
                yield path, str(value)
            elif path == "data" and key in ("collate", "sampler") and isinstance(value, str):
                yield f"data.{key}", value
            else:
                yield from targets_of(value, f"{path}.{key}" if path else str(key))
    elif isinstance(settings, list):
        for value in settings:
            if path in ("task.metrics", "loop.probes") and isinstance(value, str):
                yield path, value
            else:
                yield from targets_of(value, path)


def _named_in(overrides: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The targets that words of the user put into stored settings, or the options they choose."""
    keys, stored = {key_of(word) for word in overrides}, set(targets_of(before))
    for path, target in targets_of(after):
        is_chosen = path.split(".")[0] in keys
        if is_chosen or (path, target) not in stored or f"{path}._target_" in keys:
            yield target
