"""The user's own task as a function of (model, batch) that returns the loss."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from trainrun.config.call import PlainFunction
from trainrun.protocols import Batch, DataInfo, Outcome
from trainrun.task.base import Task
from trainrun.task.model_loss import outputs_in
from trainrun.vocabulary.errors import ConfigError

_MODES = {"loss": "min", "accuracy": "max", "f1_macro": "max", "r2": "max", "mae": "min", "rmse": "min"}


class OwnTask(Task):
    """A function of (model, batch) that returns loss and metrics: means, or one value per sample."""

    kinds = ("classes", "labels", "values", "tokens", "step_classes", "step_values", "other")
    logs_more: ClassVar[bool] = True  # metrics of further names, which only a batch tells

    def __init__(self, function: PlainFunction, loss: Any, info: DataInfo) -> None:
        super().__init__([], loss, info)
        self.function = function
        tree = ast.parse(textwrap.dedent(inspect.getsource(function.function)))
        keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
        named = {"loss", *(str(key.value) for key in keys if isinstance(key, ast.Constant))}
        self.metric_modes = {name: mode for name, mode in _MODES.items() if name in named}

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        result = self.function(model, batch)
        if isinstance(result, Outcome):
            return result
        result = dict(result) if isinstance(result, Mapping) else {"loss": result}
        wrong = [value for value in result.values() if not _is_of(value, len(batch))]
        if "loss" not in result or wrong:
            form = "the loss, or {'loss': ..., 'my_metric': ...}, as tensors: means, or one value per sample"
            raise self.function.refuse(wrong[0] if wrong else result, form)
        sums = {name: value.mean() * len(batch) for name, value in result.items()}
        loss = sums.pop("loss")
        return Outcome({"loss": loss}, {name: value.detach() for name, value in sums.items()})

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        """What the model returns, of several tensors the first."""
        outputs = outputs_in(model(inputs))
        if outputs is None:
            raise ConfigError.of("task", "cannot predict: the model returns no outputs")
        return outputs


def as_task(task: Any, loss: Any, info: DataInfo) -> Any:
    """Wrap a function of (model, batch) as a task; a task stays as it is."""
    return OwnTask(task, loss, info) if isinstance(task, PlainFunction) else task


def _is_of(value: Any, num_samples: int) -> bool:
    return isinstance(value, Tensor) and (value.numel() == 1 or value.shape == (num_samples,))
