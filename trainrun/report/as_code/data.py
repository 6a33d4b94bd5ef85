"""The script's data: the data set as the run has it, its batches, and their order."""

from __future__ import annotations

from trainrun.assembly.build import Parts
from trainrun.augment.pictures import unaugmented
from trainrun.config.call import arguments_of
from trainrun.data.resident import InMemoryData
from trainrun.report.as_code.refusals import problem
from trainrun.report.as_code.text import Imports, Section, call
from trainrun.task.binary import Binary
from trainrun.vocabulary.errors import ConfigError

_BATCHES = '''def batches() -> Iterator[Tensor]:
    """Rows of one batch after another, epoch after epoch."""
    for epoch in itertools.count():
        # A random permutation, drawn from (seed, epoch) alone.
        order = epoch_order(train, SEED, epoch, classes=None)
        yield from order.split(BATCH_SIZE)'''
_WINDOWS = '''def windows() -> Iterator[tuple[Tensor, ...]]:
    """Rows of the micro-batches of one update after another, epoch after epoch."""
    for epoch in itertools.count():
        # A random permutation, drawn from (seed, epoch) alone.
        order = epoch_order(train, SEED, epoch, classes=None)
        micro_batches = order.split(BATCH_SIZE)
        # No window crosses the end of an epoch: the last one may be short.
        for first in range(0, len(micro_batches), ACCUMULATE):
            yield micro_batches[first : first + ACCUMULATE]'''


def data_section(parts: Parts, imports: Imports) -> Section:
    """Load, split and standardise."""
    data, node = unaugmented(parts.data), parts.settings["data"]
    thing = parts.make.callable_of("data")
    if not isinstance(data, InMemoryData) or type(data)._gather is not InMemoryData._gather:
        raise ConfigError([problem(f"data._target_={node['_target_']}")])
    if node.get("balanced"):
        raise ConfigError([problem("data.balanced=true")])
    arguments = arguments_of(thing, {k: v for k, v in node.items() if k not in _extras(parts)}, {})
    lines = [call(imports.name(node["_target_"]), arguments, before="data = "), "data.to(device)"]
    splits = [name for name in ("train", "val", "test") if name in data.splits]
    rows = ", ".join(f'data.splits["{name}"]' for name in splits)
    lines.append(f"{', '.join(splits)} = {rows}")
    targets = "data.targets[rows]"
    if data.info.target_scaling is not None and parts.settings["task"]["standardize"]:
        lines.append("mean, std = data.info.target_scaling.mean, data.info.target_scaling.std")
        targets = f"({targets} - mean) / std"
    if isinstance(parts.task, Binary):
        targets = f"{targets}.float()[:, None]"
    lines += ["", "", "def batch(rows: Tensor) -> tuple[Tensor, Tensor]:"]
    lines.append('    """Inputs, standardised by the mean and std of the training split, and targets."""')
    lines += ["    rows = rows.to(device)", "    inputs = (data.inputs[rows].float() - data.shift) * data.scale"]
    lines.append(f"    return inputs, {targets}")
    return Section("\n".join(lines))


def _extras(parts: Parts) -> set[str]:
    """Keys of the node that the data set's own call does not take."""
    from trainrun.config.call import parameters_of

    names, takes_any = parameters_of(parts.make.callable_of("data"))
    return set() if takes_any else parts.settings["data"].keys() - names.keys()


def order_section(parts: Parts) -> Section:
    """The order of the training samples, cut into windows."""
    spec = parts.batch_spec
    constants = [f"BATCH_SIZE = {spec.batch_size}"]
    if spec.accumulate == 1:
        return Section(_BATCHES, tuple(constants))
    constants.append(f"ACCUMULATE = {spec.accumulate}  # micro-batches per update")
    return Section(_WINDOWS, tuple(constants))
