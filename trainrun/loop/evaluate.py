"""The metrics of a whole split, every sample counted once; nothing that training reads changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import count, zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.data.samples import describe_error
from trainrun.precision import Precision
from trainrun.protocols import Batch, Data, Shard, TaskProtocol
from trainrun.runtime import divided
from trainrun.runtime.compiler import uncompiled
from trainrun.runtime.machine import is_out_of_memory, seed_forward, seeded
from trainrun.task.metrics import mean_loss
from trainrun.task.own_metrics import TAKEN, curves
from trainrun.vocabulary.errors import ConfigError, DataError, RankFailedError, TrainrunError

_Sums = dict[str, Any]
OutputsAndTargets = list[tuple[Tensor, Tensor]]  # of each batch, where own metrics need them


class MetricError(TrainrunError):
    """One of the user's own metrics raised an error, or returned what is no number."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within, a model is in evaluation mode; afterwards in the one that it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        if is_divided(model):  # a backward pass, for which FSDP would keep weights gathered, does not come
            cast(Any, model).reshard()


def is_divided(model: nn.Module) -> bool:
    """Whether ranks hold shards of its weights, so that they must make forward passes together."""
    return hasattr(model, "reshard")


def without_gradients(model: nn.Module) -> AbstractContextManager[Any]:
    """Inference mode; for a divided model no_grad: what is gathered into is used in training, too."""
    return torch.no_grad() if is_divided(model) else torch.inference_mode()


def shared_batches(data: Data, split: str, in_step: bool = False) -> Iterator[Batch]:
    """The batches of a split that this rank is to evaluate: all of them where there is one.

    `in_step`: all ranks get equally many. One that has no more gets inputs whose batch counts nothing.
    """
    shard = () if ranks.size() == 1 else (Shard(ranks.rank(), ranks.size()),)
    own, last = iter(data.eval_batches(split, *shard)), None
    for number in count():
        batch = next(own, None)
        if not any(ranks.add_numbers([batch is not None])) if in_step else batch is None:
            return
        last = batch or last or next(iter(data.eval_batches(split)))
        yield replace(last, split=split, number=number, indices=last.indices if batch else [])


def evaluate(
    model: nn.Module,
    task: TaskProtocol,
    batches: Iterable[Batch],
    precision: Precision,
    interruptible: Callable[[], AbstractContextManager[Any]] = nullcontext,
    see: Callable[[Mapping[str, Tensor]], None] = lambda sums: None,
) -> dict[str, float]:
    """Loss and metrics over all of `batches`, exact whatever their sizes.

    `see` is shown the task's sums, of which the metrics are made. The model is put into evaluation mode
    and back; a model that draws random numbers even then draws the same ones each time. With several
    ranks `batches` are this one's share, the metrics are those of all together, the same bits on every
    rank, and the first one's running statistics count.
    Raises RankFailedError where their weights have come to differ, and what `interruptible` raises.
    """
    ranks.broadcast(list(model.buffers()))
    with evaluation_mode(model), interruptible(), without_gradients(model):
        sums, collected = collect(model, task, batches, precision)
    sums = _over_ranks(sums, model)
    if not sums["samples"]["n"]:
        raise DataError("data: a stream to be evaluated is empty")
    metrics = {"loss": mean_loss(sums["terms"], sums["counts"])}
    metrics |= task.summarize(sums["sums"], sums["samples"]["n"])
    see(sums["sums"])
    if task.own_metrics:
        turns = zip_longest(*ranks.gather(collected))  # ranks took every so-many-th batch of the split
        in_order = [batch for turn in turns for batch in turn if batch is not None]
        metrics |= own_metrics(task, in_order, metrics)
    return ranks.broadcast_object(metrics)


