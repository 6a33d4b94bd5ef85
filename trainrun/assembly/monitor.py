"""Choose the monitored metric of a run, and which way is better."""

from __future__ import annotations

from trainrun.assembly.factory import Settings
from trainrun.loop.evaluator import Monitor
from trainrun.protocols import DataInfo, TaskProtocol
from trainrun.vocabulary.errors import ConfigError


def monitor_of(settings: Settings, info: DataInfo, task: TaskProtocol) -> Monitor | None:
    """The metric that decides, and which way is better. Raises ConfigError for one that will not exist."""
    if info.sizes.get("val") == 0:
        return None
    name, mode = settings["monitor"].removeprefix("val/"), settings["monitor_mode"]
    modes = dict(task.metric_modes)
    if name not in modes and name.partition("/")[0] not in task.own_metrics:
        available = ", ".join(f"val/{metric}" for metric in (*modes, *task.own_metrics))
        fix = "monitor=val/loss" if "loss" in modes else None
        raise ConfigError.of("monitor", f"the task has no metric {name}; there are {available}", fix)
    if mode == "auto" and name not in modes:
        raise ConfigError.of("monitor_mode", f"must be max or min for your own metric {name}")
    return Monitor(name, (modes[name] if mode == "auto" else mode) == "max")
