"""LoRA: trained low-rank adapters beside frozen layers, put in and merged by peft."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from trainrun.parameters.names import nearest_name
from trainrun.runtime.vision import declare_missing_operators
from trainrun.vocabulary.errors import ConfigError

_ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.MultiheadAttention)
# Only peft's attention, which holds a second adapter, has this method.
_ATTENTION = "unload_and_optionally_merge_module"
_MARK = "lora_"  # in the names of adapters' parameters, as peft gives them


def adapt(
    model: nn.Module,
    head: Collection[str],
    rank: int,
    targets: str | Sequence[str],
    alpha: float | None = None,
) -> None:
    """Put adapters beside the layers that `targets` match: W x + (alpha / rank) B A x (Hu et al., 2021).

    B starts at 0, so that the model computes what it did. Adapters and the parameters named in `head`
    are trained, all else is frozen. Without `alpha` the factor is 1. Raises ConfigError for a pattern
    that matches no layer.
    """
    declare_missing_operators()  # before transformers, which peft imports, looks for torchvision
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise ConfigError.of("parameters.lora", "needs a package: pip install 'trainrun[lora]'") from None
    layers = _matched(model, head, [targets] if isinstance(targets, str) else targets)
    settings: dict[str, Any] = {"r": rank, "target_modules": layers}
    settings["lora_alpha"] = rank if alpha is None else alpha
    inject_adapter_in_model(LoraConfig(**settings), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name) or name in head)
    for layer in model.modules():
        if hasattr(layer, _ATTENTION):
            layer.register_forward_pre_hook(_hold_weights)
            layer.register_forward_hook(_restore_weights)


def _hold_weights(layer: Any, inputs: object) -> None:
    """Keep an attention's own weights: peft adds the adapters and subtracts them again, which rounds."""
    base = layer.get_base_layer()
    output = base.out_proj.get_base_layer()
    layer.held = ((base, "in_proj_weight", base.in_proj_weight), (output, "weight", output.weight))


def _restore_weights(layer: Any, inputs: object, outputs: object) -> None:
    for module, name, weight in vars(layer).pop("held"):
        module.register_parameter(name, weight)


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name is an adapter's."""
    return any(part.startswith(_MARK) for part in name.split("."))


def merge(model: nn.Module) -> None:
    """Add each adapter to its layer's weights and take it out: the model is of the shape it came in."""
    if "peft" not in sys.modules:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, layer in list(model.named_modules()):
        if not isinstance(layer, BaseTunerLayer) or path not in dict(model.named_modules()):
            continue  # the latter: what held it was replaced
        parent, _, name = path.rpartition(".")
        if hasattr(layer, _ATTENTION):
            plain = getattr(layer, _ATTENTION)(merge=True, safe_merge=False, adapter_names=None)
        else:
            layer.merge()
            plain = layer.get_base_layer()
        setattr(model.get_submodule(parent), name, plain)
    vars(model).pop("peft_config", None)


def _matched(model: nn.Module, head: Collection[str], patterns: Sequence[str]) -> list[str]:
    """The names of the layers that each pattern matches, but for the head, which is trained whole."""
    within: tuple[str, ...] = ()  # attention, whose own layers are adapted with it
    names = []
    for name, module in model.named_modules():
        own = {f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False)}
        if isinstance(module, _ADAPTABLE) and not own & set(head) and not name.startswith(within or ("\0",)):
            names.append(name)
            within += (f"{name}.",) if isinstance(module, nn.MultiheadAttention) else ()
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = f"nearest is {nearest_name(pattern, names)}" if names else "there is none but the head"
            raise ConfigError.of("parameters.lora.targets", f"{pattern} matches no layer; {near}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
