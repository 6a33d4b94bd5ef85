"""Residual networks in their CIFAR form: 6 n + 2 layers on small pictures (He et al., 2016, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.model.layers import DropPath, norm_2d, picture_shape, shrink_branches
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import ConvNorm, Count, Rate


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + branch(x)), two 3 x 3 convolutions; the shortcut is a 1 x 1 where shapes change."""

    def __init__(self, channels: int, width: int, stride: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            norm_2d(norm, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            norm_2d(norm, width),
        )
        self.depth = DropPath()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, norm_2d(norm, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.depth(self.branch(x)))


class ResNet(nn.Module):
    """(N, C, H, W) -> (N, num_outputs).

    `depth` is 6 n + 2, such as 20, 32, 44, 56 or 110. `width` is the number of channels of the first
    of three stages: 16 in the paper, more for wide networks (Zagoruyko and Komodakis, 2016).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        depth: Count,
        width: Count,
        norm: ConvNorm,
        dropout: Rate,
    ) -> None:
        super().__init__()
        self.norm = norm
        channels, _, _ = picture_shape(input_shape, "resnet")
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError.of("model.depth", f"must be 6 n + 2, such as 20, 32 or 56, got {depth}")
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), norm_2d(norm, width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage, size in enumerate((width, 2 * width, 4 * width)):
            for i in range((depth - 2) // 6):
                blocks.append(ResidualBlock(channels, size, 2 if stage and not i else 1, norm, dropout))
                channels = size
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_outputs)

    def rescale_init(self) -> None:
        """Start L residual branches at 1 / L where there is no norm; init=auto calls it after the layers."""
        if self.norm == "none":
            shrink_branches([block.branch for block in self.body if isinstance(block, ResidualBlock)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return out
