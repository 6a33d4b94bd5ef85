"""Policies: which operations are drawn, how often and how strong, against torchvision's own tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.augment.operations import NAMES, NUM_SIGNED, operate, parameters
from trainrun.augment.policies import AutoAugment, RandAugment, TrivialAugment
from trainrun.protocols import DataInfo, PixelRange
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError

VISION = import_torchvision("torchvision.transforms")
CPU, N = torch.device("cpu"), 30_000
INFO = DataInfo(
    "toy", (1, 20, 12), "classes", 2, {}, pixels=PixelRange(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
)
Drawn = list[list[tuple[str, float]]]  # for each sample its operations with their strengths


def drawn(policy: Any, n: int = N) -> Drawn:
    """Which operations a policy draws, without their work."""
    samples: Drawn = [[] for _ in range(n)]
    for operation, level, negative in policy.turns(Draws(0, 0, range(n), CPU)):
        strength = policy.table[operation, level]
        signed = torch.where(negative & (operation < NUM_SIGNED), -strength, strength)
        for sample, k, value in zip(samples, operation.tolist(), signed.tolist(), strict=True):
            sample.append((NAMES[k], round(value, 3)))
    return samples


def agree(counts: Counter[Any], expected: dict[Any, float], n: int) -> None:
    """Counts within five standard errors of probabilities; nothing else occurs."""
    assert set(counts) <= set(expected)
    for key, p in expected.items():
        assert abs(counts[key] - n * p) < 5 * (n * p * (1 - p)) ** 0.5 + 1, (key, counts[key], n * p)


def half_negative(signed: list[tuple[str, float]]) -> bool:
    """Whether half of the strengths, those that are not 0, have a minus, within five standard errors."""
    negative = [strength < 0 for _, strength in signed if strength]
    return abs(sum(negative) - len(negative) / 2) < 2.5 * len(negative) ** 0.5


def levels_of(space: dict[str, tuple[Tensor, bool]], name: str, level: int | None) -> list[float]:
    """The strengths that torchvision gives an operation at a level: one, or with either sign."""
    values, signed = space[name]
    value = 0.0 if level is None or values.ndim == 0 else float(values[level])
    return [round(value, 3), round(-value, 3)] if signed else [round(value, 3)] * 2


def test_randaugment_draws_any_operation_at_one_strength() -> None:
    theirs = VISION.RandAugment(num_ops=2, magnitude=9, num_magnitude_bins=31)
    space = theirs._augmentation_space(31, (20, 12))
    expected: Counter[Any] = Counter()
    for name in space:
        for strength in levels_of(space, name, 9):
            expected[name, strength] += 1 / len(space) / 2
    samples = drawn(RandAugment(0.0, 0.0, 2, 9, 31, INFO))
    assert all(len(sample) == 2 for sample in samples)
    for turn in range(2):
        agree(Counter(sample[turn] for sample in samples), expected, N)
    same = sum(a[0] == b[0] for a, b in samples) / N
    assert same == pytest.approx(1 / 14, abs=5 * (1 / 14 / N) ** 0.5)  # the two are independent


def test_trivialaugment_draws_one_operation_at_any_strength() -> None:
    theirs = VISION.TrivialAugmentWide(num_magnitude_bins=31)
    space = theirs._augmentation_space(31)
    expected: Counter[Any] = Counter()
    for name in space:
        for level in range(31):
            for strength in levels_of(space, name, level):
                expected[name, abs(strength)] += 1 / len(space) / 31 / 2
    samples = drawn(TrivialAugment(0.0, 0.0, 31, INFO))
    agree(Counter((name, abs(strength)) for [(name, strength)] in samples), expected, N)
    assert half_negative([sample for [sample] in samples if space[sample[0]][1]])


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_autoaugment_draws_pairs_as_often_and_as_strong_as_torchvision(policy: Any) -> None:
    theirs = VISION.AutoAugment(VISION.AutoAugmentPolicy(policy))
    space = theirs._augmentation_space(10, (20, 12))
    expected: Counter[Any] = Counter()
    for pair in theirs.policies:
        outcomes: list[dict[str, float]] = []
        for name, p, _ in pair:
            outcomes.append({name: p, "Identity": 1 - p})
        for first, p in outcomes[0].items():
            for second, q in outcomes[1].items():
                expected[first, second] += p * q / len(theirs.policies)
    samples = drawn(AutoAugment(0.0, 0.0, policy, INFO))
    agree(Counter((a[0], b[0]) for a, b in samples), {k: p for k, p in expected.items() if p}, N)
    for turn in range(2):
        happening = [pair[turn] for pair in theirs.policies if pair[turn][1] > 0]
        allowed = {(name, s) for name, _, level in happening for s in levels_of(space, name, level)}
        assert {sample[turn] for sample in samples} == allowed | {("Identity", 0.0)}
        signed = {name for name, (_, is_signed) in space.items() if is_signed}
        assert half_negative([sample[turn] for sample in samples if sample[turn][0] in signed])


def test_operations_have_the_strength_sign_and_level_that_were_drawn() -> None:
    pixels = PixelRange(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    policy = TrivialAugment(0.0, 0.0, 31, DataInfo("toy", (3, 20, 12), "classes", 2, {}, pixels=pixels))
    x = torch.rand(500, 3, 20, 12, generator=torch.Generator().manual_seed(0))
    [(operation, level, negative)] = policy.turns(Draws(0, 0, range(500), CPU))
    strength = policy.table[operation, level]
    signed = torch.where(negative & (operation < NUM_SIGNED), -strength, strength)
    expected = operate(x.clone(), [parameters(operation, signed, 20, 12)])
    assert torch.equal(policy.paint(x, Draws(0, 0, range(500), CPU)), expected)


@pytest.mark.parametrize("make", [AutoAugment, RandAugment, TrivialAugment])
def test_a_picture_is_changed_alike_in_any_batch(make: Any) -> None:
    options = {AutoAugment: ["cifar10"], RandAugment: [2, 9, 31], TrivialAugment: [31]}[make]
    pixels = PixelRange(torch.full((3, 1, 1), -1.5), torch.full((3, 1, 1), 2.0))
    policy = make(0.125, 0.5, *options, DataInfo("toy", (3, 16, 16), "classes", 2, {}, pixels=pixels))
    x = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 3.5 - 1.5
    whole = policy(x, Draws(3, 1, range(60), CPU))
    assert not torch.equal(whole, x) and whole.isfinite().all()
    for size in (1, 7):
        parts = [policy(x[i], Draws(3, 1, i, CPU)) for i in torch.arange(60).split(size)]
        assert torch.equal(torch.cat(parts), whole)


def test_strengths_that_there_are_not_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"augment\.magnitude: must be smaller than augment\.levels=31"):
        RandAugment(0.0, 0.0, 2, 31, 31, INFO)
    with pytest.raises(ConfigError, match=r"augment\.levels: must be at least 2"):
        TrivialAugment(0.0, 0.0, 1, INFO)
