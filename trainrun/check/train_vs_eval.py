"""The same batch twice in training mode and twice in evaluation mode: what is random, what keeps state."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from trainrun.check.context import CheckContext, is_same, tensors_in
from trainrun.check.finding import CheckSection
from trainrun.protocols import BatchSpec

# Of the largest output, what rounding may change: in the same sums on a GPU, and in sums cut otherwise.
_ROUNDING, _CLOSE = 1e-5, 1e-3
_Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # by place and by name


def modes(context: CheckContext) -> CheckSection:
    """Outputs must be equal in evaluation, whatever is drawn, and depend on each sample alone."""
    section = CheckSection("modes")
    _small_batches(section, context)
    inputs, model = _inputs(context), context.model.eval()
    before = [buffer.clone() for buffer in model.buffers()]
    first, second = (_outputs(context, model, inputs, count) if inputs else [] for count in (0, 1))
    if inputs is None or not first:
        section.lines.append(("passes", "not compared: the task gets no tensors from the model's forward"))
        return section
    section.lines.append(("training", _training(context, inputs)))
    drawn = _difference(first, second)
    section.lines.append(("evaluation", _passes(drawn)))
    section.values = {"evaluation": drawn}
    if drawn > _ROUNDING * _size(first):
        measured = f"in evaluation mode {_passes(drawn)}"
        advice = "something also draws in evaluation: F.dropout needs training=self.training"
        section.add("random evaluation", measured, "equal outputs", advice=advice)
    if not all(map(is_same, before, model.buffers())):
        measured = "two passes in evaluation mode change buffers of the model"
        advice = "update them in training alone"
        section.add("evaluation changes the model", measured, "the same buffers", advice=advice)
    _alone(section, context, model, inputs, first)
    return section


def _training(context: CheckContext, inputs: _Inputs) -> str:
    model = context.model
    first, second = (_outputs(context, model, inputs, count) for count in (0, 1))
    rates = sorted({m.p for m in model.modules() if isinstance(m, _DropoutNd) and m.p})
    norms = sum(isinstance(m, _BatchNorm) for m in model.modules())
    why = [f"dropout of {', '.join(f'{rate:g}' for rate in rates)}"] if rates else []
    why += [f"{norms} batch norms, which see the batch"] if norms else []
    return f"{_passes(_difference(first, second))}{'; ' if why else ''}{', '.join(why)}"


def _passes(drawn: float) -> str:
    text = f"differ by up to {drawn:.3g}" if drawn else "are equal to the last bit"
    return f"two passes over the same samples {text}"


def _alone(
    section: CheckSection, context: CheckContext, model: nn.Module, inputs: _Inputs, whole: list[Tensor]
) -> None:
    """Whether the first sample's outputs are the same without the others."""
    count = len(context.batch)
    given = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    by_sample = all(tensor.ndim > 0 and len(tensor) == count for tensor in (*given, *whole))
    if count < 2 or len(given) != 1 or not by_sample:
        return
    alone = _outputs(context, model, tree_map(lambda x: x[:1] if isinstance(x, Tensor) else x, inputs), 0)
    difference = _difference(alone, [tensor[:1] for tensor in whole])
    if difference <= _CLOSE * _size(whole):
        section.lines.append(("", "a sample's outputs are the same alone as among others"))
        return
    measured = f"a sample's outputs differ by {difference:.3g} alone and among others"
    section.lines.append(("", measured))
    advice = "the model mixes samples: a reshape or a norm over the wrong axis"
    section.add("samples see each other", f"in evaluation mode {measured}", "equal outputs", advice=advice)


def _small_batches(section: CheckSection, context: CheckContext) -> None:
    """Batch norm with a batch, or the last one of an epoch, of one sample."""
    parts = context.parts
    if not any(isinstance(m, _BatchNorm) for m in parts.state.model.modules()):
        return
    size, cut = parts.info.sizes["train"], parts.batch_spec.batch_size
    if cut < 8:
        samples = "1 sample" if cut == 1 else f"{cut} samples"
        measured = f"batch norm estimates mean and variance from {samples} at a time"
        section.add("tiny batches", measured, "8 or more", "batch_size=32", advice="or another norm")
    elif size is not None and size > 1 and smallest(size, parts.batch_spec) == 1:
        measured = f"the last batch of an epoch, {size} samples cut by {cut}, has one sample"
        better = next((n for n in range(cut + 1, 3 * cut) if size % n != 1), size)
        expected = "two or more, for batch norm's variance"
        section.add("a batch of one", measured, expected, f"batch_size={better}")


def smallest(size: int, batch_spec: BatchSpec) -> int:
    """Samples in the last micro-batch of an epoch of `size`."""
    return size % batch_spec.batch_size or batch_spec.batch_size


def _inputs(context: CheckContext) -> _Inputs | None:
    """What the task hands to the model for the batch; None where it never calls the model itself."""
    calls: list[_Inputs] = []
    model = context.model.eval()
    model.register_forward_pre_hook(lambda _, *inputs: calls.append(inputs), with_kwargs=True)
    context.seed(0)
    with torch.no_grad():
        context.parts.task(model, context.batch)
    return calls[0] if calls else None


def _outputs(context: CheckContext, model: nn.Module, inputs: _Inputs, count: int) -> list[Tensor]:
    """The tensors that the model gives."""
    context.seed(count)
    with torch.no_grad():
        return [tensor.float() for tensor in tensors_in(model(*inputs[0], **inputs[1]))]


def _size(outputs: list[Tensor]) -> float:
    return max(1.0, *(float(tensor.abs().max()) for tensor in outputs))


def _difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest of any element, of lists that are not empty; a NaN differs from no other NaN."""
    if [tensor.shape for tensor in ours] != [tensor.shape for tensor in theirs]:
        return math.inf
    pairs = zip(ours, theirs, strict=True)
    apart = [torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, a - b) for a, b in pairs]
    return max(float(difference.abs().nan_to_num(nan=math.inf).max()) for difference in apart)
