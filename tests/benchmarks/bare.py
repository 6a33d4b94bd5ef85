"""A hand-tuned training loop with nothing around it: what a full-featured one is measured against.

The pictures stay bytes in memory and a batch is one gather; AdamW is fused and spares norms and biases
from decay, as trainrun's does. Where asked, the gradient's norm is read, and clipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]
PAD = 4  # pixels that a crop may move a picture aside


def batches(inputs: Tensor, targets: Tensor, size: int, mean: float, std: float) -> Iterator[Batch]:
    """One epoch of pictures (N, C, H, W) of bytes in random order, standardised."""
    for rows in torch.randperm(len(inputs)).split(size):
        pictures = inputs.index_select(0, rows).to(torch.float32)
        yield pictures.sub_(255 * mean).mul_(1 / (255 * std)), targets.index_select(0, rows)


def cropped(inputs: Tensor, targets: Tensor, size: int, mean: float, std: float) -> Iterator[Batch]:
    """The same of grey pictures, cropped and flipped by a draw for each, in one gather from padded bytes."""
    height, width = inputs.shape[-2:]
    padded, side = F.pad(inputs, (PAD,) * 4), width + 2 * PAD
    places = torch.arange(height)[:, None] * side + torch.arange(width)
    places = torch.stack([places, places.flip(1)])  # of a picture's pixels, and of its mirror image's
    for rows in torch.randperm(len(inputs)).split(size):
        down, right = torch.randint(2 * PAD + 1, (2, len(rows)))
        first = rows * (height + 2 * PAD) * side + down * side + right
        pixels = first.view(-1, 1, 1, 1) + places[torch.randint(2, (len(rows),)), None]
        pictures = padded.take(pixels).to(torch.float32)
        yield pictures.sub_(255 * mean).mul_(1 / (255 * std)), targets.index_select(0, rows)


def train(
    model: nn.Module, steps: Iterable[Batch], norm: bool = False, clip: float = math.inf, bf16: bool = False
) -> None:
    """Take a step on every batch; with `norm` its gradient's norm is read and limited to `clip`."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    model.train()
    for inputs, targets in steps:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        if norm:
            gradients = [p.grad for p in (*decayed, *spared) if p.grad is not None]
            size = float(torch.nn.utils.get_total_norm(gradients))
            if size > clip:
                torch._foreach_mul_(gradients, clip / size)
        optimizer.step()
