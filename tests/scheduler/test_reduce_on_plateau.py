"""The plateau schedule: torch's on random metrics, what it ignores, and its memory."""

from __future__ import annotations

import math
import random

import pytest
import torch
from curves import factors, through_a_file
from torch.optim import lr_scheduler as torch_schedulers

from trainrun import scheduler
from trainrun.scheduler import Plateau


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau_is_torchs_on_random_metrics(
    maximize: bool, patience: int, threshold: float, cooldown: int
) -> None:
    draws = random.Random(0)
    ours = scheduler.plateau(1.0, maximize, 0.5, patience, threshold, cooldown, 0, 0.0, 0.01)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 1.0)
    theirs = torch_schedulers.ReduceLROnPlateau(
        optimizer,
        "max" if maximize else "min",
        0.5,
        patience,
        threshold,
        cooldown=cooldown,
        min_lr=0.01,
        eps=0.0,
    )
    metrics_so_far = []
    for update in range(100):
        metric = draws.uniform(0.5, 1.5)
        ours.observe(metric)
        theirs.step(metric)
        metrics_so_far.append(optimizer.param_groups[0]["lr"])
        assert abs(ours(update)[0] - metrics_so_far[-1]) <= 1e-12
    assert len(set(metrics_so_far)) > 3  # it did come down


def plateau(maximize: bool = False, patience: int = 0, threshold: float = 1e-4) -> Plateau:
    return scheduler.plateau(1.0, maximize, 0.1, patience, threshold, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_plateau_ignores_what_is_not_finite(metric: float) -> None:
    schedule = plateau()
    schedule.observe(metric)
    assert schedule.best is None
    schedule.observe(1.0)
    for _ in range(10):
        schedule.observe(metric)
    assert schedule(0)[0] == 1.0
    schedule.observe(1.0)
    assert schedule(0)[0] == pytest.approx(0.1)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("metric", [-3.0, 0.0, 3.0])
def test_plateau_sees_that_a_constant_metric_stalls(maximize: bool, metric: float) -> None:
    schedule = plateau(maximize, patience=2, threshold=1e-4)
    for _ in range(3):
        schedule.observe(metric)
    assert schedule(0)[0] == 1.0
    schedule.observe(metric)
    assert schedule(0)[0] == pytest.approx(0.1)


def test_plateau_keeps_its_warmup() -> None:
    schedule = scheduler.plateau(1.0, False, 0.5, 0, 0.0, 0, 4, 0.0, 0.0)
    assert factors(schedule, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_plateau_resumes_where_it_stood() -> None:
    draws = random.Random(1)
    metrics = [draws.random() for _ in range(60)]
    whole = scheduler.plateau(1.0, False, 0.9, 1, 1e-4, 2, 0, 0.0, 0.0)
    scales = []
    for metric in metrics:
        whole.observe(metric)
        scales.append(whole(0)[0])
    for cut in (1, 7, 30):
        first, second = (scheduler.plateau(1.0, False, 0.9, 1, 1e-4, 2, 0, 0.0, 0.0) for _ in range(2))
        for metric in metrics[:cut]:
            first.observe(metric)
        second.load_state_dict(through_a_file(first.state_dict()))
        for metric, wanted in zip(metrics[cut:], scales[cut:], strict=True):
            second.observe(metric)
            assert second(0)[0] == wanted
