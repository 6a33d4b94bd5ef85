"""Initial weights: the run's init on the whole model, then the rules' own; what kept the weights it had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from trainrun.assembly.factory import Factory, node_of
from trainrun.config.call import resolve
from trainrun.config.injection import SLOTS
from trainrun.init import LSUV, Fitting, Init, fitted_layers
from trainrun.parameters import ParamConfig
from trainrun.protocols import BatchSpec, Data, Position

_SHOWN = 4  # parameters named in the plan


def initialize(
    make: Factory, model: nn.Module, param_configs: Sequence[ParamConfig], data: Data, batch_spec: BatchSpec
) -> tuple[tuple[str, str], ...]:
    """Set the first weights, and return lines for people.

    init=auto leaves a model from outside trainrun as it came; an init that was chosen sets it anew.
    """
    ruled = {treatment.name: treatment.init for treatment in param_configs if treatment.init is not None}
    first_values = {name: model.get_parameter(name).detach().clone() for name in ruled}
    init: Init = make("init")
    keeps_weights = isinstance(init, Fitting) and not is_from_trainrun(model, _maker(make))
    inputs = _first_inputs(make, data, batch_spec) if isinstance(init, LSUV) else None
    with make.seeded("init"):
        if keeps_weights:
            init.zero_branches(model)
        else:
            init(model)
        if isinstance(init, LSUV):
            init.scale(model, inputs)
        for name, wanted in ruled.items():
            special: Init = make.at("parameters.rules.init", node_of("init", wanted, "parameters.rules"))
            special.initialize_parameter(model, name, first_values[name])
    lines = [_by_rules(ruled)] if ruled else []
    if keeps_weights:
        text = f"auto leaves {type(model).__name__} the weights that it gave itself"
        lines.insert(0, f"{text}; init=kaiming_normal or another sets them anew")
    elif not isinstance(init, Fitting) and init.fill is not None:
        lines.insert(0, _set_anew(model, set(ruled)))
    return tuple(zip(("init", ""), lines, strict=False))


def is_from_trainrun(model: nn.Module, maker: Callable[..., Any]) -> bool:
    """Whether a model is trainrun's own, or differs from it in what sets no weights.

    `maker` is the class or function that the settings name. A function of the user's, or a subclass
    with an `__init__` of its own, may have set weights of its own.
    """
    if not isinstance(maker, type) and not _is_trainruns(maker):
        return False
    for kind in type(model).__mro__:
        if _is_trainruns(kind):
            return True
        if "__init__" in vars(kind):
            return False
    return False


def _is_trainruns(thing: Any) -> bool:
    return str(thing.__module__).startswith("trainrun.")


def _maker(make: Factory) -> Callable[..., Any]:
    target = make.settings["model"]["_target_"]
    return resolve(target, "model", SLOTS["model"], make.trust, make.stored)


def _first_inputs(make: Factory, data: Data, batch_spec: BatchSpec) -> Any:
    """Of the batch that LSUV scales by."""
    first = BatchSpec(max(2, batch_spec.batch_size), 1)
    return next(iter(data.train_batches(Position(), first, make.settings["seed"]))).inputs


def _by_rules(ruled: Mapping[str, Any]) -> str:
    """`parameters.rules sets head.weight by xavier_uniform`."""
    names = [f"{name} by {next(iter(i)) if isinstance(i, Mapping) else i}" for name, i in ruled.items()]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"parameters.rules sets {', '.join(names[:_SHOWN])}{more}"


def _set_anew(model: nn.Module, ruled: set[str]) -> str:
    """`6 layers set anew; embed.weight and token kept their own weights`."""
    layers = fitted_layers(model)
    filled = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    rest = [name for name, p in model.named_parameters() if id(p) not in filled and name not in ruled]
    text = f"{len(layers)} layer{'' if len(layers) == 1 else 's'} set anew"
    if not rest:
        return text
    more = f" and {len(rest) - _SHOWN} more" if len(rest) > _SHOWN else ""
    return f"{text}; kept as the model made them: {', '.join(rest[:_SHOWN])}{more}"
