"""Any model of timm, by name."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from trainrun.config.suggest import did_you_mean
from trainrun.model.layers import picture_shape
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


def timm(name: str, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The model `name` of timm, untrained, for the pictures' channels and, where it takes one, their size.

    Raises ConfigError where timm is not installed, for an unknown name, and for pictures that the
    model cannot take.
    """
    channels, height, width = picture_shape(input_shape, "timm")
    library = _imported()
    names = library.list_models()
    if name not in names:
        hint = did_you_mean(name, names) or f"; one of {', '.join(names[:8])} ..."
        raise ConfigError.of("model.name", f"timm has no model {name!r}{hint}")
    options = {"pretrained": False, "num_classes": num_outputs, "in_chans": channels}
    try:
        try:
            model: nn.Module = library.create_model(name, **options, img_size=(height, width))
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            model = library.create_model(name, **options)  # takes any size
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        text = f"{name} cannot take pictures of {input_shape}: {reason}"
        raise ConfigError.of("model.name", text) from None
    return model.train()


def _imported() -> Any:
    import_torchvision()  # which timm imports, as a CPU-only torch can
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        text = "timm is not installed; install it with: pip install timm"
        raise ConfigError.of("model", text) from None
