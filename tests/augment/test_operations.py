"""Every operation at several strengths, against what torchvision's policies call."""

from __future__ import annotations

import pytest
import torch

from trainrun.augment.operations import NAMES, NUM_SIGNED, NUMBERS, operate, parameters, strengths
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
    changed = operate(x.float() / 255, [parameters(number, strength, *size[1:])]) * 255
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
    rows = parameters(number, strength, 16, 16)
    whole = operate(x, [rows])
    for i in range(len(NAMES)):
        assert torch.equal(whole[i], operate(x[i : i + 1], [rows[i : i + 1]])[0])
    unchanged = [name for i, name in enumerate(NAMES) if torch.equal(whole[i], x[i])]
    assert unchanged == ["TranslateX", "TranslateY", "Identity"]  # moves of less than a pixel are none


def test_a_second_turn_changes_what_the_first_returned() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 3, 16, 16, generator=generator)
    turns = []
    for _ in range(3):
        number = torch.randint(len(NAMES), (40,), generator=generator)
        turns.append(parameters(number, torch.full((40,), 0.4), 16, 16))
    expected = x
    for rows in turns:
        expected = operate(expected, [rows])
    assert torch.equal(operate(x, turns), expected)
