"""torchvision's classification models by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.model.torchvision import torchvision
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


def test_a_model_of_three_channels_is_torchvisions_own() -> None:
    models = import_torchvision("torchvision.models")
    ours, theirs = torchvision("squeezenet1_1", None, (3, 32, 32), 7), models.squeezenet1_1(num_classes=7)
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert ours.training


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet", "swin_t"])
def test_models_take_one_channel_and_give_one_tensor_of_outputs(name: str) -> None:
    model = torchvision(name, None, (1, 32, 32), 7)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 1
    with torch.no_grad():
        assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_a_replaced_convolution_keeps_its_other_settings() -> None:
    original, replaced = (torchvision("resnet18", None, (c, 32, 32), 7).conv1 for c in (3, 1))
    for setting in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(original, setting) == getattr(replaced, setting)
    assert replaced.bias is None and original.bias is None


def test_a_vision_transformer_is_made_for_the_pictures_size() -> None:
    model = torchvision("vit_b_32", None, (1, 64, 64), 3)
    assert model.get_parameter("encoder.pos_embedding").shape[1] == (64 // 32) ** 2 + 1


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("resnet81", (3, 32, 32), r"model\.name: torchvision has no model 'resnet81'; did you mean resnet18"),
        ("zzz", (3, 32, 32), r"model\.name: torchvision has no model 'zzz'; one of alexnet"),
        ("alexnet", (3, 8, 8), r"model\.name: alexnet cannot take pictures of \(3, 8, 8\)"),
        ("vit_b_32", (3, 28, 28), r"model\.name: vit_b_32 cannot take"),
        ("resnet18", (30,), r"model: torchvision needs pictures"),
    ],
)
def test_what_does_not_fit_is_a_config_error(name: str, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        torchvision(name, None, shape, 10)
