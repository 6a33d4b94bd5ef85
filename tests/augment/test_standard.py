"""The usual mixture: its strengths and the order of colour changes spread as torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainrun.augment import standard
from trainrun.augment.draws import Draws
from trainrun.augment.standard import Standard
from trainrun.protocols import DataInfo, PixelRange
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError

CPU = torch.device("cpu")
PIXELS = PixelRange(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
INFO = DataInfo("toy", (3, 8, 8), "classes", 2, {}, pixels=PIXELS)
STILL: dict[str, Any] = {
    **dict.fromkeys(
        ("shift", "flip", "degrees", "shear", "brightness", "contrast", "saturation", "hue"), 0.0
    ),
    "zoom": [1.0, 1.0],
}


def draws(n: int) -> Draws:
    return Draws(0, 0, range(n), CPU)


def test_with_all_at_zero_nothing_changes() -> None:
    x = torch.rand(20, 3, 8, 8)
    torch.testing.assert_close(Standard(**STILL, info=INFO)(x, draws(20)), x, rtol=0, atol=1e-5)


def test_jitter_is_spread_as_torchvisions() -> None:
    """Mean and std of every output pixel over many draws, of one picture."""
    amounts = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6, "hue": 0.1}
    picture, n = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0)), 4000
    info = DataInfo("toy", (3, 3, 3), "classes", 2, {}, pixels=PIXELS)
    ours = Standard(**STILL | amounts, info=info)(picture.expand(n, -1, -1, -1), draws(n))
    jitter = import_torchvision("torchvision.transforms").ColorJitter(**amounts)
    torch.manual_seed(0)
    theirs = torch.stack([jitter(picture) for _ in range(n)])
    error = (theirs.var(0) * 2 / n).sqrt()
    assert float(((ours.mean(0) - theirs.mean(0)).abs() / error).max()) < 5
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.08, atol=1e-3)


def test_every_order_of_the_colour_changes_comes_equally_often() -> None:
    amounts = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    n = 12_000
    blends, _, before_hue = Standard(**STILL | amounts, info=INFO).colors(draws(n))
    kinds = (blends[:, 1] + 2 * blends[:, 2]).long()  # 0, 1 and 2: brightness, saturation, contrast
    assert torch.equal(kinds.sort(1).values, torch.arange(3).expand(n, 3))
    orders = before_hue * 27 + kinds @ torch.tensor([9, 3, 1])
    counts = orders.bincount()
    counts = counts[counts > 0]
    assert len(counts) == 24
    assert int((counts - n / 24).abs().max()) < 5 * (n / 24) ** 0.5


@pytest.mark.parametrize("still", ["", "hue", "brightness", "contrast saturation"])
def test_colours_change_as_by_torchvisions_functions_one_after_the_other(still: str) -> None:
    """Those of each picture by its own draws, in its own order, each cut to 0 to 1."""
    amounts = {"brightness": 0.8, "contrast": 0.9, "saturation": 1.0, "hue": 0.5}
    amounts |= dict.fromkeys(still.split(), 0.0)
    functions = import_torchvision("torchvision.transforms.functional")
    n = 60
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = Standard(**STILL | amounts, info=INFO)(x, draws(n))
    numbers = draws(n).uniform(3 + 4 + 3 + 1 + 4)[:, 7:].double()  # after those of crop, flip and affine
    for i, row in enumerate(numbers.tolist()):
        factors = [
            max(0.0, 1 - a) + (1 + a - max(0.0, 1 - a)) * u
            for a, u in zip(amounts.values(), row, strict=False)
        ]
        values = [*factors[:3], (2 * row[3] - 1) * amounts["hue"]]
        expected = x[i]
        for k in sorted(range(4), key=row[4:].__getitem__):
            name = ("brightness", "contrast", "saturation", "hue")[k]
            expected = getattr(functions, f"adjust_{name}")(expected, values[k])
        torch.testing.assert_close(changed[i], expected, rtol=0, atol=2e-5)


def test_turns_zooms_and_slants_are_spread_over_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Tensor, ...]] = []

    def spy(*arguments: Tensor) -> Tensor:
        calls.append(arguments)
        return torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64).expand(len(arguments[0]), 2, 3)

    monkeypatch.setattr(standard, "affine", spy)
    n, options = 6000, STILL | {"degrees": 30.0, "zoom": [0.5, 2.0], "shear": 10.0}
    Standard(**options, info=INFO).paint(torch.rand(n, 3, 2, 2), draws(n))
    degrees, zoom, shear = calls[0]
    for values, low, high in ((degrees, -30, 30), (zoom, 0.5, 2), (shear, -10, 10)):
        assert low <= float(values.min()) and float(values.max()) <= high
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=5 * (high - low) / (12 * n) ** 0.5)
        assert float(values.std()) == pytest.approx((high - low) / 12**0.5, rel=0.05)


def test_a_picture_is_changed_alike_in_any_batch() -> None:
    options = STILL | {"degrees": 30.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    info = DataInfo("toy", (3, 9, 13), "classes", 2, {}, pixels=PIXELS)
    change, x = Standard(**options, info=info), torch.rand(60, 3, 9, 13)
    whole = change(x, draws(60))
    for size in (1, 7):
        parts = [change(x[i], Draws(0, 0, i, CPU)) for i in torch.arange(60).split(size)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize(("key", "value"), [("zoom", [1.0]), ("zoom", [2.0, 1.0]), ("hue", 0.6)])
def test_ranges_that_are_none_are_a_config_error(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{key}: "):
        Standard(**STILL | {key: value}, info=INFO)
