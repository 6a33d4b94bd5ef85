"""Initial weights: the run's init on the whole model, then the rules' own; what kept the weights it had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from trainrun.assembly.costs import first_of
from trainrun.assembly.factory import Factory, Settings, node_of, option_of
from trainrun.checkpoint.weights import Weights, start_from
from trainrun.init import LSUV, Fitting, Init, fitted_layers
from trainrun.model.pretrained import preprocessing_of
from trainrun.parameters import ParamConfig, Parameters
from trainrun.protocols import BatchSpec, Data, Position, Preprocessing
from trainrun.vocabulary.errors import ConfigError


def initialize(
    make: Factory, model: nn.Module, param_configs: Sequence[ParamConfig], data: Data, batch_spec: BatchSpec
) -> tuple[tuple[str, str], ...]:
    """Set the first weights, and return lines for people.

    init=auto leaves a model from outside trainrun as it came; an init that was chosen sets it anew.
    """
    ruled = {config.name: config.init for config in param_configs if config.init is not None}
    first_values = {name: model.get_parameter(name).detach().clone() for name in ruled}
    init: Init = make("init")
    keeps_weights = isinstance(init, Fitting) and not is_from_trainrun(model, make.callable_of("model"))
    if isinstance(init, LSUV):  # before the draws of init begin
        first = BatchSpec(max(2, batch_spec.batch_size), 1)
        inputs = next(iter(data.train_batches(Position(), first, make.settings["seed"]))).inputs
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
    lines = []
    if keeps_weights:
        text = f"auto leaves {type(model).__name__} the weights that it gave itself"
        lines.append(f"{text}; init=kaiming_normal or another sets them anew")
    elif not isinstance(init, Fitting) and init.fill is not None:
        lines.append(_set_anew(model, set(ruled)))
    if ruled:  # `parameters.rules sets head.weight by xavier_uniform`
        names = [f"{name} by {next(iter(i)) if isinstance(i, Mapping) else i}" for name, i in ruled.items()]
        lines.append(f"parameters.rules sets {first_of(names)}")
    return tuple(zip(("init", ""), lines, strict=False))


def preprocessing_for(settings: Settings, is_taken: bool) -> Preprocessing | None:
    """What the model's weights were trained to see; raises ConfigError where it is asked for in vain."""
    model = settings["model"]
    preprocessing = preprocessing_of(model, settings["init_from"]) if is_taken else None
    if not is_taken and model.get("preprocessing") not in (None, "auto"):
        name = option_of(settings["data"])
        text = f"has no effect on data={name}; data=imagefolder takes it, others data.normalize=imagenet"
        raise ConfigError.of("model.preprocessing", text, "model.preprocessing=auto")
    return preprocessing


def load_and_adapt(
    make: Factory,
    parameters: Parameters,
    model: nn.Module,
    weights: Weights | None,
    param_configs: list[ParamConfig],
) -> tuple[list[str], list[ParamConfig]]:
    """Copy stored weights into a model, but for what rules initialise; then put in LoRA's adapters.

    Returns a line of each parameter that is not from the file, and how all are trained.
    """
    anew = {config.name for config in param_configs if config.init is not None}
    reinitialized = start_from(model, weights, anew) if weights else []
    if parameters.lora is None:
        return reinitialized, param_configs
    with make.seeded("parameters.lora"):
        parameters.adapt(model)
    return reinitialized, parameters.param_configs(model, make.settings["optimizer"].get("weight_decay"))


def is_from_trainrun(model: nn.Module, maker: Callable[..., Any]) -> bool:
    """Whether a model is trainrun's own, or differs from it in what sets no weights.

    `maker` is the class or function that the settings name. A function of the user's, or a subclass
    with an `__init__` of its own, may have set weights of its own.
    """
    if not isinstance(maker, type) and not _is_trainruns(maker):
        return False
    kinds = (kind for kind in type(model).__mro__ if _is_trainruns(kind) or "__init__" in vars(kind))
    return _is_trainruns(next(kinds))  # object has one


def _is_trainruns(thing: Any) -> bool:
    return str(thing.__module__).startswith("trainrun.")


def _set_anew(model: nn.Module, ruled: set[str]) -> str:
    """`6 layers set anew; embed.weight and token kept their own weights`."""
    layers = fitted_layers(model)
    filled = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    rest = [name for name, p in model.named_parameters() if id(p) not in filled and name not in ruled]
    text = f"{len(layers)} layer{'' if len(layers) == 1 else 's'} set anew"
    return f"{text}; kept as the model made them: {first_of(rest)}" if rest else text
