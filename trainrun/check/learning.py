"""Which parameters learn at all, in a few small steps of plain gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainrun.init import LAYERS

_PASSES = 4  # what begins at 0, as a residual branch, gets its first gradient in the second pass
_STEP = 0.01  # of the norm of all weights that a pass may move


@dataclass(frozen=True)
class Learning:
    """Names of parameters, each in one list only, and of layers."""

    unused: list[str]  # that the loss does not depend on
    still: list[str]  # whose gradient was exactly 0 each time
    alike: list[str]  # layers whose units started equal and stayed so


def learning(model: nn.Module, loss: Callable[[], Tensor]) -> Learning:
    """Of a model that trains; it is changed. `loss` is the model's own, for a batch."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    used: set[str] = set()
    moved: set[str] = set()
    for _ in range(_PASSES):
        model.zero_grad(set_to_none=True)
        loss().backward()
        used |= {name for name, p in named if p.grad is not None}
        moved |= {name for name, p in named if p.grad is not None and bool((p.grad != 0).any())}
        _descend([p for _, p in named if p.grad is not None])
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, LAYERS)]
    return Learning(
        unused=[name for name, _ in named if name not in used],
        still=[name for name, _ in named if name in used - moved],
        alike=[name for name, layer in layers[:-1] if _are_alike(layer.get_parameter("weight"))],
    )


@torch.no_grad()
def _descend(parameters: list[Tensor]) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm, size = (torch.nn.utils.get_total_norm(tensors) for tensors in (gradients, parameters))
    if bool(torch.isfinite(norm)) and norm > 0:
        torch._foreach_add_(parameters, gradients, alpha=-float(_STEP * max(float(size), 1.0) / norm))


def _are_alike(weight: Tensor) -> bool:
    """Whether all rows are equal, to rounding."""
    if len(weight) < 2:
        return False
    spread = (weight.detach() - weight.detach()[:1]).abs().max()
    return bool(spread <= 1e-5 * weight.detach().abs().max())
