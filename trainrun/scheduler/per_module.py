"""A schedule for each module that has an optimizer of its own."""

from __future__ import annotations

from collections.abc import Mapping

from trainrun.protocols import Schedule


class ModuleSchedules:
    """`modules[name]` is the schedule of that module's learning rates; the first stands for all in previews."""

    def __init__(self, modules: Mapping[str, Schedule]) -> None:
        self.modules = dict(modules)

    def __call__(self, update: int) -> tuple[float, float | None]:
        return next(iter(self.modules.values()))(update)


def per_module(modules: dict[str, Schedule]) -> ModuleSchedules:
    """The schedule that is named for each module, by the count of all updates."""
    return ModuleSchedules(modules)
