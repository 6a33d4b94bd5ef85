"""Views of pictures, each made by hand with torchvision, and their mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainrun.loop.tta import Views
from trainrun.protocols import DataInfo, PixelRange
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError

F = import_torchvision("torchvision.transforms.functional")
BLACK = torch.tensor([-0.5, -1.0, -2.0]).view(3, 1, 1)
INFO = DataInfo("toy", (3, 16, 24), "classes", 4, {}, pixels=PixelRange(BLACK, -BLACK))


class Net(nn.Module):
    """Not linear, and different for every place."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).tanh()


def moved(x: Tensor, down: int, right: int) -> Tensor:
    """What torchvision crops from the picture padded with black."""
    padded = F.pad(x - BLACK, 5) + BLACK
    return F.crop(padded, 5 + down, 5 + right, *x.shape[2:])


@pytest.mark.parametrize(("kinds", "count"), [(["flip"], 2), (["crop"], 5), (["flip", "crop"], 10)])
def test_outputs_are_the_mean_over_views(kinds: list[str], count: int) -> None:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(6, 3, 16, 24)
    wanted = [x]
    if "crop" in kinds:  # half of an eighth of each side
        wanted += [moved(x, down, right) for down in (-1, 1) for right in (-2, 2)]
    if "flip" in kinds:
        wanted += [F.hflip(view) for view in wanted]
    assert len(wanted) == count
    views = Views(model, kinds, 0.125, INFO)
    output = views(x)
    torch.testing.assert_close(output, torch.stack([model(view) for view in wanted]).mean(0))
    assert not torch.allclose(output, model(x), atol=1e-3)
    assert f"{count} views" in str(views)
    assert ("moved by 1 and 2 pixels" in str(views)) == ("crop" in kinds)


def test_a_picture_that_is_its_own_mirror_gains_nothing() -> None:
    model, x = Net(), torch.randn(6, 3, 16, 24)
    x = x + x.flip(3)
    torch.testing.assert_close(Views(model, ["flip"], 0.125, INFO)(x), model(x))


def test_black_is_what_it_is_when_the_views_are_made() -> None:
    info = DataInfo("toy", (3, 16, 24), "classes", 4, {}, pixels=PixelRange(torch.zeros(3, 1, 1), -BLACK))
    views, x = Views(Net(), ["crop"], 0.125, info), torch.randn(6, 3, 16, 24)
    before = views(x)
    info.pixels.black = BLACK  # restored from a checkpoint
    assert not torch.allclose(views(x), before, atol=1e-4)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--tta: views pictures .* of toy are \(13,\)"):
        Views(nn.Identity(), ["flip"], 0.125, DataInfo("toy", (13,), "classes", 3, {}))
