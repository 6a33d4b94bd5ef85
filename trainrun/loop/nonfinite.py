"""Locate the first NaN or infinity in a step whose gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.protocols import Batch, NonFiniteReport, Outcome, Window


def locate_nonfinite(
    model: nn.Module, window: Window, norm: float, forward: Callable[[int, Batch], Outcome] | None
) -> NonFiniteReport:
    """Look at the data, the weights, every module's output, the loss, the gradients, in this order.

    `forward(micro, batch)` is the step's own forward pass, with the same draws; None where ranks meet
    inside it. The model's gradients are those of the step, its weights are as before it.
    """
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.no_grad():
        mine = next(_suspects(model, window, forward), None)
        for buffer, value in buffers:
            buffer.copy_(value)
    suspects = [
        suspect for suspect in ranks.gather(mine) if suspect is not None
    ]  # gradients are the same on all ranks
    where, samples = suspects[0] if suspects else (_in_gradients(model), [])
    samples = samples or list(chain.from_iterable(ranks.gather(_samples(window))))
    batches = [_plain({"inputs": b.inputs, "targets": b.targets, "indices": b.indices}) for b in window]
    all_batches = list(chain.from_iterable(ranks.gather(batches)))
    return NonFiniteReport(
        where=where,
        samples=samples,
        norm=norm,
        replay={"batches": all_batches, "model": _plain(model.state_dict())},
    )


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
    for micro, batch in enumerate(window if forward else ()):
        yield from _outputs(model, batch, lambda batch, index=micro: forward(index, batch))  # type: ignore[misc]


def _in_gradients(model: nn.Module) -> str:
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    for name, gradient in reversed(named):  # the backward pass came from the end
        if _is_bad(gradient):
            return f"the gradient of {name}"
    return "the sum of the squares of the gradient, which is finite itself"


def _outputs(model: nn.Module, batch: Batch, forward: Callable[[Batch], Outcome]) -> Iterator[_Suspect]:
    """The first module whose output is bad: one inside another comes to its end before it."""
    suspects: list[_Suspect] = []

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not suspects and isinstance(output, Tensor) and _is_bad(output):
                suspects.append((f"the output of {name} ({type(module).__name__})", _rows(output, batch)))

        return hook

    named = model.named_modules()
    hooks = [module.register_forward_hook(look(name or "the model")) for name, module in named]
    try:
        outcome = forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
    yield from suspects
    for name, term in outcome.terms.items():
        if _is_bad(term):
            yield f"the task's {name}, of outputs that are finite", []


def _is_bad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())


def _rows(tensor: Tensor, batch: Batch) -> list[int]:
    """The samples whose row of `tensor` is bad; none where rows are no samples, or all are bad."""
    if tensor.ndim == 0 or len(tensor) != len(batch):
        return []
    bad = ~torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    return [int(batch.indices[row]) for row in bad.nonzero().flatten().tolist()]


def _samples(window: Window) -> list[int]:
    return [int(index) for batch in window for index in batch.indices]


def _plain(value: Any) -> Any:
    """Copies on the host, in containers that can be stored; of anything else its text."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if isinstance(value, (int, float, str)) or value is None else repr(value)
