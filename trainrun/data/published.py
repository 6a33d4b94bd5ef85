"""Means and deviations that are published for known pictures: what most figures of others rest on."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from trainrun.data import scaling
from trainrun.data.resident import InMemoryData

Normalize = Literal["train", "published"]

# Per channel (mean, std) of the pixels of all training pictures, white being 1.
PUBLISHED = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # not the 0.2023 that many copied
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}


def normalized(data: InMemoryData, normalize: Normalize) -> InMemoryData:
    """Pictures of bytes, standardised by what their training split says or by what is published."""
    if normalize == "train":
        return data
    mean, std = PUBLISHED[data.info.name]
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    data.restore(data.fitted() | {"shift": 255 * shift, "scale": 1 / (255 * scale)})
    text = f"the published mean {scaling.listed(mean)} and std {scaling.listed(std)}, white being 1"
    data.info = replace(data.info, input_scaling=text)
    return data
