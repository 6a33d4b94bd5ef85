"""The shared pieces of models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.model import layers
from trainrun.model.layers import ACTIVATIONS, Residual, norm_1d, norm_2d, per_layer, shrink_branches
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Activation, ConvNorm, Norm


def test_every_activation_that_a_config_may_name_exists() -> None:
    assert set(ACTIVATIONS) == set(Activation.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", Norm.__args__)  # type: ignore[attr-defined]
def test_norms_of_tables_keep_the_shape_and_standardise(name: str) -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 5 + 3
    out = norm_1d(name, 8)(x)
    assert out.shape == x.shape
    if name != "none":
        axis = {"batch": 0, "layer": 1}[name]
        torch.testing.assert_close(out.mean(axis), torch.zeros(out.mean(axis).shape), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ConvNorm.__args__)  # type: ignore[attr-defined]
@pytest.mark.parametrize("channels", [3, 8, 12, 16])
def test_norms_of_pictures_take_any_number_of_channels(name: str, channels: int) -> None:
    norm = norm_2d(name, channels)
    assert norm(torch.randn(2, channels, 4, 4)).shape == (2, channels, 4, 4)
    if isinstance(norm, nn.GroupNorm):
        assert channels // norm.num_groups == (8 if channels % 8 == 0 else channels)


def test_one_value_is_for_all_layers_and_a_list_for_each() -> None:
    assert per_layer(0.3, 3, "model.dropout") == [0.3, 0.3, 0.3]
    assert per_layer([0.1, 0.2], 2, "model.dropout") == [0.1, 0.2]
    with pytest.raises(ConfigError, match=r"model\.dropout: must be one value or 3, one per layer, got 2"):
        per_layer([0.1, 0.2], 3, "model.dropout")


def test_residual_adds_its_input() -> None:
    x = torch.randn(2, 3)
    branch = nn.Sequential(nn.Linear(3, 3))
    torch.testing.assert_close(Residual(branch)(x), x + branch(x))


def test_stochastic_depth_is_torchvisions_for_each_sample_and_nothing_in_evaluation() -> None:
    ours, x = layers.DropPath(), torch.rand(20_000, 3, 1) + 1
    theirs = import_torchvision("torchvision.ops").StochasticDepth(0.3, "row")
    assert ours(x) is x  # until a rate is set
    ours.p = 0.3
    torch.manual_seed(0)
    out = ours(x)
    is_kept = out[:, 0, 0] > 0
    torch.testing.assert_close(out, torch.where(is_kept[:, None, None], x / 0.7, 0))
    assert float(is_kept.float().mean()) == pytest.approx(0.7, abs=5 * (0.21 / 20_000) ** 0.5)
    assert sorted((theirs(x) / x).unique().tolist())[-1] == pytest.approx(1 / 0.7, rel=1e-5)
    assert ours.eval()(x) is x


def test_residual_branches_are_divided_by_their_number_at_their_last_norm_or_layer() -> None:
    plain = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)]
    normed = [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh()) for _ in range(3)]
    before = [branch[0].get_parameter("weight").detach().clone() for branch in plain + normed]
    shrink_branches(plain)
    shrink_branches(normed)
    for branch, weight in zip(plain, before[:3], strict=True):
        torch.testing.assert_close(branch[0].get_parameter("weight").detach(), weight / 3)
    for branch, weight in zip(normed, before[3:], strict=True):
        assert torch.equal(branch[0].get_parameter("weight").detach(), weight)
        torch.testing.assert_close(branch[1].get_parameter("weight").detach(), torch.full((4,), 1 / 3))
