"""What the built-in tasks learn and measure, and which losses fit them: read from source, without torch."""

from __future__ import annotations

import re
from functools import cache

from trainrun.config.paths import CONF
from trainrun.config.signature import constant_of, entries_of

_TARGET = re.compile(r"^\s*_target_: (\S+)", re.MULTILINE)

# task -> the options of `loss` that fit it; the first is what `loss=auto` takes.
TASK_LOSSES = {
    "classification": ("cross_entropy", "focal", "distillation"),
    "binary": ("bce_with_logits", "focal"),
    "multilabel": ("bce_with_logits", "focal"),
    "regression": ("mse", "l1", "huber", "smooth_l1", "gaussian_nll"),
    "language_model": ("cross_entropy",),
    "masked_lm": ("cross_entropy",),
    "model_loss": (),  # the model brings its own
    "lightning": (),
    "gan": (),
}


def loss_option(target: str) -> str | None:
    """The built-in option of `loss` that calls `target`."""
    return next((option for option, called in _targets("loss").items() if called == target), None)


def kind_of_target(task: str) -> str | None:
    """What a built-in task learns: classes, labels, values or tokens."""
    kinds = constant_of(_targets("task").get(task, ""), "kinds")
    return kinds[0] if kinds else None


def metrics_of(target: str) -> dict[str, str]:
    """The metrics that a task may have, each "max" or "min"; empty where its source cannot tell."""
    return entries_of(target, "metric_modes")


@cache
def metric_modes() -> dict[str, str]:
    """Whether larger ("max") or smaller ("min") is better, for every metric of the built-in tasks."""
    return {name: mode for target in _targets("task").values() for name, mode in metrics_of(target).items()}


@cache
def _targets(group: str) -> dict[str, str]:
    """What each built-in option of a group calls."""
    files = {file.stem: file.read_text(encoding="utf-8") for file in sorted((CONF / group).glob("*.yaml"))}
    return {option: match[1] for option, text in files.items() if (match := _TARGET.search(text))}
