"""Lion against its paper, schedule-free AdamW against its three sequences, Muon against torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun import optimizer
from trainrun.optimizer.newer import Muon, ScheduleFreeAdamW, orthogonalized
from trainrun.optimizer.sam import CompositeOptimizer
from trainrun.vocabulary.errors import ConfigError


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


CURVATURE = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
RATES = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1]  # a warm-up


def schedule_free(weight: torch.Tensor) -> ScheduleFreeAdamW:
    adamw = optimizer.schedule_free_adamw([{"params": [weight]}], 0.1, (0.9, 0.99), 1e-8, 0.05)
    assert isinstance(adamw, ScheduleFreeAdamW)
    return adamw


def test_each_step_is_the_papers_algorithm() -> None:
    """Defazio et al. (2024), Algorithm 1: x, y and z each as they are defined."""
    weight = torch.nn.Parameter(START.clone())
    adamw = schedule_free(weight)
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
    schedule_free(weight).average_into({weight: copy})
    assert torch.equal(copy, START)


def test_without_a_place_between_the_two_points_it_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        optimizer.schedule_free_adamw([{"params": []}], 0.1, (0.0, 0.99), 1e-8, 0.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.kernel = nn.Conv1d(4, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 3)
        self.head = nn.Linear(3, 2)


def muon_of(model: nn.Module) -> Any:
    params = [{"params": list(model.parameters()), "name": "all"}]
    return optimizer.muon(params, model, 0.01, 0.9, 5, (0.9, 0.99), 1e-8, 0.1)


def descend(descent: torch.optim.Optimizer, weight: Tensor, gradients: Tensor) -> None:
    for gradient in gradients:
        weight.grad = gradient.clone()
        descent.step()


@pytest.mark.parametrize("shape", [(3, 5), (6, 2), (4, 4)])
def test_matrices_move_as_torchs_muon_moves_them(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs, gradients = nn.Parameter(ours.detach().clone()), torch.randn(6, *shape)
    descend(Muon([{"params": [ours]}], 0.02, 0.9, 5, 0.1), ours, gradients)
    descend(torch.optim.Muon([theirs], 0.02, 0.1, 0.9, adjust_lr_fn="match_rms_adamw"), theirs, gradients)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_kernel_moves_as_its_matrix_does() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(4, 3, 2, 2))
    matrix, gradients = nn.Parameter(kernel.detach().flatten(1).clone()), torch.randn(4, 4, 3, 2, 2)
    descend(Muon([{"params": [kernel]}], 0.02, 0.9, 5, 0.1), kernel, gradients)
    descend(Muon([{"params": [matrix]}], 0.02, 0.9, 5, 0.1), matrix, gradients.flatten(2))
    assert torch.equal(kernel.flatten(1), matrix)


def test_the_iteration_comes_near_the_nearest_orthogonal_matrix() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(20, 8)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalized(matrix, 5)
    assert torch.linalg.svdvals(result).sub(0.95).abs().max() < 0.3  # Jordan's bounds
    assert float(torch.linalg.matrix_norm(result - u @ v) / torch.linalg.matrix_norm(u @ v)) < 0.3


def test_adamw_has_embeddings_the_output_layer_norms_and_biases() -> None:
    model = Net()
    muon = muon_of(model)
    names = {p: name for name, p in model.named_parameters()}
    parts = [{names[p] for group in part.param_groups for p in group["params"]} for part in muon.parts]
    assert parts[0] == {"kernel.weight", "hidden.weight"}
    assert parts[0] | parts[1] == set(names.values())
    assert len({group["name"] for group in muon.param_groups}) == len(muon.param_groups)


def test_the_rest_moves_as_adamw_moves_it() -> None:
    torch.manual_seed(0)
    model, twin = Net(), Net()
    twin.load_state_dict(model.state_dict())
    muon = muon_of(model)
    theirs = torch.optim.AdamW(twin.parameters(), 0.01, (0.9, 0.99), weight_decay=0.1)
    for _ in range(3):
        for ours, other in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            other.grad = ours.grad.clone()
        muon.step()
        theirs.step()
    for name in ("embedding.weight", "head.weight", "norm.weight", "hidden.bias"):
        torch.testing.assert_close(model.get_parameter(name), twin.get_parameter(name), rtol=1e-6, atol=1e-7)
    assert isinstance(muon, CompositeOptimizer)


def test_a_model_without_a_hidden_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match="no hidden matrix"):
        muon_of(nn.Sequential(nn.Linear(3, 2)))
