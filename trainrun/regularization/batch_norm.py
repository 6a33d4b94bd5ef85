"""Estimate batch norm's running statistics of averaged weights: training estimated those of other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainrun.protocols import Batch


@torch.no_grad()
def estimate(
    model: nn.Module, batches: Iterable[Batch], autocast: Callable[[], AbstractContextManager[Any]]
) -> None:
    """Set batch norm's running statistics to their mean over the batches; reads none without batch norm."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    for norm in norms:  # all other layers, such as dropout, stay in evaluation mode
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    try:
        for batch in batches:
            if len(batch) > 1:  # one value has no variance
                with autocast():
                    model(batch.inputs)
    except BaseException:  # a stop: the mean over a part of the batches is worse than the old statistics
        for buffer, value in before:
            buffer.copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
