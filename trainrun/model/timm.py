"""Any model of timm, by name."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from trainrun.model.layers import picture_shape
from trainrun.model.torchvision import named_model
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError


def timm(name: str, preprocessing: str | None, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The model `name` of timm, untrained, for the pictures' channels and, where it takes one, their size.

    `preprocessing` is what data=imagefolder does to pictures (`trainrun.model.pretrained`). Raises
    ConfigError where timm is not installed, for an unknown name, and for pictures that the model
    cannot take.
    """
    channels, *size = picture_shape(input_shape, "timm")
    library = import_timm()
    options = {"pretrained": False, "num_classes": num_outputs, "in_chans": channels}

    def make() -> Any:
        try:
            return library.create_model(name, **options, img_size=tuple(size))
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return library.create_model(name, **options)  # takes any size

    return named_model(make, name, "timm", names_like(name), input_shape)


def names_like(name: str) -> list[str]:
    """The names of timm's models; with the tags of their weights where `name` has one."""
    library = import_timm()
    names: list[str] = library.list_pretrained() if "." in name else library.list_models()
    return names


def import_timm() -> Any:
    """The package; raises ConfigError where it is not installed."""
    import_torchvision()  # which timm imports, as a CPU-only torch can
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ConfigError.of("model", "timm is not installed; install it with: pip install timm") from None
