"""The learning rate and the samples of a step, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trainrun import optimizer


@pytest.mark.parametrize(
    ("scaling", "window", "wanted", "words"),
    [
        ("none", 512, 0.1, "0.1"),
        ("linear", 512, 0.2, "0.1 x 512 / 256 = 0.2"),
        ("linear", 64, 0.025, "0.1 x 64 / 256 = 0.025"),
        ("sqrt", 1024, 0.2, "0.1 x sqrt(1024 / 256) = 0.2"),
        ("sqrt", 512, 0.1 * math.sqrt(2), "0.1 x sqrt(512 / 256) = 0.141421"),
    ],
)
def test_the_learning_rate_scales_with_the_batch(
    scaling: Any, window: int, wanted: float, words: str
) -> None:
    lr, said = optimizer.scaled_lr(0.1, window, scaling, 256)
    assert lr == pytest.approx(wanted, rel=1e-12)
    assert said == words
