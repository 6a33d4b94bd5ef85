"""ResNet-9: a shallow residual network that learns small pictures in few epochs (Page, 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from trainrun.model.layers import ACTIVATIONS, Residual, norm_2d, picture_shape, shrink_branches
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Activation, ConvNorm, Count, Natural, Positive


class ResNet9(nn.Module):
    """(N, C, H, W) -> (N, num_outputs).

    `widths` are the channels of the stem and of three stages. A stage is a 3 x 3 convolution,
    max-pooling by 2, and as many residual blocks of two convolutions as `blocks` says of it:
    [1, 0, 1] are nine layers. The largest value of each channel goes to the head, whose outputs are
    multiplied by `output_scale`, so that high learning rates do not saturate the softmax.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        widths: list[Count],
        blocks: list[Natural],
        activation: Activation,
        norm: ConvNorm,
        output_scale: Positive,
    ) -> None:
        super().__init__()
        self.norm = norm
        channels, height, width = picture_shape(input_shape, "resnet9")
        if min(height, width) < 8:
            text = f"resnet9 halves pictures three times, they are {height} x {width}; use cnn"
            raise ConfigError.of("model", text, "model=cnn")
        for key, values, length in (("widths", widths, 4), ("blocks", blocks, 3)):
            if len(values) != length:
                raise ConfigError.of(f"model.{key}", f"must list {length} numbers, got {len(values)}")
        layers = _conv(channels, widths[0], activation, norm, pool=1)
        for i, (size, count) in enumerate(zip(widths[1:], blocks, strict=True)):
            layers += _conv(widths[i], size, activation, norm, pool=2)
            for _ in range(count):
                first, second = (_conv(size, size, activation, norm, pool=1) for _ in range(2))
                layers.append(Residual(nn.Sequential(*first, *second)))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_outputs)
        self.output_scale = output_scale

    def rescale_init(self) -> None:
        """Start L residual branches at 1 / L where there is no norm; init=auto calls it after the layers."""
        if self.norm == "none":
            shrink_branches([block.branch for block in self.body if isinstance(block, Residual)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).amax((2, 3))) * self.output_scale
        return out


def _conv(channels: int, width: int, activation: str, norm: str, pool: int) -> list[nn.Module]:
    """A 3 x 3 convolution, pooled before norm and activation: a quarter of the work for these."""
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")
    pooled = [nn.MaxPool2d(pool)] if pool > 1 else []
    return [conv, *pooled, norm_2d(norm, width), ACTIVATIONS[activation]()]
