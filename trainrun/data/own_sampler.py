"""The user's own sampler: a function that says which training samples an epoch draws, in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainrun.config.call import failure
from trainrun.data.lazy_indices import Indices
from trainrun.data.samples import seed_all
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.seeds import derive


class OwnSampler:
    """Calls a function of (indices, epoch) that returns as many of the indices, some perhaps repeatedly.

    Its draws, from torch, NumPy or random, follow from the seed and the epoch, so that a resume repeats them.
    """

    def __init__(self, function: Callable[[Tensor, int], Any]) -> None:
        self.function = function

    def __call__(self, train: Indices, seed: int, epoch: int) -> Tensor:
        train = train[:]  # the function takes a tensor, 8 bytes a sample
        seed_all(derive(seed, "sampler", epoch))
        try:
            order = torch.as_tensor(self.function(train.clone(), epoch))
        except Exception as error:
            raise ConfigError.of("data.sampler", failure(self.function, error)) from error
        if order.shape != train.shape or order.is_floating_point():
            text = f"{self.function.__name__} must return {len(train)} indices, as many as it is given"
            raise ConfigError.of("data.sampler", f"{text}, got {order.dtype} {tuple(order.shape)}")
        if not torch.isin(order, train).all():
            stranger = int(order[~torch.isin(order, train)][0])
            text = f"{self.function.__name__} must return indices that it is given, got {stranger}"
            raise ConfigError.of("data.sampler", f"{text}, which is no training sample")
        return order.long()
