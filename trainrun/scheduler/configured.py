"""Schedulers of a LightningModule's `configure_optimizers`, stepped when Lightning's Trainer steps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainrun.vocabulary.errors import ConfigError


@dataclass(frozen=True)
class SchedulerConfig:
    """Lightning's dict of a scheduler: it steps after every so many steps or epochs."""

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None  # the metric that ReduceLROnPlateau follows, as the module logs it
    reduce_on_plateau: bool = False
    strict: bool = True
    name: str | None = None

    @property
    def follows_metric(self) -> bool:
        return self.reduce_on_plateau or isinstance(self.scheduler, ReduceLROnPlateau)

    def __str__(self) -> str:
        every = self.interval if self.frequency == 1 else f"{self.frequency} {self.interval}s"
        return f"{type(self.scheduler).__name__} every {every}"

    def is_due(self, update: int, steps_per_epoch: int | None) -> bool:
        """Whether it steps after that many updates; Lightning counts steps within their epoch."""
        epoch, step = divmod(update, steps_per_epoch) if steps_per_epoch else (0, update)
        if self.interval == "epoch":
            return step == 0 and epoch % self.frequency == 0
        return (step or steps_per_epoch or 0) % self.frequency == 0


class Configured:
    """Steps torch's schedulers, which set each group's `base_lr` themselves: the factor is always 1."""

    def __init__(self, optimizer: Optimizer, entries: Sequence[Any], steps_per_epoch: int | None) -> None:
        self.optimizer, self.steps_per_epoch = optimizer, steps_per_epoch
        self.configs = [_config(entry) for entry in entries]
        self.update, self.metric = 0, math.nan  # as of the last call, and the last evaluation
        if steps_per_epoch is None and any(config.interval == "epoch" for config in self.configs):
            raise _refusal("a scheduler by epochs, of which a stream has none; return interval 'step'")
        monitors = list(dict.fromkeys(c.monitor for c in self.configs if c.follows_metric))
        if len(monitors) > 1:
            raise _refusal(f"several monitors, {' and '.join(map(str, monitors))}")
        self.monitor, self.needs_metric = next(iter(monitors), None), bool(monitors)
        for number, group in enumerate(optimizer.param_groups):
            group["base_lr"] = group["lr"]
            group.setdefault("name", f"group {number}" if len(optimizer.param_groups) > 1 else "all")

    def __call__(self, update: int) -> tuple[float, float | None]:
        for count in range(self.update + 1, update + 1):
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"]  # without the factor of a rollback
            for config in (c for c in self.configs if c.is_due(count, self.steps_per_epoch)):
                if not config.follows_metric:
                    config.scheduler.step()
                elif math.isfinite(self.metric):
                    config.scheduler.step(self.metric)
            for group in self.optimizer.param_groups:
                group["base_lr"] = group["lr"]
        self.update = update
        return 1.0, None

    def observe(self, metric: float) -> None:
        self.metric = metric

    def state_dict(self) -> dict[str, Any]:
        states = [config.scheduler.state_dict() for config in self.configs]
        return {"update": self.update, "metric": self.metric, "schedulers": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.update, self.metric = state["update"], state["metric"]
        for config, stored in zip(self.configs, state["schedulers"], strict=True):
            config.scheduler.load_state_dict(stored)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else torch warns of its next step


def _config(entry: Any) -> SchedulerConfig:
    try:
        config = SchedulerConfig(**(entry if isinstance(entry, Mapping) else {"scheduler": entry}))
    except TypeError as error:
        raise _refusal(f"in a scheduler's dict, {str(error).partition(') ')[2]}") from None
    if not isinstance(config.scheduler, LRScheduler):
        raise _refusal(f"a {type(config.scheduler).__name__} as a scheduler")
    if config.interval not in ("step", "epoch") or config.frequency not in range(1, 10**9):
        raise _refusal(f"interval {config.interval!r} with frequency {config.frequency!r}")
    if config.follows_metric and config.monitor is None:
        raise _refusal("no monitor for ReduceLROnPlateau")
    return config


def _refusal(what: str) -> ConfigError:
    return ConfigError.of("optimizer", f"own cannot follow configure_optimizers, which returns {what}")
