"""Muon against torch's own, against the singular value decomposition, and what it leaves to AdamW."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun import optimizer
from trainrun.optimizer.composite import CompositeOptimizer
from trainrun.optimizer.muon import Muon, orthogonalized
from trainrun.vocabulary.errors import ConfigError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.kernel = nn.Conv1d(4, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 3)
        self.head = nn.Linear(3, 2)


def build(model: nn.Module) -> Any:
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
    muon = build(model)
    names = {p: name for name, p in model.named_parameters()}
    parts = [{names[p] for group in part.param_groups for p in group["params"]} for part in muon.parts]
    assert parts[0] == {"kernel.weight", "hidden.weight"}
    assert parts[0] | parts[1] == set(names.values())
    assert len({group["name"] for group in muon.param_groups}) == len(muon.param_groups)


def test_the_rest_moves_as_adamw_moves_it() -> None:
    torch.manual_seed(0)
    model, twin = Net(), Net()
    twin.load_state_dict(model.state_dict())
    muon = build(model)
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
        build(nn.Sequential(nn.Linear(3, 2)))
