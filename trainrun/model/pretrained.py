"""Pretrained weights of torchvision and timm: their preprocessing and their download."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainrun.config.suggest import did_you_mean
from trainrun.model.timm import import_timm, names_like
from trainrun.model.torchvision import refuse_unknown
from trainrun.protocols import Preprocessing
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError, DataError

PRETRAINED = "pretrained"  # as `init_from`: the library's own weights
_LIBRARIES = {"trainrun.model.torchvision.torchvision": "torchvision", "trainrun.model.timm.timm": "timm"}


def preprocessing_of(model: Mapping[str, Any], init_from: str | None) -> Preprocessing | None:
    """What `model.preprocessing` means; None for pictures as the data have them.

    `auto`: that of the weights in `init_from`, where they are the library's own.
    """
    library, wanted = _LIBRARIES.get(model["_target_"]), model.get("preprocessing")
    if library is None or wanted is None or (wanted == "auto" and init_from is None):
        return None
    if library == "timm":
        return None if wanted == "auto" and init_from != PRETRAINED else _of_timm(model["name"], wanted)
    file = Path(str(init_from)).name
    available = _torchvision_weights(model["name"])
    if wanted == "auto":
        own = next((weights for weights in available if Path(weights.url).name == file), None)
        chosen = available.DEFAULT if init_from == PRETRAINED else own
        return None if chosen is None else _of_torchvision(chosen)
    names = ["DEFAULT", *(weights.name for weights in available)]
    if wanted not in names:
        hint = did_you_mean(wanted, names) or f"; it has {', '.join(names)}"
        raise ConfigError.of("model.preprocessing", f"{model['name']} has no weights {wanted!r}{hint}")
    return _of_torchvision(available[wanted])


def download(model: Mapping[str, Any]) -> tuple[str, Mapping[str, Tensor]]:
    """(which they are, weights by name) of a library's model, from its cache where they are there.

    Raises ConfigError for a model without any, DataError where they cannot be fetched.
    """
    library = _LIBRARIES.get(model["_target_"])
    if library is None:
        text = "takes the weights of a library, so model must be torchvision or timm"
        raise ConfigError.of("init_from", f"{PRETRAINED} {text}; name a file, a run or a checkpoint instead")
    name = model["name"]
    try:
        if library == "timm":
            timm = import_timm()
            refuse_unknown(name, "timm", names_like(name))
            return f"timm's {name}", timm.create_model(name, pretrained=True).state_dict()
        weights = _torchvision_weights(name).DEFAULT
        return f"torchvision's {weights}", weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # of the network, the cache or its content
        reason = str(error).partition("\n")[0]
        text = f"cannot fetch the weights of {library}'s {name}: {reason}; download them elsewhere, then"
        raise DataError(f"init_from: {text} init_from=FILE") from None


def _torchvision_weights(name: str) -> Any:
    """The weights of a model, an enum."""
    models = import_torchvision("torchvision.models")
    refuse_unknown(name, "torchvision", models.list_models(module=models))
    weights = models.get_model_weights(name)
    if not len(weights):
        raise ConfigError.of("model.name", f"torchvision has no trained weights of {name}")
    return weights


def _of_torchvision(weights: Any) -> Preprocessing:
    values = weights.transforms().__dict__
    size, resize = int(values["crop_size"][0]), int(values["resize_size"][0])
    mean, std = tuple(values["mean"]), tuple(values["std"])
    return Preprocessing(str(weights), size, resize, mean, std, values["interpolation"].value)


def _of_timm(name: str, tag: str) -> Preprocessing:
    """Of the weights `NAME.TAG`; of those that the name means by itself for `auto` and `DEFAULT`."""
    timm = import_timm()
    refuse_unknown(name, "timm", names_like(name))
    tagged = name if tag in ("auto", "DEFAULT") else f"{name.partition('.')[0]}.{tag}"
    if tagged != name and tagged not in timm.list_pretrained():
        tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        text = f"{name} has no weights {tag!r}; it has {', '.join(tags)}"
        raise ConfigError.of("model.preprocessing", text)
    cfg = timm.get_pretrained_cfg(tagged)
    values = timm.data.resolve_data_config(pretrained_cfg=cfg.to_dict())
    size = values["input_size"][-1]
    resize = math.floor(size / values["crop_pct"])
    tag = f"timm's {name.partition('.')[0]}.{cfg.tag}" if cfg.tag else f"timm's {name}"
    return Preprocessing(tag, size, resize, values["mean"], values["std"], values["interpolation"])
