"""Locate the first NaN or infinity in a step whose gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.protocols import Batch, NonFiniteReport, Outcome, Window
from trainrun.runtime import divided
from trainrun.runtime.compiler import uncompiled


def locate_nonfinite(
    model: nn.Module, window: Window, norm: float, forward: Callable[[int, Batch], Outcome] | None
) -> NonFiniteReport:
    """Look at the data, the weights, every module's output, the loss, the gradients, in this order.

    `forward(micro, batch)` is the step's own forward pass, with the same draws; None where ranks meet
    inside it. The model's gradients are those of the step, its weights are as before it.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.no_grad(), uncompiled():  # compiled models call no hooks
        mine = next(_suspects(model, window, forward), None)
        for buffer, value in buffers:
            buffer.copy_(value)
    suspects = [suspect for suspect in ranks.gather(mine) if suspect is not None]
    in_gradients = max(ranks.gather(_in_gradients(model)))  # the same on all ranks, but for shards
    where, samples = (suspects or [(in_gradients[1], [])])[0]
    indices = [int(index) for batch in window for index in batch.indices]
    samples = samples or list(chain.from_iterable(ranks.gather(indices)))
    batches = [_plain({"inputs": b.inputs, "targets": b.targets, "indices": b.indices}) for b in window]
    all_batches = list(chain.from_iterable(ranks.gather(batches)))
    replay = {"batches": all_batches, "model": _plain(model.state_dict())}
    return NonFiniteReport(where, samples, norm, replay)


_Suspect = tuple[str, list[int]]  # what, and the samples in which it is seen, where that can be told


def _suspects(
    model: nn.Module, window: Window, forward: Callable[[int, Batch], Outcome] | None
) -> Iterator[_Suspect]:
    for batch in window:
        for name, value in (("inputs", batch.inputs), ("targets", batch.targets)):
            if isinstance(value, Tensor) and _is_bad(value):
                yield f"the {name}", _rows(value, batch)
    for name, tensor in model.named_parameters():  # running statistics are spoilt by the step itself
        if _is_bad(tensor):
            yield f"the weight {name}", []
    if forward is not None:
        for micro, batch in enumerate(window):
            yield from _outputs(model, batch, partial(forward, micro))


def _in_gradients(model: nn.Module) -> tuple[int, str]:
    """(place, what) of the last gradient that is bad; the backward pass came from the end."""
    for place, (name, p) in reversed(list(enumerate(model.named_parameters(), 1))):
        if p.grad is not None and _is_bad(p.grad):
            return place, f"the gradient of {name}"
    return 0, "the sum of the squares of the gradient, which is finite itself"


def _outputs(model: nn.Module, batch: Batch, forward: Callable[[Batch], Outcome]) -> Iterator[_Suspect]:
    """The first module whose output is bad: one inside another comes to its end before it."""
    suspects: list[_Suspect] = []

    def look(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if not suspects and isinstance(output, Tensor) and _is_bad(output):
            suspects.append((f"the output of {name} ({type(module).__name__})", _rows(output, batch)))

    with ExitStack() as opened:
        for name, module in model.named_modules():
            opened.enter_context(module.register_forward_hook(partial(look, name or "the model")))
        outcome = forward(batch)
    yield from suspects
    for name, term in outcome.terms.items():
        if _is_bad(term):
            yield f"the task's {name}, of outputs that are finite", []


def _is_bad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(divided.local(tensor)).all())


def _rows(tensor: Tensor, batch: Batch) -> list[int]:
    """The samples whose row of `tensor` is bad; none where rows are no samples, or all are bad."""
    if tensor.ndim == 0 or len(tensor) != len(batch):
        return []
    bad = ~torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    return [int(batch.indices[row]) for row in bad.nonzero().flatten().tolist()]


def _plain(value: Any) -> Any:
    """Copies on the host, in containers that can be stored; of anything else its text."""
    if isinstance(value, Tensor):
        return divided.whole(value.detach()).cpu().clone()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if isinstance(value, (int, float, str)) or value is None else repr(value)
