"""The written learning rate is the run's at every update, and the written optimizer is the run's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.report.as_code.optimizer import optimizer_section, rate_constants, rate_lines
from trainrun.report.as_code.text import constants
from trainrun.vocabulary.errors import ConfigError

QUICK = ["data=iris", "budget=40step", "data.limit=64"]


@pytest.mark.parametrize(
    "words",
    [
        ["scheduler=constant"],
        ["scheduler=cosine", "scheduler.min_lr=1e-4"],
        ["scheduler=warmup_cosine", "scheduler.warmup=25%", "scheduler.warmup_start=0.1"],
        ["scheduler=warmup_linear", "scheduler.warmup=40step"],
        ["scheduler=polynomial"],
        ["scheduler=step", "scheduler.warmup=3step"],
        ["scheduler=multistep", "scheduler.at=[50%,30step]"],
        ["scheduler=exponential", "scheduler.min_lr=1e-3"],
        ["scheduler=noam"],
    ],
    ids=" ".join,
)
def test_the_formula_is_the_schedule(words: list[str]) -> None:
    parts = build(Composer().checked([*QUICK, *words]).settings)
    names: dict[str, Any] = {"math": math, "STEPS": 40, "optimizer": parts.state.optimizer}
    exec(constants(rate_constants(parts)), names)
    assert names["LR"] == parts.rates.lr
    for step in range(40):
        exec("\n".join(rate_lines(parts)), names | {"step": step})
        written = parts.state.optimizer.param_groups[0]["lr"]
        assert written == pytest.approx(parts.rates.lr * parts.state.schedule(step)[0], rel=1e-12)


@pytest.mark.parametrize("option", ["sgd", "nesterov", "adam", "rmsprop", "radam", "adagrad", "nadam"])
def test_the_written_optimizer_has_the_same_values_and_groups(option: str) -> None:
    parts = build(Composer().checked([*QUICK, f"optimizer={option}"]).settings)
    names = {"torch": torch, "model": parts.state.model, "LR": parts.rates.lr}
    exec(optimizer_section(parts), names)
    written, ours = names["optimizer"], parts.state.optimizer
    assert isinstance(ours, type(written))
    assert type(written).__name__ == type(ours).__name__
    for group, own in zip(written.param_groups, ours.param_groups, strict=True):  # type: ignore[union-attr]
        assert {id(p) for p in group["params"]} == {id(p) for p in own["params"]}
        assert {k: v for k, v in group.items() if k != "params"}.items() <= own.items()


def test_an_optimizer_that_is_not_of_torch_is_refused() -> None:
    parts = build(Composer().checked([*QUICK, "optimizer=lion"]).settings)
    with pytest.raises(ConfigError, match="optimizer=lion is not in the plain script; leave it out"):
        optimizer_section(parts)
