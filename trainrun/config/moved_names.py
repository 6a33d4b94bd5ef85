"""Names that have moved since older runs were stored: old dotted name -> new one."""

from __future__ import annotations

from typing import Any

MOVED = {
    "trainrun.runtime.runtime": "trainrun.runtime.machine.runtime",
    "trainrun.regularization.penalty.L1": "trainrun.regularization.penalty.L1Penalty",
    "trainrun.step.Clip": "trainrun.loop.step.Clip",
    "trainrun.step.Step": "trainrun.loop.step.Step",
}
_FIRST = {new: old for old, new in MOVED.items()}


def with_new_names(settings: Any) -> Any:
    """Settings of an older run, each call by the name that it has today."""
    return _renamed(settings, MOVED)


def with_first_names(settings: Any) -> Any:
    """Settings, each call by the name that it had first: what a sweep's jobs are known by stays."""
    return _renamed(settings, _FIRST)


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        settings = {key: _renamed(value, names) for key, value in node.items()}
        target = node.get("_target_")
        return settings | {"_target_": names.get(target, target)} if isinstance(target, str) else settings
    return [_renamed(value, names) for value in node] if isinstance(node, list) else node
