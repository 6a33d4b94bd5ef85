"""Parameter groups by name pattern: learning-rate factor, weight decay, freezing and its end, init."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from trainrun.parameters.freezing import Freezing
from trainrun.parameters.lora import adapt, is_adapter
from trainrun.parameters.names import head_of, nearest_name
from trainrun.vocabulary.errors import ConfigError, Problem
from trainrun.vocabulary.ranges import Period, PositiveFraction

# A rule's keys, and the fields of ParamConfig that they set.
_FIELDS = {"lr": "lr_factor", "weight_decay": "weight_decay", "freeze": "frozen", "init": "init"}


@dataclass(frozen=True)
class ParamConfig:
    """How one parameter is trained."""

    name: str
    shape: tuple[int, ...]
    lr_factor: float
    weight_decay: float | None  # None where the optimizer has no decay
    frozen: bool
    init: Any = None  # a rule's init; None means that of the run
    is_held: bool = False  # frozen by a rule at first, and trained later

    @property
    def group(self) -> str:
        """The parameter group's name: how it differs from the others."""
        if self.frozen and not self.is_held:
            return "frozen"
        lr = "" if self.lr_factor == 1 else f"lr x {self.lr_factor:g}"
        decay = "" if self.weight_decay is None else f"decay {self.weight_decay:g}"
        return ", ".join(part for part in (lr, decay) if part) or "all"


class Parameters:
    """Rules of the form `pattern: {lr: factor, weight_decay: value, freeze: true, init: scheme}`.

    Patterns are shell-style (`head*`, `*.bias`) and match whole parameter names; `head` alone is the
    output layer of any model, `backbone` all else. Where several match, later ones win, setting by
    setting. What rules freeze is trained from step `unfreeze_at` on.
    Norms, biases and other 1-D parameters are not decayed unless `decay_norm_and_bias` or a rule says
    so. A rule's init skips them where it also matches matrices.
    Each layer's learning rate is `layer_decay` times that of the next, the last layer's the full one
    (Clark et al., 2020). A rule's `lr` replaces that factor. `lora` trains adapters in place of layers.
    """

    def __init__(
        self,
        decay_norm_and_bias: bool,
        layer_decay: PositiveFraction,
        rules: Mapping[str, Mapping[str, Any]],
        unfreeze_at: Period | None,
        lora: Mapping[str, Any] | None,
    ) -> None:
        self.decay_norm_and_bias, self.layer_decay = decay_norm_and_bias, layer_decay
        self.rules, self.unfreeze_at, self.lora = rules, unfreeze_at, lora

    def adapt(self, model: nn.Module) -> None:
        """Put the adapters of `lora` into a model, once it has its weights; they and the head are trained."""
        if self.lora is not None:
            adapt(model, head_of(model), **self.lora)

    def param_configs(self, model: nn.Module, weight_decay: float | None) -> list[ParamConfig]:
        """One entry per parameter, in the model's order. Raises ConfigError for a pattern without a match."""
        named = dict(model.named_parameters())
        parts: dict[str, set[str]] = {}
        if {"head", "backbone"} & self.rules.keys():
            head = head_of(model)
            parts = {"head": head, "backbone": {n for n in named if n not in head and not is_adapter(n)}}
        matches = {rule: {name for name in named if fnmatchcase(name, rule)} for rule in self.rules}
        matches |= {rule: parts[rule] for rule in parts.keys() & self.rules.keys() if not matches[rule]}
        if unmatched := [pattern for pattern, names in matches.items() if not names]:
            near = {rule: nearest_name(rule, named) for rule in unmatched}
            texts = {rule: f"matches no parameter; nearest is {name}" for rule, name in near.items()}
            raise ConfigError([Problem(f"parameters.rules.{rule}", text) for rule, text in texts.items()])
        spared = set() if self.decay_norm_and_bias else _norms_and_biases(model)
        layer_of = _layers(model)
        last = max(layer_of.values())
        configs = []
        for name, parameter in named.items():
            factor = self.layer_decay ** (last - layer_of[name])
            decay = 0.0 if weight_decay is not None and name in spared else weight_decay
            fields: dict[str, Any] = {"lr_factor": factor, "weight_decay": decay}
            fields["frozen"] = not parameter.requires_grad
            for pattern, rule in self.rules.items():
                if name in matches[pattern]:
                    has_init = parameter.ndim > 1 or all(named[other].ndim < 2 for other in matches[pattern])
                    keys = rule.keys() - (() if has_init else {"init"})
                    fields |= {field: rule[key] for key, field in _FIELDS.items() if key in keys}
            is_held = fields["frozen"] and parameter.requires_grad and self.unfreeze_at is not None
            configs.append(ParamConfig(name, tuple(parameter.shape), **fields, is_held=is_held))
        if all(config.frozen for config in configs):
            raise ConfigError.of("parameters.rules", "freeze every parameter; nothing is left to train")
        return configs

    def groups(self, model: nn.Module, configs: list[ParamConfig], lr: float) -> list[dict[str, Any]]:
        """Parameter groups as torch's optimizers take them; freezes what a rule froze."""
        named = dict(model.named_parameters())
        groups: dict[tuple[float, float | None], dict[str, Any]] = {}
        for config in configs:
            parameter = named[config.name].requires_grad_(not config.frozen)
            if config.frozen and not config.is_held:
                continue
            settings: dict[str, Any] = {"params": [], "name": config.group, "lr": lr * config.lr_factor}
            if config.weight_decay is not None:
                settings["weight_decay"] = config.weight_decay
            group = groups.setdefault((config.lr_factor, config.weight_decay), settings)
            group["params"].append(parameter)
        return list(groups.values())

    def freezing(self, model: nn.Module, configs: list[ParamConfig]) -> Freezing | None:
        """What stays as it is while it is frozen; None where all is trained from the first step.

        Raises ConfigError for an end of what never began.
        """
        held = [config.name for config in configs if config.is_held]
        if self.unfreeze_at is not None and not held:
            text = "has no effect because no rule freezes anything; freeze all but the head with"
            raise ConfigError.of("parameters.unfreeze_at", text, "parameters.rules.backbone.freeze=true")
        is_whole = all(parameter.requires_grad for parameter in model.parameters())
        return None if is_whole and not held else Freezing(held, self.unfreeze_at)


def _layers(model: nn.Module) -> dict[str, int]:
    """Parameter name -> the number of its layer, counted from the input in the model's order.

    A layer is one element of the outermost list of modules, or else a module. A module without a
    matrix, such as a norm, belongs to the layer before it.
    """
    layers: dict[str, int] = {}
    numbers: dict[str, int] = {}
    matrices = {_layer(name) for name, p in model.named_parameters() if p.ndim > 1}
    for name, _ in model.named_parameters():
        if (layer := _layer(name)) in matrices:
            numbers.setdefault(layer, len(numbers))
        layers[name] = numbers.get(layer, max(0, len(numbers) - 1))
    return layers


def _layer(name: str) -> str:
    """`blocks.3` of `blocks.3.attention.weight`; `head` of `head.weight`."""
    *parts, _ = name.split(".")
    numbered = next((length for length, part in enumerate(parts, 1) if part.isdigit()), len(parts))
    return ".".join(parts[:numbered]) or name


def _norms_and_biases(model: nn.Module) -> set[str]:
    """Names of parameters without weight decay: norms, all 1-D ones, and those named bias."""
    names = {n for n, p in model.named_parameters() if p.ndim < 2 or n.rpartition(".")[2] == "bias"}
    for path, module in model.named_modules():
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):  # those that may have more than one dimension
            names |= {n for n, _ in module.named_parameters(path, recurse=False)}
    return names
