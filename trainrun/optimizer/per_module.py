"""An optimizer for each named module of the model: two networks that train in turn, or parts that differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainrun.optimizer.of_torch import Params
from trainrun.optimizer.sam import CompositeOptimizer
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import NonNegative, Positive


class ModuleOptimizers(CompositeOptimizer):
    """`modules[name]` updates one module, `step` all of them; states are stored and loaded as one."""

    def __init__(self, modules: Mapping[str, Optimizer]) -> None:
        super().__init__([*modules.values()])
        self.modules = dict(modules)


def per_module(
    params: Params,
    model: nn.Module,
    modules: dict[str, Callable[[Params, float, float], Optimizer]],
    lr: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Each of `modules` by name, such as generator, with the optimizer that is named for it.

    Raises ConfigError for names that the model does not have, and where a parameter is in none or in two.
    """
    children = dict(model.named_modules())
    if unknown := [name for name in modules if name not in children]:
        names = ", ".join(name for name, _ in model.named_children())
        raise ConfigError.of(f"optimizer.modules.{unknown[0]}", f"the model has no such module; it has {names}")
    owners = {
        parameter: name for name in modules for parameter in children[name].parameters()
    }
    named = {parameter: name for name, parameter in model.named_parameters()}
    if sum(len([*children[name].parameters()]) for name in modules) > len(owners):
        raise ConfigError.of("optimizer.modules", "share parameters, which two optimizers would update")
    by_module: dict[str, list[dict[str, Any]]] = {name: [] for name in modules}
    for group in params:
        if left := [named[p] for p in group["params"] if p not in owners]:
            text = f"leave {left[0]} without an optimizer; name its module, too, or freeze it"
            raise ConfigError.of("optimizer.modules", text)
        for name, groups in by_module.items():
            if inner := [p for p in group["params"] if owners[p] == name]:
                groups.append({**group, "params": inner, "module": name})
    if empty := [name for name, groups in by_module.items() if not groups]:
        raise ConfigError.of(f"optimizer.modules.{empty[0]}", "has no parameter that is trained")
    for name, groups in by_module.items():
        for group in groups:  # names of the learning rates in the log
            group["name"] = name if len(groups) == 1 else f"{name}, {group['name']}"
    return ModuleOptimizers({name: make(by_module[name], lr, weight_decay) for name, make in modules.items()})
