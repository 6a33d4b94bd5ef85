"""Whether the parts fit each other, tried on two samples before anything is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trainrun import ranks
from trainrun.assembly.placement import refuse_undividable
from trainrun.augment.pictures import unaugmented
from trainrun.data.dataset import DatasetData
from trainrun.data.samples import describe_error, describe_value
from trainrun.loop.evaluate import (
    MetricError,
    OutputsAndTargets,
    collect,
    evaluate,
    evaluation_mode,
    own_metrics,
    without_gradients,
)
from trainrun.loop.evaluator import Monitor
from trainrun.loop.probes import ProbeError, run_probes
from trainrun.protocols import Batch, BatchSpec, Data, Position, TaskProtocol
from trainrun.regularization.kinds import Penalty, combine_batch_changes
from trainrun.runtime.machine import is_out_of_memory
from trainrun.scheduler.configured import Configured
from trainrun.vocabulary.errors import ConfigError, DataError, TrainrunError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts


def try_parts(parts: Parts) -> tuple[tuple[str, str], ...]:
    """`_try_once`; where that fails on kernels in `channels_last`, without. Then the user's probes.

    Returns lines for the plan.
    """
    state, lines = parts.state, list[tuple[str, str]]()
    if parts.parallel.shards:
        refuse_undividable(state.optimizer)
    with torch.no_grad():
        for regularizer in parts.regularizers.values():
            if isinstance(regularizer, Penalty):
                regularizer.penalty(state.model)
    squashes = _Squashes()
    try:
        _try_once(parts, squashes)
    except ConfigError:
        if not parts.runtime.channels_last or parts.parallel.shards:
            raise
        average = state.weight_average.model if state.weight_average else None
        for parameter in (*state.model.parameters(), *(average.parameters() if average else ())):
            parameter.data = parameter.data.to(memory_format=torch.contiguous_format)
        _try_once(parts, squashes)
        lines = [("channels_last", "off: the model fails with it, as one does that flattens with .view")]
    if isinstance(state.schedule, Configured) and state.schedule.monitor:
        _try_monitor(parts, state.schedule.monitor)
    if parts.probes:
        _try_probes(parts)
    return (*squashes.cautions, *lines)


class _Squashes(TorchFunctionMode):
    """Notice a sigmoid or softmax whose result goes into a loss that begins with the same."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[str, Tensor]] = {}  # kept, so that nothing else gets its place in memory
        self.cautions: list[tuple[str, str]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, as without this mode."""
        called = getattr(function, "__name__", "")
        first = args[0] if args and type(args[0]) is Tensor else None
        if called in ("binary_cross_entropy_with_logits", "cross_entropy") and first is not None:
            name, _ = self.made.get(first.data_ptr(), ("", None))
            text = f"the model ends in a {name}, which the loss applies too: leave it out of the model"
            self.cautions = [("caution", text)] if name else self.cautions
        result = function(*args, **(kwargs or {}))
        if called in ("sigmoid", "softmax") and type(result) is Tensor:
            self.made[result.data_ptr()] = called, result
        return result


def _try_once(parts: Parts, squashes: _Squashes) -> None:
    """Make one forward pass of two samples, so that a misfit is reported before anything is written.

    First the regularisers change the inputs, as in training. Two samples of each split that is a
    dataset of its own follow, then the user's own metrics, and with several ranks their shards.
    """
    data, seed = parts.data, parts.settings["seed"]
    batch = next(iter(data.train_batches(Position(), BatchSpec(2, 1), seed)))
    for change in combine_batch_changes(parts.regularizers.values()):
        change.change_batch(batch, data.info, torch.Generator())
    with squashes:
        misfit = _misfit(parts, batch)
    if misfit:
        raise ConfigError.of("model", misfit[0]) from misfit[1]
    given = unaugmented(data)
    for split, other in given.first_given() if isinstance(given, DatasetData) else ():
        if misfit := _misfit(parts, other):
            inputs = f"{_shown(other.inputs)}, those of the training split {_shown(batch.inputs)}"
            raise DataError(f"data.{split}: its inputs are {inputs}: the model {misfit[0]}") from misfit[1]
    if parts.task.own_metrics or (parts.monitor and parts.monitor.name not in parts.task.metric_modes):
        _try_metrics(parts)
    if ranks.size() > 1:
        _check_shares(data, seed)


def _try_metrics(parts: Parts) -> None:
    """The user's own metrics, or those that his task logs, on each split that will be evaluated.

    Raises ConfigError naming the metric that fails, and for a monitor that is none of their curves.
    """
    splits = [name for name in ("val", "test") if parts.info.sizes.get(name) != 0] or ["train"]
    try:
        with evaluation_mode(parts.state.model):
            for split in splits:
                _try_on_split(parts, split, parts.monitor if split == "val" else None)
    except MetricError as error:
        key, _, text = str(error).partition(": ")
        raise ConfigError.of(key, text) from error.__cause__


def _try_monitor(parts: Parts, name: str) -> None:
    """Raise ConfigError where evaluations have no metric of that name, which the user's scheduler follows."""
    state, first = parts.state, islice(parts.data.eval_batches("val"), 1) if parts.monitor else None
    metrics = evaluate(state.model, parts.task, first, state.precision) if first else {}
    if name not in metrics:
        text = f"own follows {name}, validation gives {', '.join(metrics) or 'nothing'}"
        raise ConfigError.of("optimizer", text)


def _try_probes(parts: Parts) -> None:
    """The user's probes on the first batch, or on the whole split where they fail on that.

    Raises ConfigError naming the probe that fails.
    """
    first: Any = SimpleNamespace(eval_batches=lambda split: islice(parts.data.eval_batches(split), 1))
    try:
        try:
            run_probes(parts.probes, parts.state, first)
        except ProbeError as error:
            if error.__cause__ is None:  # it changed the weights
                raise
            run_probes(parts.probes, parts.state, parts.data)
    except ProbeError as error:
        key, _, text = str(error).partition(": ")
        raise ConfigError.of(key, text) from error.__cause__


def _try_on_split(parts: Parts, split: str, monitor: Monitor | None) -> None:
    """Try the metrics on the first batch, or on the whole split where they fail on that.

    Some need samples of every class. Raises MetricError.
    """
    batch = next(iter(parts.data.eval_batches(split)), None)
    if batch is None:
        raise DataError(f"data.{split}: a stream to be evaluated is empty")
    try:
        _try(parts, [batch], monitor)
    except MetricError:
        if parts.info.sizes.get(split) in (None, len(batch)):
            raise
        _try(parts, parts.data.eval_batches(split), monitor)


def _try(parts: Parts, batches: Iterable[Batch], monitor: Monitor | None) -> None:
    """Raises MetricError, also where the monitor is not among the curves."""
    task, state = parts.task, parts.state
    with without_gradients(state.model):
        sums, collected = collect(state.model, task, batches, state.precision)
    if task.own_metrics:
        curves = own_metrics(task, collected, task.metric_modes)
        _refuse_values_per_sample(task, collected, curves)
    else:
        curves = task.summarize(sums["sums"], sums["samples"]["n"])
    if monitor and monitor.name not in (*task.metric_modes, *curves):
        available = ", ".join(f"val/{name}" for name in (*task.metric_modes, *curves))
        raise MetricError(f"monitor: there is no val/{monitor.name}; there are {available}")


def _refuse_values_per_sample(
    task: TaskProtocol, collected: OutputsAndTargets, curves: Mapping[str, float]
) -> None:
    """Raises ConfigError for a vector that is as long as there are samples, however many these are."""
    outputs, targets = (torch.cat(parts) for parts in zip(*collected, strict=True))
    for name in task.own_metrics:
        length = sum(curve.startswith(f"{name}/") for curve in curves)
        if length != len(targets) or length < 2:
            continue
        try:
            fewer = own_metrics(task, [(outputs[:-1], targets[:-1])], task.metric_modes)
        except MetricError:  # it cannot do with as few, which does not make it wrong
            continue
        if sum(curve.startswith(f"{name}/") for curve in fewer) < length:
            text = f"{name} returns a number for each sample; return their mean"
            raise ConfigError.of("task.metrics", text)


def _misfit(parts: Parts, batch: Batch) -> tuple[str, Exception] | None:
    """What a model fails with on this batch, in words and as it was raised; None where it does not."""
    task, state = parts.task, parts.state
    try:
        with evaluation_mode(state.model), torch.no_grad(), state.precision.autocast():
            task(state.model, batch)
        return None
    except Exception as error:
        if parts.parallel.shards and "torch.Tensor and DTensor" in str(error):
            text = "has a part that the task calls by itself: fsdp gathers weights in its forward alone"
            raise ConfigError.of(
                "model", f"{text}; call the model, or use parallel=ddp", "parallel=ddp"
            ) from error
        if isinstance(error, TrainrunError) or is_out_of_memory(error):
            raise
        plain = isinstance(error, (RuntimeError, IndexError, ValueError, TypeError, AssertionError))
        text = str(error) if plain else describe_error(error, type(state.model).__module__)
        if isinstance(batch.inputs, Tensor) and not batch.inputs.is_floating_point() and "dtype" in text:
            kind = str(batch.inputs.dtype).removeprefix("torch.")
            text += f"; inputs are {kind}: where they are numbers, give floats in the data set"
        inputs = f"inputs of {_shown(batch.inputs)}, with {task.num_outputs} outputs wanted"
        return f"fails on {inputs}: {text}", error


def _shown(inputs: Any) -> str:
    is_tensor = isinstance(inputs, Tensor)
    return f"shape {tuple(inputs.shape)}" if is_tensor else f"the form {describe_value(inputs)}"


def _check_shares(data: Data, seed: int) -> None:
    """Every rank must read the same data and be given other samples of them."""
    if "share" not in inspect.signature(data.eval_batches).parameters:
        text = "evaluates whole splits; with several ranks eval_batches must take (split, share)"
        raise ConfigError.of("data", text)
    mine = next(iter(data.train_batches(Position(), BatchSpec(1, 1, ranks.size(), ranks.rank()), seed)))
    whole = next(iter(data.train_batches(Position(), BatchSpec(ranks.size(), 1), seed)))
    identities, indices = zip(
        *ranks.gather((str(data.info.identity), [*map(int, mine.indices)])), strict=True
    )
    for rank, identity in enumerate(identities):
        if identity != identities[0]:
            text = f"data: rank {rank} has other data than rank 0: {identity}, not {identities[0]}"
            raise DataError(text)
    samples = sorted(str(index) for of_rank in indices for index in of_rank)
    if samples != sorted(str(int(index)) for index in whole.indices):
        text = "gives several ranks the same samples; train_batches must give those of cut.rank"
        raise ConfigError.of("data", text)
