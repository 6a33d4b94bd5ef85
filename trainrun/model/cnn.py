"""A small convolutional network: stages of 3 x 3 convolutions, each halving the picture."""

from __future__ import annotations

from torch import Tensor, nn

from trainrun.model.layers import ACTIVATIONS, norm_2d, picture_shape
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Activation, ConvNorm, Count, Rate


class CNN(nn.Module):
    """(N, C, H, W) -> (N, num_outputs).

    Stage i has `depth` times Conv 3x3 (widths[i] channels), norm, activation, then max-pooling by
    2. What remains of the picture is flattened into one hidden layer of `hidden` units with
    `dropout`, and the head.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        widths: list[Count],
        depth: Count,
        hidden: Count,
        activation: Activation,
        norm: ConvNorm,
        dropout: Rate,
    ) -> None:
        super().__init__()
        channels, height, width = picture_shape(input_shape, "cnn")
        shrink = 2 ** len(widths)
        if min(height, width) < shrink:
            text = f"{len(widths)} stages halve {height} x {width} pictures to nothing; give fewer widths"
            raise ConfigError.of("model.widths", text)
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        for size in widths:
            for _ in range(depth):
                conv = nn.Conv2d(channels, size, 3, padding=1, bias=norm == "none")
                layers += [conv, norm_2d(norm, size), act()]
                channels = size
            layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers)
        flat = channels * (height // shrink) * (width // shrink)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(flat, hidden), act(), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.neck(self.body(x)))
        return out
