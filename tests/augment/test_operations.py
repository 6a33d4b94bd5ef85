"""Every operation at several strengths, against what torchvision's policies call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainrun.augment.operations import NAMES, NUM_SIGNED, NUMBERS, choose, operate, strengths
from trainrun.runtime.vision import import_torchvision

VISION = import_torchvision("torchvision.transforms.autoaugment")
NEAREST = import_torchvision("torchvision.transforms").InterpolationMode.NEAREST
SIZES = [(1, 28, 28), (3, 17, 24)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_torchvisions_but_for_its_cuts_to_bytes(
    name: str, size: tuple[int, int, int]
) -> None:
    table = strengths(7, slant=0.99, right=12.5, down=9.7, turn=135, factor=0.9, bits=6)
    strength = table[NUMBERS[name]]
    if NUMBERS[name] < NUM_SIGNED:
        strength = torch.cat([strength, -strength])
    generator = torch.Generator().manual_seed(NUMBERS[name])
    x = torch.randint(0, 256, (len(strength), *size), generator=generator).byte()
    number = torch.full((len(x),), NUMBERS[name])
    changed = operate(x.float() / 255, number, strength) * 255
    wrong = 0.0
    for i, level in enumerate(strength.tolist()):
        expected = VISION._apply_op(x[i], name, level, interpolation=NEAREST, fill=None)
        wrong += float(((changed[i] - expected).abs() > 2).float().mean()) / len(
            x
        )  # it cuts each result to whole bytes
    assert wrong < 2e-3  # what falls between two pixels may be read from either


def test_samples_of_one_batch_have_operations_of_their_own() -> None:
    number = torch.arange(len(NAMES))
    x = torch.rand(len(NAMES), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    strength = torch.full((len(NAMES),), 0.4)
    for name, value in {"Posterize": 4, "Solarize": 100, "Rotate": 20}.items():
        strength[NUMBERS[name]] = value
    whole = operate(x, number, strength)
    for i in range(len(NAMES)):
        assert torch.equal(whole[i], operate(x[i : i + 1], number[i : i + 1], strength[i : i + 1])[0])
    unchanged = [name for i, name in enumerate(NAMES) if torch.equal(whole[i], x[i])]
    assert unchanged == ["TranslateX", "TranslateY", "Identity"]  # moves of less than a pixel are none


def test_each_sample_has_the_change_of_its_number_and_other_numbers_none() -> None:
    x, number, amounts = (
        torch.arange(10.0)[:, None],
        torch.tensor([0, 1, 2, -1, 1, 0, 2, 2, -1, 3]),
        torch.rand(10),
    )

    def shift(x: Tensor, amount: Tensor) -> Tensor:
        return x + amount[:, None]

    changes = [(torch.neg,), (shift, amounts), (torch.square,)]
    expected = [
        [lambda v, a: -v, lambda v, a: v + a, lambda v, a: v * v, lambda v, a: v][k](v, a)
        for v, a, k in zip(x[:, 0].tolist(), amounts.tolist(), (number % 4).tolist(), strict=True)
    ]
    before = x.clone()
    torch.testing.assert_close(choose(x, number, changes)[:, 0], torch.tensor(expected))
    assert torch.equal(x, before)


def test_a_change_that_nobody_drew_is_not_called() -> None:
    def fail(x: Tensor) -> Tensor:
        raise AssertionError

    assert choose(torch.ones(2, 1), torch.tensor([1, 1]), [(fail,), (torch.neg,)]).tolist() == [[-1], [-1]]


def test_where_selecting_would_wait_for_the_device_the_result_is_the_same() -> None:
    """On a device that is not the host all samples go through each change."""
    x = torch.empty(3, 1, device="meta")
    assert choose(x, torch.empty(3, dtype=torch.int64, device="meta"), [(torch.neg,)]).shape == (3, 1)
