"""Schedulers of a LightningModule's `configure_optimizers`, which step when Lightning's Trainer steps them."""

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
    """What Lightning's dict of a scheduler says: it steps after every so many steps or epochs."""

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

    @property
    def fault(self) -> str:
        """What is wrong with it, in words."""
        if not isinstance(self.scheduler, LRScheduler):
            return f"a {type(self.scheduler).__name__} as a scheduler"
        if self.interval not in ("step", "epoch") or not isinstance(self.frequency, int) or self.frequency < 1:
            return f"interval {self.interval!r} with frequency {self.frequency!r}"
        return "no monitor for ReduceLROnPlateau" if self.follows_metric and not self.monitor else ""

    def is_due(self, update: int, steps_per_epoch: int | None) -> bool:
        """Whether it steps after that many updates; Lightning counts steps within their epoch."""
        epoch, step = divmod(update, steps_per_epoch) if steps_per_epoch else (0, update)
        if self.interval == "epoch":
            return step == 0 and epoch % self.frequency == 0
        return (step or steps_per_epoch or 0) % self.frequency == 0


class Configured:
    """Steps torch's schedulers on the run's own optimizer, by the count of applied updates.

    They set each group's learning rate themselves, as its `base_lr`, so the factor is always 1.
    """

    def __init__(self, optimizer: Optimizer, entries: Sequence[Any], steps_per_epoch: int | None) -> None:
        self.optimizer, self.steps_per_epoch, self.update, self.metric = optimizer, steps_per_epoch, 0, math.nan
        self.configs = [_config(entry) for entry in entries]
        if steps_per_epoch is None and any(config.interval == "epoch" for config in self.configs):
            raise _refusal("a scheduler by epochs, of which a stream has none; return interval 'step'")
        monitors = [config.monitor for config in self.configs if config.follows_metric]
        self.monitor, self.needs_metric = next(iter(monitors), None), bool(monitors)
        if len(set(monitors)) > 1:
            raise _refusal(f"several monitors, {' and '.join(map(str, monitors))}")

    def __str__(self) -> str:
        texts = [
            f"{type(c.scheduler).__name__} every {c.interval if c.frequency == 1 else f'{c.frequency} {c.interval}s'}"
            for c in self.configs
        ]
        return " and ".join(texts) or "no schedule"

    def __call__(self, update: int) -> tuple[float, float | None]:
        while self.update < update:
            self.update += 1
            if due := [c for c in self.configs if c.is_due(self.update, self.steps_per_epoch)]:
                self._step(due)
        return 1.0, None

    def _step(self, due: Sequence[SchedulerConfig]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"]  # without the factor of a rollback
        for config in due:
            if not config.follows_metric:
                config.scheduler.step()
            elif math.isfinite(self.metric):
                config.scheduler.step(self.metric)
        for group in self.optimizer.param_groups:
            group["base_lr"] = group["lr"]

    def observe(self, metric: float) -> None:
        self.metric = metric

    def state_dict(self) -> dict[str, Any]:
        states = [config.scheduler.state_dict() for config in self.configs]
        return {"update": self.update, "metric": self.metric, "schedulers": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.update, self.metric = state["update"], state["metric"]
        for config, stored in zip(self.configs, state["schedulers"], strict=True):
            config.scheduler.load_state_dict(stored)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch warns of a step before the first


def _config(entry: Any) -> SchedulerConfig:
    try:
        config = SchedulerConfig(**(entry if isinstance(entry, Mapping) else {"scheduler": entry}))
    except TypeError as error:
        raise _refusal(f"in a scheduler's dict, {str(error).partition(') ')[2]}") from None
    if config.fault:
        raise _refusal(config.fault)
    return config


def _refusal(what: str) -> ConfigError:
    return ConfigError.of("optimizer", f"own cannot follow configure_optimizers, which returns {what}")
