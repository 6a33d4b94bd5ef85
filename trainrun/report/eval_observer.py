"""Looks on while a split is evaluated, so that a report needs no second pass and evaluation no change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from trainrun.loop.evaluate import evaluate, shared_batches
from trainrun.protocols import Batch, TaskProtocol
from trainrun.report.classes import ClassReport
from trainrun.report.residuals import ResidualReport
from trainrun.session.load_run import LoadedRun
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.regression import Regression


def report_on(task: TaskProtocol) -> ClassReport | ResidualReport | None:
    """The empty report that suits a task; None for other tasks, the user's own among them."""
    if isinstance(task, (Classification, Binary)) and type(task) in (Classification, Binary):
        return ClassReport(task)
    if isinstance(task, Regression) and type(task) is Regression and not task.has_steps:
        return ResidualReport(task)
    return None


def watched(
    model: nn.Module, batches: Iterable[Batch], see: Callable[[Tensor, Batch], None]
) -> Iterator[Batch]:
    """The same batches; `see` gets each one's outputs once the model has made them, before the next.

    For tasks that call the model once a batch, as those here do.
    """
    outputs_made: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, outputs: outputs_made.append(outputs))
    try:
        for batch in batches:
            yield batch
            see(outputs_made.pop(), batch)
    finally:
        hook.remove()


def evaluate_split(
    loaded: LoadedRun, model: nn.Module, split: str
) -> tuple[dict[str, float], ClassReport | ResidualReport | None]:
    """Evaluate a split of a loaded run: its metrics, and the report that suits its task."""
    parts = loaded.parts
    batches, report = shared_batches(parts.data, split), report_on(parts.task)
    if report is not None:
        batches = watched(model, batches, report.see)
    return evaluate(model, parts.task, batches, parts.state.precision), report
