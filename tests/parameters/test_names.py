"""Head and backbone of models of several makers, named by hand."""

from __future__ import annotations

import pytest
from torch import nn

from trainrun.parameters import Parameters
from trainrun.parameters.names import head_of
from trainrun.runtime.vision import import_torchvision

HEADS = {  # as torchvision's source names them
    "resnet18": {"fc.weight", "fc.bias"},
    "mobilenet_v3_small": {"classifier.3.weight", "classifier.3.bias"},
    "squeezenet1_1": {"classifier.1.weight", "classifier.1.bias"},
    "swin_t": {"head.weight", "head.bias"},
    "vit_b_32": {"heads.head.weight", "heads.head.bias"},
    "convnext_tiny": {"classifier.2.weight", "classifier.2.bias"},
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_torchvisions_models_is_their_output_layer(name: str) -> None:
    assert head_of(import_torchvision("torchvision.models").get_model(name)) == HEADS[name]


def test_a_models_own_classifier_wins() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.after = nn.Linear(3, 2), nn.Linear(2, 2)

        def get_classifier(self) -> nn.Module:
            return self.head

    assert head_of(Net()) == {"head.weight", "head.bias"}


def test_rules_of_backbone_and_head_cover_every_parameter_once() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    rules = {"backbone": {"lr": 0.5}, "head": {"lr": 3.0}}
    factors = [c.lr_factor for c in Parameters(False, 1.0, rules, None, None).param_configs(model, None)]
    assert factors == [0.5] * 4 + [3.0] * 2


def test_a_parameter_that_is_called_so_is_meant() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Parameter(nn.Linear(2, 2).weight.detach())
            self.body, self.out = nn.Linear(2, 2), nn.Linear(2, 2)

    rules = {"backbone": {"lr": 0.5}}
    configs = Parameters(False, 1.0, rules, None, None).param_configs(Net(), None)
    assert [c.name for c in configs if c.lr_factor == 0.5] == ["backbone"]
