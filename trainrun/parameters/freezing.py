"""Freezing: parameters and modes of what is not trained, all through a run or until a step."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


class Freezing:
    """Holds a model's frozen parts still: their weights, and by evaluation mode their statistics.

    `held` are the names of parameters that are trained from step `until` on. The phase is a function of
    the step alone, so that a resumed run is in the right one.
    """

    def __init__(self, held: Collection[str], until: int | None) -> None:
        self.held, self.until = held, until
        self._brought: tuple[nn.Module, bool] | None = None  # the model, and whether it is held now
        self._still: list[nn.Module] = []

    def __call__(self, model: nn.Module, step: int) -> None:
        """Bring a model in training mode into the phase of `step`."""
        is_held = self.until is not None and step < self.until
        if self._brought != (model, is_held):
            self._brought = model, is_held
            for name in self.held:
                model.get_parameter(name).requires_grad_(not is_held)
            model.train()
            self._still = frozen_modules(model)
        for module in self._still:  # an evaluation leaves all in training mode
            module.training = False


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The modules whose parameters are all frozen, and those inside them."""
    frozen: dict[nn.Module, None] = {}
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            frozen |= dict.fromkeys(module.modules())
    return list(frozen)
