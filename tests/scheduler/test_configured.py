"""What Lightning's dict of a scheduler may say, when it steps, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from trainrun.scheduler.configured import Configured
from trainrun.vocabulary.errors import ConfigError


def sgd() -> torch.optim.SGD:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    optimizer.param_groups[0]["base_lr"] = 1.0
    return optimizer


SGD = sgd()
STEP, PLATEAU = StepLR(SGD, 1), ReduceLROnPlateau(SGD)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"scheduler": STEP, "inteval": "step"}, "'inteval' in a scheduler's dict"),
        ({"interval": "step"}, "a NoneType as a scheduler"),
        ({"scheduler": STEP, "interval": "batch"}, "interval 'batch' with frequency 1"),
        ({"scheduler": STEP, "frequency": 0}, "interval 'epoch' with frequency 0"),
        (lambda step: 0.1, "a function as a scheduler"),
        (PLATEAU, "no monitor for ReduceLROnPlateau"),
    ],
)
def test_what_cannot_be_followed_is_named(entry: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Configured(SGD, [entry], 3)


def test_a_stream_has_no_epochs_and_two_monitors_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="by epochs, of which a stream has none"):
        Configured(SGD, [STEP], None)
    monitors = [{"scheduler": PLATEAU, "monitor": name} for name in ("a", "b")]
    with pytest.raises(ConfigError, match="several monitors, a and b"):
        Configured(SGD, monitors, 3)


def test_on_a_stream_steps_are_counted_from_its_beginning() -> None:
    optimizer = sgd()
    entry = {"scheduler": ExponentialLR(optimizer, 0.5), "interval": "step", "frequency": 2}
    schedule, rates = Configured(optimizer, [entry], None), []
    for update in range(6):
        assert schedule(update) == (1.0, None)
        rates.append(optimizer.param_groups[0]["base_lr"])
        optimizer.step()
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_metric_counts_until_the_next_and_none_yet_is_waited_for() -> None:
    optimizer = sgd()
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    schedule = Configured(optimizer, [{"scheduler": plateau, "monitor": "x"}], 1)
    rates = []
    for update, metric in enumerate([None, 1.0, None, float("nan"), 0.5]):
        schedule(update)
        rates.append(optimizer.param_groups[0]["base_lr"])
        if metric is not None:
            schedule.observe(metric)
        optimizer.step()
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1])
