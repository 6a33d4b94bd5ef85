"""The optimizer that a LightningModule's own `configure_optimizers` returns, and its schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import LBFGS, Optimizer

from trainrun.vocabulary.errors import ConfigError


def configure_optimizers(model: nn.Module) -> tuple[Optimizer, list[Any]]:
    """The optimizer that a LightningModule's method returns, and its schedulers, in any of Lightning's forms.

    Raises ConfigError for a module without the method, and where it returns anything but one optimizer.
    """
    method: Any = getattr(model, "configure_optimizers", None)
    optimizers, schedulers = _parts(method and method())
    names = " and ".join(type(optimizer).__name__ for optimizer in optimizers)
    if len(optimizers) != 1 or not isinstance(optimizers[0], Optimizer):
        whose = f"{type(model).__name__}.configure_optimizers"
        text = f"own needs one optimizer of {whose}, got {names or 'nothing'}"
        raise ConfigError.of("optimizer", f"{text}; for several write loop.step._target_")
    if isinstance(optimizers[0], LBFGS):
        raise ConfigError.of("optimizer", "own cannot be LBFGS, which clipping breaks; use optimizer=lbfgs")
    weights = [parameter for group in optimizers[0].param_groups for parameter in group["params"]]
    if not {*weights} <= {*model.parameters()}:
        raise ConfigError.of("optimizer", f"own trains weights of {names} that are not in the model")
    return optimizers[0], schedulers


def _parts(returned: Any) -> tuple[list[Any], list[Any]]:
    """(optimizers, schedulers) of an optimizer, of a dict, of two lists, or of one of these in a list."""
    if isinstance(returned, Mapping) and "optimizer" in returned:
        scheduler = returned.get("lr_scheduler")
        if "monitor" in returned and not isinstance(scheduler, Mapping):
            scheduler = {"scheduler": scheduler, "monitor": returned["monitor"]}
        return [returned["optimizer"]], [] if scheduler is None else [scheduler]
    if not isinstance(returned, (list, tuple)):
        return [returned], []
    if len(returned) == 2 and isinstance(returned[0], (list, tuple)):
        schedulers = returned[1]
        return [*returned[0]], [*schedulers] if isinstance(schedulers, (list, tuple)) else [schedulers]
    return _parts(returned[0]) if len(returned) == 1 else ([*returned], [])
