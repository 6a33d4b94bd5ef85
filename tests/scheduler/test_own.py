"""Own schedules: a factor of the step or of the progress, tried before training."""

from __future__ import annotations

from typing import Any

import pytest

from trainrun.config.call import PlainFunction
from trainrun.scheduler.own import as_schedule
from trainrun.vocabulary.errors import ConfigError


def _plain(function: Any, *needs: str) -> PlainFunction:
    return PlainFunction(function, {}, needs, "scheduler")


def test_a_function_gives_the_factor_or_that_and_the_momentum() -> None:
    assert as_schedule(_plain(lambda step: 1 / (step + 1), "step"), 10)(3) == (0.25, None)
    assert as_schedule(_plain(lambda progress: 1 - progress, "progress"), 10)(5) == (0.5, None)
    assert as_schedule(lambda update: (0.5, 0.9), 10)(3) == (0.5, 0.9)


@pytest.mark.parametrize("returned", [None, "x", -0.1, float("nan"), [1, 2, 3]])
def test_what_is_no_factor_is_refused_before_training(returned: Any) -> None:
    with pytest.raises(ConfigError, match="learning rate's factor"):
        as_schedule(lambda step: returned if step == 9 else 1.0, 10)
