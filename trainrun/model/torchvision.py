"""Any classification model of torchvision, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from trainrun.config.suggest import did_you_mean
from trainrun.model.layers import picture_shape
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


def torchvision(
    name: str, preprocessing: str | None, input_shape: tuple[int, ...], num_outputs: int
) -> nn.Module:
    """The model `name` of `torchvision.models`, untrained, with `num_outputs` outputs.

    `preprocessing` is what data=imagefolder does to pictures (`trainrun.model.pretrained`). Its first
    convolution is replaced where the pictures have other than 3 channels. Raises ConfigError for an
    unknown name, and for pictures that the model cannot take.
    """
    channels, *size = picture_shape(input_shape, "torchvision")
    models = import_torchvision("torchvision.models")

    def make() -> nn.Module:
        arguments = _arguments(name, tuple(size))
        model: nn.Module = models.get_model(name, weights=None, num_classes=num_outputs, **arguments)
        if channels != 3:
            _replace_first_convolution(model, channels)
        return model

    return named_model(make, name, "torchvision", models.list_models(module=models), input_shape)


def named_model(
    make: Callable[[], nn.Module], name: str, library: str, names: Sequence[str], input_shape: tuple[int, ...]
) -> nn.Module:
    """The model that `make` makes, one of `names`; raises ConfigError where it cannot take the pictures."""
    refuse_unknown(name, library, names)
    try:
        model = make()
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason, _, _ = str(error).partition("\n")
        text = f"{name} cannot take pictures of {input_shape}: {reason}"
        raise ConfigError.of("model.name", text) from None
    return model.train()


def refuse_unknown(name: str, library: str, names: Sequence[str]) -> None:
    """Raise ConfigError for a name that a library does not have."""
    if name not in names:
        hint = did_you_mean(name, names) or f"; one of {', '.join(names[:8])} ..."
        raise ConfigError.of("model.name", f"{library} has no model {name!r}{hint}")


def _arguments(name: str, size: tuple[int, ...]) -> dict[str, Any]:
    """Arguments that only some models take: the pictures' size, and no auxiliary outputs."""
    if name.startswith("vit_"):
        return {"image_size": size[0]}
    if name.startswith("maxvit"):
        return {"input_size": size}
    return {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}


def _replace_first_convolution(model: nn.Module, channels: int) -> None:
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            same = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation")}
            fresh = nn.Conv2d(channels, layer.out_channels, **same, bias=layer.bias is not None)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, fresh)
            return
