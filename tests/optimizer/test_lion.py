"""Lion against its paper's Algorithm 2, one coordinate at a time."""

from __future__ import annotations

import math

import pytest
import torch

from trainrun import optimizer


def by_hand(w: float, curvature: float, steps: int) -> float:
    m = 0.0
    for _ in range(steps):
        g = curvature * w
        c = 0.9 * m + 0.1 * g
        w -= 0.05 * ((math.copysign(1.0, c) if c else 0.0) + 0.2 * w)
        m = 0.95 * m + 0.05 * g
    return w


def test_each_step_is_the_papers_formula() -> None:
    starts, curvatures = [1.0, -2.0, 0.5, 0.0], [1.0, 10.0, 0.1, 3.0]
    w = torch.nn.Parameter(torch.tensor(starts, dtype=torch.float64))
    lion = optimizer.lion([{"params": [w]}], 0.05, (0.9, 0.95), 0.2)
    for _ in range(60):  # long enough for every sign to turn
        lion.zero_grad()
        (0.5 * torch.tensor(curvatures, dtype=torch.float64) * w * w).sum().backward()
        lion.step()
    wanted = [by_hand(w0, k, 60) for w0, k in zip(starts, curvatures, strict=True)]
    assert w.detach().tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    used, idle = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    lion = optimizer.lion([{"params": [used, idle]}], 0.05, (0.9, 0.95), 0.2)
    used.sum().backward()
    lion.step()
    assert idle.tolist() == [1.0, 1.0]
    assert used.tolist() == pytest.approx([1 - 0.05 * 1.2] * 2)
    assert idle not in lion.state
