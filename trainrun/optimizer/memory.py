"""The memory of an optimizer's state, computed on meta tensors without allocating any of it."""

import copy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun.optimizer.sam import CompositeOptimizer


def state_bytes(optimizer: Optimizer) -> int | None:
    """Bytes of an optimizer's state after a step, taken on meta tensors; None where only a real one tells."""
    if optimizer.state:
        return _bytes(optimizer)
    if isinstance(optimizer, CompositeOptimizer):
        parts = [state_bytes(part) for part in optimizer.parts]
        return None if None in parts else sum(part for part in parts if part is not None)
    memo: dict[int, object] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            memo[id(parameter)] = shape = nn.Parameter(torch.empty_like(parameter, device="meta"))
            shape.grad = torch.empty_like(shape)
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
