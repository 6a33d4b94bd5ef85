"""An optimizer in the race is the one that its settings make, against torch's own."""

from __future__ import annotations

import pytest
import torch

from trainrun.config.compose.composer import Composer
from trainrun.tune.optimizer_race import race_path
from trainrun.tune.rosenbrock import RATES, descend


def test_the_path_is_that_of_the_composed_optimizer() -> None:
    words = ["optimizer=momentum", "optimizer.lr=1e-3", "optimizer.momentum=0.8", "optimizer.weight_decay=0"]
    path = race_path(Composer().checked(words), True, 30)
    expected = descend(lambda plane, lr: (torch.optim.SGD(plane.parameters(), lr, 0.8), None), 1e-3, 30)
    assert path.lr == 1e-3
    assert path.losses == pytest.approx(expected.losses)


def test_without_a_rate_of_its_own_it_takes_the_one_that_ends_lowest() -> None:
    composition = Composer().checked(["optimizer=sgd"])
    path = race_path(composition, False, 20)
    assert path.lr in RATES
    losses = {
        lr: descend(lambda plane, rate: (torch.optim.SGD(plane.parameters(), rate), None), lr, 20).last_loss
        for lr in RATES
    }
    assert path.last_loss == pytest.approx(min(loss for loss in losses.values() if loss == loss))
