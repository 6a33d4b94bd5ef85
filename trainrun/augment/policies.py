"""Augmentation policies: AutoAugment, RandAugment, TrivialAugment, drawn for each sample."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.augment.operations import NUM_SIGNED, NUMBERS, operate, parameters, strengths
from trainrun.augment.pictures import Colored
from trainrun.protocols import DataInfo
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Fraction, Natural, Split

Turn = tuple[Tensor, Tensor | int, Tensor]  # (N,)


class _Policy(Colored):
    """Applies operations of `table`, (operations, levels) strengths, after crop and flip."""

    table: Tensor
    rows: Tensor  # (operations, 2 signs, levels, parameters)

    def prepare(self, table: Tensor, info: DataInfo) -> None:
        """Work out once what an operation needs, for each that can be drawn."""
        self.table = table
        number = torch.arange(len(table))[:, None, None]
        signs = torch.where(number < NUM_SIGNED, torch.tensor([[1.0], [-1.0]]), 1)
        strength = table[:, None] * signs  # (operations, 2, levels)
        number = number.expand_as(strength)
        rows = parameters(number.flatten(), strength.flatten(), *info.input_shape[1:])
        self.rows = rows.view(*strength.shape, -1)

    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        self.rows = self.rows.to(x.device)
        turns = self.turns(draws)
        return operate(x, [self.rows[number, negative.long(), level] for number, level, negative in turns])

    @abstractmethod
    def turns(self, draws: Draws) -> list[Turn]:
        """One operation after the other: number, level, and whether a strength with a sign is negative."""


class AutoAugment(_Policy):
    """AutoAugment (Cubuk et al., 2019): one of 25 pairs of operations, found on CIFAR-10, ImageNet or SVHN.

    Each operation of a pair has its own probability and strength.
    """

    def __init__(
        self, shift: Split, flip: Fraction, policy: Literal["cifar10", "imagenet", "svhn"], info: DataInfo
    ) -> None:
        super().__init__(shift, flip, info)
        transforms = import_torchvision("torchvision.transforms")
        pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy(policy)).policies
        rows = [[(NUMBERS[name], p, level or 0) for name, p, level in pair] for pair in pairs]
        self.pairs = torch.tensor(rows, dtype=torch.float64)  # (pairs, 2, 3): operation, probability, level
        self.prepare(_narrow(10, info), info)

    def turns(self, draws: Draws) -> list[Turn]:
        pair = draws.integers(len(self.pairs))
        self.pairs = self.pairs.to(pair.device)
        number, p, level = self.pairs[pair].unbind(2)  # (N, 2)
        happens, negative = draws.uniform(2) <= p, draws.chance(0.5, 2)
        operation = torch.where(happens, number.long(), NUMBERS["Identity"])
        return [(operation[:, k], level[:, k].long(), negative[:, k]) for k in range(2)]


class RandAugment(_Policy):
    """RandAugment (Cubuk et al., 2020): `num_ops` of 14 operations at strength `magnitude` of `levels`."""

    def __init__(
        self, shift: Split, flip: Fraction, num_ops: Count, magnitude: Natural, levels: Count, info: DataInfo
    ) -> None:
        super().__init__(shift, flip, info)
        if levels < 2 or magnitude >= levels:
            text = f"must be smaller than augment.levels={levels}, of which there are at least 2"
            raise ConfigError.of("augment.magnitude", f"{text}, got {magnitude}")
        self.num_ops, self.magnitude = num_ops, magnitude
        self.prepare(_narrow(levels, info), info)

    def turns(self, draws: Draws) -> list[Turn]:
        return [(_any(draws), self.magnitude, draws.chance(0.5)) for _ in range(self.num_ops)]


class TrivialAugment(_Policy):
    """TrivialAugment, wide (Mueller and Hutter, 2021): one of 14 operations, at one of `levels` strengths."""

    def __init__(self, shift: Split, flip: Fraction, levels: Count, info: DataInfo) -> None:
        super().__init__(shift, flip, info)
        if levels < 2:
            raise ConfigError.of("augment.levels", f"must be at least 2, got {levels}")
        table = strengths(levels, slant=0.99, right=32, down=32, turn=135, factor=0.99, bits=6)
        self.prepare(table, info)

    def turns(self, draws: Draws) -> list[Turn]:
        level = draws.integers(self.table.shape[1])
        return [(_any(draws), level, draws.chance(0.5))]


def _any(draws: Draws) -> Tensor:
    """A random operation other than Invert for each sample, (N,)."""
    operation = draws.integers(len(NUMBERS) - 1)
    return torch.where(operation == NUMBERS["Invert"], NUMBERS["Identity"], operation)


def _narrow(levels: int, info: DataInfo) -> Tensor:
    """The strengths of AutoAugment and RandAugment for the size of the pictures."""
    _, height, width = info.input_shape
    right, down = 150 / 331 * width, 150 / 331 * height
    return strengths(levels, slant=0.3, right=right, down=down, turn=30, factor=0.9, bits=4)
