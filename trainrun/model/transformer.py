"""A transformer encoder (pre-norm): classes of sequences and of pictures in patches, or tokens filled in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainrun.model.attention import block, initialize
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Rate

_MOST_PATCHES = 64  # by default: attention costs their square, and 28 x 28 pictures get 7 x 7 of them


class Transformer(nn.Module):
    """A transformer encoder: every position attends to all others.

    Inputs are tokens (N, T), sequences (N, T, F) or pictures (N, C, H, W), which are cut into patches
    (Dosovitskiy et al., 2021). Outputs are of the mean over all positions, (N, num_outputs), or with
    `per_token` of each position, (N, T, num_outputs).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocab_size: int | None,
        per_token: bool,
        width: Count,
        depth: Count,
        heads: Count,
        patch: Count | None,
        dropout: Rate,
    ) -> None:
        super().__init__()
        self.per_token = per_token
        self.embed, places = _embedding(input_shape, vocab_size, width, patch)
        self.positions = nn.Embedding(places, width)
        self.dropout = nn.Dropout(dropout)
        self.body = nn.Sequential(*(block(width, heads, False, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)

    def initialize(self) -> None:
        """Initialise as GPT-2; init=auto calls it in place of its own schemes."""
        initialize(self)
        if not isinstance(self.embed, nn.Embedding):  # of numbers: LeCun-normal, so that their scale stays
            weight = next(p for p in self.embed.parameters() if p.ndim > 1)
            nn.init.normal_(weight, 0.0, weight[0].numel() ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.embed(x)  # (N, T, width)
        places = torch.arange(parts.shape[1], device=x.device)
        hidden = self.norm(self.body(self.dropout(parts + self.positions(places))))
        out: Tensor = self.head(hidden if self.per_token else hidden.mean(1))
        return out


class Patches(nn.Module):
    """(N, C, H, W) -> (N, H W / patch^2, width): a linear map of each patch, row by row."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.map(x).flatten(2).transpose(1, 2)
        return out


def _embedding(
    shape: tuple[int, ...], vocab_size: int | None, width: int, patch: int | None
) -> tuple[nn.Module, int]:
    """The module that embeds inputs as (N, T, width), and T. Raises ConfigError for other inputs."""
    if patch is not None and len(shape) != 3:
        raise ConfigError.of("model.patch", f"is for pictures, the input is {shape}", "model.patch=null")
    if vocab_size is not None and len(shape) == 1:
        return nn.Embedding(vocab_size, width), shape[0]
    if len(shape) == 2:
        return nn.Linear(shape[1], width), shape[0]
    if len(shape) != 3:
        text = f"transformer needs tokens, sequences (length, features) or pictures, the input is {shape}"
        raise ConfigError.of("model", f"{text}; use mlp", "model=mlp")
    channels, height, across = shape
    common = (n for n in range(2, max(height, across) + 1) if height % n == 0 and across % n == 0)
    few = (n for n in common if (height // n) * (across // n) <= _MOST_PATCHES)
    size = patch or next(few, 1)  # 1 where no square divides both sides
    if height % size or across % size:
        raise ConfigError.of("model.patch", f"must divide pictures of {height} x {across}, got {size}")
    return Patches(channels, width, size), (height // size) * (across // size)
