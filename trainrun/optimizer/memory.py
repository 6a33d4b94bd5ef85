"""The memory of an optimizer's state, by a step of a copy: for large models on meta tensors."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun.optimizer.sam import CompositeOptimizer

# Bytes of parameters: below, a step takes less time than importing what meta tensors need.
_SMALL_BYTES = 64 << 20


def state_bytes(optimizer: Optimizer) -> int | None:
    """Bytes of an optimizer's state after a step; None where only a real step would tell.

    Counts the state that it has. Without any, a copy makes a step; that of a large model holds no values.
    """
    if optimizer.state:
        return _bytes(optimizer)
    if isinstance(optimizer, CompositeOptimizer):
        parts = [state_bytes(part) for part in optimizer.parts]
        return None if None in parts else sum(part for part in parts if part is not None)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = "cpu" if sum(parameter.nbytes for parameter in parameters) < _SMALL_BYTES else "meta"
    memo: dict[int, object] = {}
    for parameter in parameters:
        memo[id(parameter)] = shape = nn.Parameter(torch.zeros_like(parameter, device=device))
        shape.grad = torch.zeros_like(shape)
    try:
        twin = copy.deepcopy(optimizer, memo)
        for group in twin.param_groups:
            group |= {name: False for name in ("fused", "foreach") if name in group}
        twin.step()
    except Exception:  # it reads values, evaluates its window again, or has attributes that no copy gets
        return None
    return _bytes(twin)


def _bytes(optimizer: Optimizer) -> int:
    values = (value for memory in optimizer.state.values() for value in memory.values())
    return sum(int(value.nbytes) for value in values if isinstance(value, Tensor))
