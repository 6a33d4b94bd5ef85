"""Schedulers of a LightningModule's `configure_optimizers`, stepped when Lightning's Trainer steps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from trainrun.vocabulary.errors import ConfigError

_DEFAULTS = {"interval": "epoch", "frequency": 1, "monitor": None, "reduce_on_plateau": False}
_IGNORED = {"strict", "name"}  # what a missing metric leads to, and a name for Lightning's own log


class Configured:
    """Steps torch's schedulers, which set each group's `base_lr` themselves: the factor is always 1."""

    sets_groups = True  # rates and momentum, whose stored values a resume goes on with

    def __init__(self, optimizer: Optimizer, entries: Sequence[Any], steps_per_epoch: int | None) -> None:
        self.optimizer, self.steps_per_epoch = optimizer, steps_per_epoch
        self.configs = [_config(entry, steps_per_epoch) for entry in entries]
        self.update, self.metric = 0, math.nan  # as of the last call, and the last evaluation
        monitors = list(dict.fromkeys(c["monitor"] for c in self.configs if c["reduce_on_plateau"]))
        if len(monitors) > 1:
            raise _refusal(f"several monitors, {' and '.join(monitors)}")
        self.monitor, self.needs_metric = next(iter(monitors), None), bool(monitors)
        for number, group in enumerate(optimizer.param_groups):
            group["base_lr"] = group["lr"]
            group.setdefault("name", f"group {number}" if len(optimizer.param_groups) > 1 else "all")

    def __str__(self) -> str:
        shown = [(type(c["scheduler"]).__name__, c["frequency"], c["interval"]) for c in self.configs]
        texts = [f"{name} every {f'{n} {what}s' if n > 1 else what}" for name, n, what in shown]
        return " and ".join(texts) or "no schedule"

    def refuse_short(self, total_steps: int | None) -> None:
        """Raise ConfigError for a scheduler, such as OneCycleLR, that ends before the run does."""
        for config in self.configs:
            every = config["frequency"] * (self.steps_per_epoch or 1 if config["interval"] == "epoch" else 1)
            limit, wanted = getattr(config["scheduler"], "total_steps", None), (total_steps or 0) // every
            if limit is not None and wanted > limit:
                name = type(config["scheduler"]).__name__
                text = f"own: {name} of configure_optimizers ends after {limit} steps, the run takes {wanted}"
                raise ConfigError.of(
                    "optimizer", f"{text}; give the module that number by model.NAME={wanted}"
                )

    def __call__(self, update: int) -> tuple[float, float | None]:
        for count in range(self.update + 1, update + 1):
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"]  # without the factor of a rollback
            for config in (c for c in self.configs if _is_due(c, count, self.steps_per_epoch)):
                if not config["reduce_on_plateau"]:
                    config["scheduler"].step()
                elif math.isfinite(self.metric):
                    config["scheduler"].step(self.metric)
            for group in self.optimizer.param_groups:
                group["base_lr"] = group["lr"]
        self.update = update
        return 1.0, None

    def observe(self, metric: float) -> None:
        self.metric = metric

    def state_dict(self) -> dict[str, Any]:
        states = [config["scheduler"].state_dict() for config in self.configs]
        return {"update": self.update, "metric": self.metric, "schedulers": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.update, self.metric = state["update"], state["metric"]
        for config, stored in zip(self.configs, state["schedulers"], strict=True):
            config["scheduler"].load_state_dict(stored)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else torch warns of its next step


def _is_due(config: Mapping[str, Any], update: int, steps_per_epoch: int | None) -> bool:
    """Whether it steps after that many updates; Lightning counts steps within their epoch."""
    epoch, step = divmod(update, steps_per_epoch) if steps_per_epoch else (0, update)
    if config["interval"] == "epoch":
        return bool(step == 0 and epoch % config["frequency"] == 0)
    return bool((step or steps_per_epoch) % config["frequency"] == 0)


def _config(entry: Any, steps_per_epoch: int | None) -> dict[str, Any]:
    """Lightning's dict of a scheduler with all its settings. Raises ConfigError for what it cannot be."""
    given = entry if isinstance(entry, Mapping) else {"scheduler": entry}
    config: dict[str, Any] = {"scheduler": None, **_DEFAULTS, **given}
    scheduler, every = config["scheduler"], (config["interval"], config["frequency"])
    config["reduce_on_plateau"] |= isinstance(scheduler, ReduceLROnPlateau)
    if unknown := config.keys() - {"scheduler", *_DEFAULTS, *_IGNORED}:
        raise _refusal(f"{', '.join(map(repr, sorted(unknown)))} in a scheduler's dict")
    if not isinstance(scheduler, LRScheduler):
        raise _refusal(f"a {type(scheduler).__name__} as a scheduler")
    if every[0] not in ("step", "epoch") or every[1] not in range(1, 10**9):
        raise _refusal(f"interval {every[0]!r} with frequency {every[1]!r}")
    if config["reduce_on_plateau"] and not config["monitor"]:
        raise _refusal("no monitor for ReduceLROnPlateau")
    if steps_per_epoch is None and every[0] == "epoch":
        raise _refusal("a scheduler by epochs, of which a stream has none; return interval 'step'")
    return config


def _refusal(what: str) -> ConfigError:
    return ConfigError.of("optimizer", f"own cannot follow configure_optimizers, which returns {what}")
