"""A DCGAN for small pictures: a generator makes them of noise, a discriminator scores them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainrun.model.layers import norm_2d, picture_shape
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import ConvNorm, Count


class GAN(nn.Module):
    """Generator and discriminator of three layers each (Radford et al., 2016); pictures are from -1 to 1.

    `generator` makes pictures (N, C, H, W) of noise (N, latent); `discriminator` gives scores (N, 1), and
    so does the model itself. `norm` is that of the discriminator; the generator has batch norm.
    """

    def __init__(self, input_shape: tuple[int, ...], width: Count, latent: Count, norm: ConvNorm) -> None:
        super().__init__()
        channels, *sides = picture_shape(input_shape, "gan")
        if any(side % 4 for side in sides):
            text = f"gan halves pictures twice: sides must be multiples of 4, got {sides[0]} x {sides[1]}"
            raise ConfigError.of("model", f"{text}; resize them in the data set")
        wide, rows, columns = 2 * width, sides[0] // 4, sides[1] // 4
        flat = wide * rows * columns
        self.latent = latent
        self.generator = nn.Sequential(
            *(nn.Linear(latent, flat, bias=False), nn.Unflatten(1, (wide, rows, columns))),
            *(nn.BatchNorm2d(wide), nn.ReLU(), nn.ConvTranspose2d(wide, width, 4, 2, 1, bias=False)),
            *(nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()),
        )
        self.discriminator = nn.Sequential(
            *(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, wide, 4, 2, 1, bias=norm == "none"), norm_2d(norm, wide), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(flat, 1)),
        )

    def draw(self, count: int) -> Tensor:
        """Generated pictures of new noise."""
        device = next(self.generator.parameters()).device
        pictures: Tensor = self.generator(torch.randn(count, self.latent, device=device))
        return pictures

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.discriminator(pictures)
        return scores
