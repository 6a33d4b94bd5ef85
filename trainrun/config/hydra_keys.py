"""Settings of Hydra itself: the shell may set its launcher and sweeper, a file only a sweep's values.

Its callbacks, launchers, folders and logging run code and write files, before anything is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from trainrun.config.diagnose import ParsedOverride
from trainrun.config.overrides import key_of
from trainrun.config.tree import leaves
from trainrun.vocabulary.errors import Problem

_TYPED = ("launcher", "sweeper", "searchpath", "verbose")  # by the user, in the shell
_HOMES = ("hydra._internal.core_plugins.", "hydra_plugins.", "trainrun.sweep.")
_OURS = ("runtime", "overrides", "job.override_dirname", "job.num", "job.id")  # kept by Hydra and by us


def misplaced(word: ParsedOverride) -> list[Problem]:
    """Problems of a word of the shell that is about Hydra."""
    key = word.key.replace("/", ".")
    if key in ("hydra.run.dir", "hydra.sweep.dir"):
        return [Problem(word.key, "is called run_dir here", f"run_dir={word.value}")]
    if key.startswith("hydra.") and key.split(".")[1] not in _TYPED:
        allowed = ", ".join(f"hydra.{name}" for name in _TYPED)
        return [Problem(word.key, f"cannot be set here; of Hydra's own settings you can set {allowed}")]
    return []


def foreign(hydra: Mapping[str, Any], builtin: Mapping[str, Any], words: Collection[str]) -> list[Problem]:
    """Problems of Hydra's part of a config, unresolved: what neither we nor the shell's `words` said."""
    typed = {key_of(word).replace("/", ".").removeprefix("hydra.") for word in words}
    ours, theirs = dict(leaves(builtin)), dict(leaves(hydra))
    problems: dict[str, str] = {}
    for key in sorted(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)):
        if key.endswith("_target_") and not str(theirs.get(key)).startswith(_HOMES):
            problems[key] = f"{theirs.get(key)} is not part of Hydra"
        elif not _is_below(key, typed) and not _is_below(key, (*_OURS, "sweeper.params")):
            problems[".".join(key.split(".")[:2])] = "is set in a file; only the command line may set it"
        elif key.startswith("sweeper.params.hydra"):
            problems[key] = "cannot be swept"
    return [Problem(f"hydra.{key}", text) for key, text in problems.items()]


def _is_below(key: str, paths: Collection[str]) -> bool:
    return any(f"{key}.".startswith(f"{path}.") for path in paths)
