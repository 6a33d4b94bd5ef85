"""timm's models by name, judged against a stand-in that keeps to timm's signatures: timm is an extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.model.timm import timm
from trainrun.vocabulary.errors import ConfigError


class ConvNet(nn.Module):
    """Takes pictures of any size, as timm's resnets do, and refuses to be told one."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(in_chans, 4, 3, padding=1), nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.conv(x).mean((2, 3)))
        return out


class Vit(nn.Module):
    """Must be told the size, and takes no other."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, img_size: Any = 224) -> None:
        super().__init__()
        if min(img_size) < 4:
            raise ValueError("smaller than a patch")
        self.head = nn.Linear(in_chans * img_size[0] * img_size[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x.flatten(1))
        return out


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keyword arguments of every call of the stand-in's create_model."""
    stub, calls = ModuleType("timm"), list[dict[str, Any]]()
    kinds = {"resnet18": ConvNet, "vit_tiny_patch16_224": Vit}

    def create_model(model_name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        calls.append({"pretrained": pretrained, **kwargs})
        return kinds[model_name](**kwargs)

    stub.create_model, stub.list_models = create_model, lambda: sorted(kinds)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", stub)
    return calls


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_a_model_is_made_for_the_pictures_and_outputs(name: str, called: list[dict[str, Any]]) -> None:
    model = timm(name, None, (1, 16, 8), 7)
    assert model(torch.randn(2, 1, 16, 8)).shape == (2, 7)
    assert model.training
    wanted = {"pretrained": False, "num_classes": 7, "in_chans": 1}  # nothing is fetched from anywhere
    assert called[0] == {**wanted, "img_size": (16, 8)}
    assert called[1:] == ([wanted] if name == "resnet18" else [])


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("resnet81", (3, 32, 32), r"model\.name: timm has no model 'resnet81'; did you mean resnet18"),
        ("vit_tiny_patch16_224", (3, 2, 2), r"model\.name: vit_tiny_patch16_224 cannot take .* smaller than"),
        ("resnet18", (30,), r"model: timm needs pictures"),
    ],
)
def test_what_does_not_fit_is_a_config_error(name: str, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        timm(name, None, shape, 10)


def test_without_timm_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # an import of it fails
    with pytest.raises(ConfigError, match="model: timm is not installed; install it with: pip install timm"):
        timm("resnet18", None, (3, 32, 32), 10)


def test_timm_finds_a_torchvision_that_can_be_imported(tmp_path: Path) -> None:
    """As the real one it imports torchvision, which beside a CPU-only torch is to be helped first."""
    stub = "import torchvision\nprint(torchvision.__name__)\nlist_models = list\n"
    (tmp_path / "timm.py").write_text(stub)
    code = (
        "from trainrun.model.timm import timm\ntry: timm('net', None, (3, 8, 8), 2)\nexcept ValueError: pass"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "torchvision\n", done.stderr
