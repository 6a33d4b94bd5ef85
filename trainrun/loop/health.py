"""How far one step moves the weights, and which units are dead: measured on steps that are logged."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainrun import ranks
from trainrun.checkpoint.state import TrainState
from trainrun.protocols import Step, StepResult, Window
from trainrun.runtime import divided
from trainrun.runtime.compiler import is_compiled

_ZEROING = (nn.ReLU, nn.ReLU6)  # activations that give exactly 0 for half of all inputs


def measure_health(step: Step, state: TrainState, window: Window) -> StepResult:
    """`step(state, window)` and the `health` of its result; nothing where no update was made.

    `update_ratio` is |change| / |weights| of each parameter group, L2 norms before the update.
    `dead_units` is the share of all units of the model's ReLU layers that gave 0 for the whole window.
    Training is what it would be without: weights are copied, outputs are looked at, nothing is drawn.
    The step costs some 2 % more (tests/benchmarks/health.py); one of each log window is looked at.
    """
    ratios, units = _Ratios(), _Units(state.model, step)
    with ExitStack() as opened:
        for part in getattr(state.optimizer, "modules", {}).values() or [state.optimizer]:
            opened.enter_context(part.register_step_pre_hook(ratios.copy))
            opened.enter_context(part.register_step_post_hook(ratios.compare))
        for module in units.names:
            opened.enter_context(module.register_forward_hook(units.look))
        result = step(state, window)
    dead = units.dead()  # the ranks meet here, whatever came of the step
    return replace(result, health={"update_ratio": ratios.by_group} | dead) if result.applied else result


class _Ratios:
    """Update to weight, by parameter group. The copy is made when the activations are gone again."""

    def __init__(self) -> None:
        self.by_group: dict[str, Tensor] = {}
        self._before: list[list[Tensor]] = []
        self._depth = 0  # an optimizer of the user's whose step calls its base's tells of both

    def copy(self, optimizer: Optimizer, *_: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            groups = optimizer.param_groups
            self._before = [[p.detach().clone() for p in group["params"]] for group in groups]

    @torch.no_grad()
    def compare(self, optimizer: Optimizer, *_: Any) -> None:
        self._depth -= 1
        if self._depth:
            return
        for group, before in zip(optimizer.param_groups, self._before, strict=True):
            size = divided.whole(torch.nn.utils.get_total_norm(before))
            torch._foreach_sub_(before, group["params"])
            self.by_group[group["name"]] = divided.whole(torch.nn.utils.get_total_norm(before)) / size
        self._before = []


class _Units:
    """Which units of the ReLU layers have given anything but 0."""

    def __init__(self, model: nn.Module, step: Step) -> None:
        self.step = step
        modules = dict(model.named_modules())
        layers = {} if is_compiled(model) else modules
        self.names: dict[nn.Module, str] = {m: name for name, m in layers.items() if isinstance(m, _ZEROING)}
        self._has_conv1d = any(isinstance(module, nn.Conv1d) for module in modules.values())
        self._alive: dict[str, Tensor] = {}  # (units,) of each layer that ran

    def dead(self) -> dict[str, float | Tensor]:
        """The share over all ranks' samples; nothing where no ReLU layer ran."""
        alive: dict[str, Tensor] = {}
        for by_layer in ranks.gather(self._alive):  # a rank without samples has seen nothing
            for name, fired in by_layer.items():
                previous = alive.get(name, fired)
                alive[name] = previous | fired if previous.shape == fired.shape else previous
        if not alive:
            return {}
        share = 1 - torch.cat(list(alive.values())).float().mean()
        return {"dead_units": share if ranks.size() == 1 else float(share)}  # gathered, it is on the host

    @torch.no_grad()
    def look(self, module: nn.Module, _: Any, output: Any) -> None:
        """`output`: (N, units), (N, length, units) or (N, units, height, width ...).

        Beside one-dimensional convolutions three may be (N, units, length), too, and are left out.
        """
        if not isinstance(output, Tensor) or output.ndim < 2 or not output.numel():
            return
        if getattr(self.step, "stands_in", False):
            return
        if output.ndim == 3 and self._has_conv1d:
            return
        unit = 2 if output.ndim == 3 else 1
        fired = output.detach().amax([dim for dim in range(output.ndim) if dim != unit]) > 0
        name = self.names[module]
        previous = self._alive.get(name)
        if previous is None or previous.shape == fired.shape:  # a layer used in several places may differ
            self._alive[name] = fired if previous is None else previous | fired
