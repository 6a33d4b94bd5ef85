"""The user's own regulariser: a function of the model or of a batch."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.config.call import PlainFunction
from trainrun.protocols import Batch, DataInfo
from trainrun.regularization.kinds import BatchChange, ModelChange, Penalty


class OwnPenalty(Penalty):
    """A function of the model that returns what is added to the loss."""

    def __init__(self, function: PlainFunction) -> None:
        self.function = function

    def penalty(self, model: nn.Module) -> Tensor:
        result = self.function(model)
        if not isinstance(result, Tensor) or result.numel() != 1:
            raise self.function.refuse(result, "one number as a tensor, which is added to the loss")
        return result.reshape(())


class OwnModelChange(ModelChange):
    """A function of the model that returns nothing and changes it."""

    def __init__(self, function: PlainFunction) -> None:
        self.function = function

    def change_model(self, model: nn.Module) -> None:
        self.function(model)


class OwnBatchChange(BatchChange):
    """A function of (inputs, targets) that returns both, or of a Batch that returns one."""

    def __init__(self, function: PlainFunction) -> None:
        self.function = function

    def check(self, info: DataInfo) -> None:
        """Accept any data: the function's needs are unknown."""

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        torch.default_generator.manual_seed(int(torch.randint(1 << 31, (1,), generator=generator)))
        if len(self.function.needs) == 1:
            result = self.function(batch)
            if not isinstance(result, Batch):
                raise self.function.refuse(result, "a trainrun.protocols.Batch")
            return result
        result = self.function(batch.inputs, batch.targets)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.function.refuse(result, "a pair (inputs, targets)")
        return replace(batch, inputs=result[0], targets=result[1])


def as_regularizer(regularizer: Any) -> Any:
    """Wrap a function by its parameters and whether it returns a value; any regulariser stays as it is."""
    if not isinstance(regularizer, PlainFunction):
        return regularizer
    if len(regularizer.needs) == 2 or "batch" in regularizer.needs[0]:
        return OwnBatchChange(regularizer)
    tree = ast.parse(textwrap.dedent(inspect.getsource(regularizer.function)))
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree))
    return OwnPenalty(regularizer) if returns else OwnModelChange(regularizer)
