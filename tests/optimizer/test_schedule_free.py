"""Schedule-free AdamW against its paper's three sequences, kept separately."""

from __future__ import annotations

import pytest
import torch

from trainrun import optimizer
from trainrun.optimizer.schedule_free import ScheduleFreeAdamW

CURVATURE = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
RATES = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1]  # a warm-up


def build(weight: torch.Tensor) -> ScheduleFreeAdamW:
    adamw = optimizer.schedule_free_adamw([{"params": [weight]}], 0.1, (0.9, 0.99), 1e-8, 0.05)
    assert isinstance(adamw, ScheduleFreeAdamW)
    return adamw


def test_each_step_is_the_papers_algorithm() -> None:
    """Defazio et al. (2024), Algorithm 1: x, y and z each as they are defined."""
    weight = torch.nn.Parameter(START.clone())
    adamw = build(weight)
    x, z, v, total = START.clone(), START.clone(), torch.zeros(3), 0.0
    for t, lr in enumerate(RATES, 1):
        y = 0.1 * z + 0.9 * x
        torch.testing.assert_close(weight.detach(), y, rtol=1e-9, atol=1e-12)
        g = CURVATURE * y
        v = 0.99 * v + 0.01 * g**2
        z = z - lr * g / ((v / (1 - 0.99**t)).sqrt() + 1e-8) - lr * 0.05 * y
        total += lr**2
        x = (1 - lr**2 / total) * x + lr**2 / total * z

        adamw.param_groups[0]["lr"] = lr
        adamw.zero_grad()
        (0.5 * CURVATURE * weight**2).sum().backward()
        adamw.step()
        average = torch.empty(3, dtype=torch.float64)
        adamw.average_into({weight: average})
        torch.testing.assert_close(average, x, rtol=1e-9, atol=1e-12)


def test_what_was_never_trained_is_its_own_average() -> None:
    weight = torch.nn.Parameter(START.clone())
    copy = torch.zeros(3, dtype=torch.float64)
    build(weight).average_into({weight: copy})
    assert torch.equal(copy, START)


def test_without_a_place_between_the_two_points_it_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        optimizer.schedule_free_adamw([{"params": []}], 0.1, (0.0, 0.99), 1e-8, 0.0)
