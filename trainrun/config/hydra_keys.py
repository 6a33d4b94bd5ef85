"""What may be said of Hydra itself: by the shell its launcher and sweeper, by a file a sweep's values.

Its callbacks, launchers, folders and logging run code and write files, before anything is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainrun.config.diagnose import Given
from trainrun.vocabulary.errors import Problem

_TYPED = ("launcher", "sweeper", "searchpath", "verbose")  # by the user, in the shell
_HOMES = ("hydra._internal.core_plugins.", "hydra_plugins.", "trainrun.sweep.")
_OURS = ("runtime", "overrides", "job.override_dirname", "job.num", "job.id")  # kept by Hydra and by us


def misplaced(given: Given) -> list[Problem]:
    """Problems of a word of the shell that is about Hydra."""
    key = given.key.replace("/", ".")
    if key in ("hydra.run.dir", "hydra.sweep.dir"):
        return [Problem(given.key, "is called run_dir here", f"run_dir={given.text.partition('=')[2]}")]
    if key.startswith("hydra.") and key.split(".")[1] not in _TYPED:
        taken = ", ".join(f"hydra.{name}" for name in _TYPED)
        return [Problem(given.key, f"no such setting here; of Hydra's own there are {taken}")]
    return []


def foreign(hydra: Mapping[str, Any], builtin: Mapping[str, Any], words: Collection[str]) -> list[Problem]:
    """Problems of Hydra's part of a composed config, unresolved: what neither we nor the shell said.

    `words` are the shell's overrides of Hydra.
    """
    typed = {word.lstrip("+~").partition("=")[0].replace("/", ".").removeprefix("hydra.") for word in words}
    ours, theirs = dict(_leaves(builtin)), dict(_leaves(hydra))
    changed = {key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)}
    found: dict[str, str] = {}
    for key in sorted(changed):
        is_typed = any(f"{key}.".startswith(f"{one}.") for one in typed)
        if key.endswith("_target_") and not str(theirs.get(key)).startswith(_HOMES):
            found[key] = f"{theirs.get(key)} is no part of Hydra"
        elif not is_typed and not any(f"{key}.".startswith(f"{one}.") for one in (*_OURS, "sweeper.params")):
            found[".".join(key.split(".")[:2])] = "comes from a file; of Hydra itself the shell alone decides"
        elif key.startswith("sweeper.params.hydra"):
            found[key] = "cannot be swept"
    return [Problem(f"hydra.{key}", text) for key, text in found.items()]


def _leaves(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
