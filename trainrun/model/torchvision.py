"""Any classification model of torchvision, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainrun.config.suggest import did_you_mean
from trainrun.model.layers import picture_shape
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


def torchvision(name: str, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The model `name` of `torchvision.models`, untrained, with `num_outputs` outputs.

    Its first convolution is replaced where the pictures have other than 3 channels. Raises
    ConfigError for an unknown name, and for pictures that the model cannot take.
    """
    channels, height, width = picture_shape(input_shape, "torchvision")
    models = import_torchvision("torchvision.models")
    names = models.list_models(module=models)
    if name not in names:
        hint = did_you_mean(name, names) or f"; one of {', '.join(names[:8])} ..."
        raise ConfigError.of("model.name", f"torchvision has no model {name!r}{hint}")
    try:
        model: nn.Module = models.get_model(
            name, weights=None, num_classes=num_outputs, **_arguments(name, (height, width))
        )
        if channels != 3:
            _replace_first_convolution(model, channels)
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError.of(
            "model.name", f"{name} cannot take pictures of {input_shape}: {reason}"
        ) from None
    return model.train()


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
            fresh = nn.Conv2d(
                channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                bias=layer.bias is not None,
            )
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, fresh)
            return
