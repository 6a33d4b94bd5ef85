"""Call a model as its signature says: inputs that are a dict by name, those of several parts one by one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainrun.protocols import InputParts
from trainrun.vocabulary.errors import ConfigError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_WHOLE_BATCH = {"batch", "samples", "sample", "data", "inputs", "examples"}


def call_by_signature(model: nn.Module, inputs: Any, drops: bool = False) -> None:
    """Make `model(inputs)` spread inputs of several parts over the arguments that `forward` takes.

    With `drops` a model of fewer arguments than parts gets the first ones, unless its only one is called
    `batch` or the like.

    A model that takes a dict or a tuple as one argument gets it so. Called with several arguments, as its
    author does, a model behaves as before. Raises ConfigError where the parts do not fit the signature.
    """
    if isinstance(inputs, Mapping) and (names := _names_for(model, list(inputs))) is not None:
        model.register_forward_pre_hook(_ByName(names), with_kwargs=True)
    if isinstance(inputs, InputParts):
        model.register_forward_pre_hook(_InOrder(_count_for(model, len(inputs), drops)), with_kwargs=True)


def arguments_of(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that `forward` gets from `inputs`: those of `call_by_signature`, else `inputs` alone."""
    for hook in model._forward_pre_hooks.values():
        if isinstance(hook, (_ByName, _InOrder)) and (arguments := hook(model, (inputs,), {})) is not None:
            return arguments  # type: ignore[no-any-return]
    return (inputs,), {}


@dataclass(frozen=True)
class _ByName:
    """A forward pre-hook: one dict becomes the keyword arguments that `forward` knows."""

    names: tuple[str, ...]

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 1 or kwargs or not isinstance(args[0], Mapping):
            return None
        return (), {name: args[0][name] for name in self.names if name in args[0]}


@dataclass(frozen=True)
class _InOrder:
    """A forward pre-hook: the first `count` parts become arguments; 0 gives all of them as one tuple."""

    count: int

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 1 or not isinstance(args[0], InputParts):
            return None
        return tuple(args[0])[: self.count] if self.count else (tuple(args[0]),), kwargs


def _names_for(model: nn.Module, keys: list[Any]) -> tuple[str, ...] | None:
    """The keys that `forward` takes as keywords; None where it takes the dict as it is."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return tuple(keys)
    names = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    required = [parameter.name for parameter in positional if parameter.default is parameter.empty]
    if not set(keys) & set(names) and len(required) <= 1:
        return None
    if missing := [name for name in required if name not in keys]:
        text = f"forward of {type(model).__name__} needs {', '.join(missing)}"
        fix = "name the entries as the arguments are, or choose them by data.inputs"
        raise ConfigError.of("model", f"{text}, the inputs have {', '.join(map(str, keys))}; {fix}")
    return tuple(name for name in names if name in keys)


def _count_for(model: nn.Module, count: int, drops: bool) -> int:
    """How many of `count` parts `forward` takes as arguments of its own; 0 for all as one tuple."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return count
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    required = [parameter for parameter in positional if parameter.default is parameter.empty]
    if len(required) > count:
        text = f"forward of {type(model).__name__} takes {len(required)} arguments"
        raise ConfigError.of("model", f"{text}, the inputs have {count} parts")
    if drops and not (len(positional) == 1 and positional[0].name in _WHOLE_BATCH):
        return min(count, len(positional))
    return count if len(positional) >= count else 0
