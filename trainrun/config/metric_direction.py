"""Which way is better (larger or smaller), for the built-in metrics by name."""

from __future__ import annotations

from trainrun.config.task_facts import metric_modes

LARGER = tuple(name for name, mode in metric_modes().items() if mode == "max")
SMALLER = tuple(name for name, mode in metric_modes().items() if mode == "min")