def own_metrics(task: TaskProtocol, collected: OutputsAndTargets, taken: Iterable[str]) -> dict[str, float]:
    """The user's own metrics, a curve for each number that they return.

    None can change what the others and the run see: each has copies, and random draws of its own.
    Raises MetricError naming the metric that fails, or whose name is among those `taken`.
    """
    outputs, targets = (torch.cat(parts) for parts in zip(*collected, strict=True))
    info: Any = getattr(task, "info", None)
    labels, num_targets = (info.class_names, info.num_targets) if info else ((), 0)
    results: dict[str, float] = {}
    for name, metric in task.own_metrics.items():
        where = f"task.metrics: {name}"
        try:
            with seeded(0):  # a metric that draws gives the same number each time
                value = metric(outputs.clone(), targets.clone())
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                raise
            shapes = f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}"
            reason = describe_error(error, metric.__module__)
            raise MetricError(f"{where} fails on {shapes}: {reason}") from error
        try:
            added = curves(name, value, labels, num_targets)
        except ValueError as error:
            text = f"{where} {error}; return a number, a vector or a dict of numbers"
            raise MetricError(text) from None
        if both := added.keys() & {*taken, *TAKEN, *(f"train_{metric}" for metric in taken), *results}:
            text = f"would take the place of {min(both)}, which the run records itself"
            raise MetricError(f"{where} {text}; give the function another name")
        results |= added
    return results


def confusion_of(sums: Mapping[str, Tensor]) -> list[list[int]] | None:
    """The matrix (C, C) among a task's sums, rows true classes; None without one, or of over 100 classes."""
    confusion = sums.get("confusion")
    is_matrix = isinstance(confusion, Tensor) and confusion.ndim == 2 and len(confusion) <= 100
    return confusion.tolist() if confusion is not None and is_matrix else None


def predictions(
    model: nn.Module, task: TaskProtocol, batches: Iterable[Batch], precision: Precision
) -> Iterator[tuple[Batch, Tensor]]:
    """Every batch and what the task predicts of it, on the host: probabilities or values, (N, K).

    The model is in evaluation mode from here on.
    """
    model.eval()
    for index, batch in enumerate(batches):
        seed_forward(0, index, precision.device)
        with torch.inference_mode(), precision.autocast():
            predicted = task.predict(model, batch.inputs)
        yield batch, predicted.cpu()


def sample_text(model: nn.Module, task: TaskProtocol, precision: Precision) -> str:
    """What the task lets the model write, nothing where it has no `sample`; training reads none of it."""
    write = getattr(task, "sample", None)
    if write is None or not (ranks.is_main_process() or is_divided(model)):
        return ""
    seed_forward(0, 0, precision.device)
    with evaluation_mode(model), without_gradients(model), precision.autocast(), uncompiled():
        text = str(write(model))
    return text if ranks.is_main_process() else ""


def collect(
    model: nn.Module, task: TaskProtocol, batches: Iterable[Batch], precision: Precision
) -> tuple[dict[str, _Sums], OutputsAndTargets]:
    """This rank's sums by kind, and what the user's own metrics will see."""
    sums: dict[str, _Sums] = {"terms": {}, "counts": {}, "sums": {}, "samples": {"n": 0}}
    collected: OutputsAndTargets = []
    for index, batch in enumerate(batches):
        seed_forward(0, index * ranks.size() + ranks.rank(), precision.device)
        with precision.autocast():
            outcome = task(model, batch)
        if not len(batch):  # others have one more
            continue
        _add(sums["terms"], outcome.terms)
        _add(sums["counts"], task.count(batch))
        _add(sums["sums"], outcome.sums)
        _add(sums["samples"], {"n": len(batch)})
        if task.own_metrics:
            if outcome.outputs is None:
                raise ConfigError.of("task.metrics", "needs a task whose Outcome has outputs")
            targets = batch.targets if outcome.targets is None else outcome.targets
            collected.append((outcome.outputs.float().cpu(), targets.cpu()))
        del outcome  # and with it the outputs, before the next forward pass
    return sums, collected


def _over_ranks(sums: dict[str, _Sums], model: nn.Module) -> dict[str, _Sums]:
    """The sums of all ranks, added in their order."""
    if ranks.size() == 1:
        return sums
    # Equal sums of equal updates leave equal weights; a step of the user's own may have forgotten to add.
    norms = torch.stack(torch._foreach_norm([divided.local(p.detach()) for p in model.parameters()]))
    num_shards = divided.num_shards(model)  # replicas alone are equal
    gathered = ranks.gather((norms.cpu(), sums))
    whole: dict[str, _Sums] = {kind: {} for kind in sums}
    for rank, (their_norms, theirs) in enumerate(gathered):
        if not torch.equal(their_norms, gathered[rank % num_shards][0]):
            text = f"the weights of rank {rank} differ from those of rank {rank % num_shards}"
            raise RankFailedError(text)
        for kind, values in theirs.items():
            _add(whole[kind], values)
    return whole


def _add(into: _Sums, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        into[name] = into[name] + value if name in into else value
