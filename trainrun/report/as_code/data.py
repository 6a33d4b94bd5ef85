"""The script's data: the data set as the run has it, its batches, and their order."""

from __future__ import annotations

from trainrun.assembly.build import Parts
from trainrun.augment.pictures import unaugmented
from trainrun.config.call import arguments_of, parameters_of
from trainrun.data.resident import InMemoryData
from trainrun.report.as_code.refusals import chosen, refusal
from trainrun.report.as_code.text import Imports, call
from trainrun.task.binary import Binary

_BATCH = '''
data.to(device)
{splits} = {rows}
{scaling}

def batch(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs, standardised by the mean and std of the training split, and targets."""
    rows = rows.to(device)
    inputs = (data.inputs[rows].float() - data.shift) * data.scale
    return inputs, {targets}


'''
_WINDOWS = '''def windows() -> Iterator[tuple[Tensor, ...]]:
    """Rows of the micro-batches of one update after another, epoch after epoch."""
    for epoch in itertools.count():
        # A random permutation, drawn from (seed, epoch) alone.
        order = epoch_order(train, SEED, epoch, classes=None)
        micro_batches = order.split(BATCH_SIZE)
        # No window crosses the end of an epoch: the last one may be short.
        for first in range(0, len(micro_batches), ACCUMULATE):
            yield micro_batches[first : first + ACCUMULATE]'''


def data_section(parts: Parts, imports: Imports) -> str:
    """Load, split, standardise, shuffle and batch."""
    data, node = unaugmented(parts.data), parts.settings["data"]
    if not isinstance(data, InMemoryData) or type(data)._gather is not InMemoryData._gather:
        raise refusal(chosen(parts.settings, "data"))
    if node.get("balanced"):
        raise refusal("data.balanced=true")
    if node.get("weights"):
        raise refusal(f"data.weights={node['weights']}")
    thing = parts.make.callable_of("data")
    names, _ = parameters_of(thing)  # what else the node holds concerns loader processes
    if "target_kind" in names:  # what the run offers, a script does not
        raise refusal(chosen(parts.settings, "data"))
    arguments = arguments_of(thing, {name: value for name, value in node.items() if name in names}, {})
    splits = [name for name in ("train", "val", "test") if name in data.splits]
    targets, scaling = "data.targets[rows]", ""
    if data.info.target_scaling is not None and parts.settings["task"]["standardize"]:
        scaling = "mean, std = data.info.target_scaling.mean, data.info.target_scaling.std\n"
        targets = f"({targets} - mean) / std"
    if isinstance(parts.task, Binary):
        targets = f"{targets}.float()[:, None]"
    rows = ", ".join(f'data.splits["{name}"]' for name in splits)
    text = _BATCH.format(splits=", ".join(splits), rows=rows, scaling=scaling, targets=targets)
    return call(f"data = {imports.name(node['_target_'])}", arguments) + text + _WINDOWS
