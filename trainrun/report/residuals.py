"""How far a regression is off: by output, by share of the samples, and where most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.text import Text
from torch import Tensor

from trainrun.protocols import Batch
from trainrun.task.regression import Regression
from trainrun.terminal.numbers import number
from trainrun.terminal.table import heading, laid_out

_LARGEST = 5  # errors that are listed
_OUTPUTS = 20  # that are listed

Floats = NDArray[np.float64]


def errors(predicted: Floats, targets: Floats) -> dict[str, Floats]:
    """Of predictions and targets (N, K), by output and in its units.

    r2 is 1 - SSE / SST about the mean of these targets; NaN where they are all the same.
    """
    with np.errstate(all="ignore"):  # what is not finite shows as such
        off = predicted - targets
        sst = np.square(targets - targets.mean(0)).sum(0)
        half, most = np.quantile(np.abs(off), [0.5, 0.95], axis=0)
        result = {"mae": np.abs(off).mean(0), "rmse": np.sqrt(np.square(off).mean(0))}
        result["r2"] = np.where(sst > 0, 1 - np.square(off).sum(0) / sst, np.nan)
        return result | {"mean error": off.mean(0), "half within": half, "95% within": most}


def largest(predicted: Floats, targets: Floats, count: int) -> list[tuple[int, int]]:
    """(row, output) of the errors that are largest against their output's rmse, the largest first."""
    with np.errstate(all="ignore"):
        off = np.abs(predicted - targets)
        scale = np.sqrt(np.square(off).mean(0))
        relative = off / np.where(scale > 0, scale, 1)
    order = np.argsort(-np.nan_to_num(relative, nan=np.inf), axis=None, kind="stable")[:count]
    return [divmod(int(flat), off.shape[1]) for flat in order]


class ResidualReport:
    """What a regression made of a split."""

    def __init__(self, task: Regression) -> None:
        self.task = task
        self._batches: list[tuple[Floats, Floats, NDArray[np.int64]]] = []

    def see(self, outputs: Tensor, batch: Batch) -> None:
        """Keep a batch's predictions and targets in the targets' own units."""
        predicted, targets = self.task.metric_inputs(outputs, batch.targets)
        indices = torch.as_tensor(batch.indices).cpu().numpy()
        self._batches.append((predicted.cpu().double().numpy(), targets.cpu().double().numpy(), indices))

    def lines(self, width: int) -> list[Text]:
        """Text, which fits into any terminal; the largest errors by their samples' places in the data set."""
        predicted, targets, samples = (np.concatenate(parts) for parts in zip(*self._batches, strict=True))
        result = errors(predicted, targets)
        title, count = "", predicted.shape[1]
        shown = np.arange(count)
        if count > _OUTPUTS:
            title = f"the {_OUTPUTS} of {count} outputs with the lowest r2"
            shown = np.argsort(result["r2"], kind="stable")[:_OUTPUTS]
        table = [["output", *result]]
        table += [[str(k), *(number(float(column[k])) for column in result.values())] for k in shown]
        errors_table = [["output", "sample", "target", "predicted", "error"]]
        for row, k in largest(predicted, targets, _LARGEST):
            values = targets[row, k], predicted[row, k], predicted[row, k] - targets[row, k]
            errors_table.append([str(k), str(samples[row]), *map(number, map(float, values))])
        lines = [*heading(title), *_by_output(table, count)]
        against = ", against each output's rmse" if count > 1 else ""
        return [*lines, *heading(f"the largest errors{against}"), *_by_output(errors_table, count)]


def _by_output(table: Sequence[Sequence[str]], num_outputs: int) -> list[Text]:
    """Without the first column, the output's number, where there is only one."""
    return laid_out(table if num_outputs > 1 else [row[1:] for row in table], left=0)
