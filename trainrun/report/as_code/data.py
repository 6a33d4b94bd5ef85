"""The script's data: the data set as the run has it, its splits, and how rows become a batch."""

from __future__ import annotations

from typing import Any

from trainrun.assembly.build import Parts
from trainrun.augment.pictures import unaugmented
from trainrun.config.call import arguments_of, parameters_of
from trainrun.config.injection import SLOTS
from trainrun.config.paths import CONF
from trainrun.config.plain import read_option
from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.data.lazy_indices import LARGE
from trainrun.data.resident import InMemoryData
from trainrun.report.as_code.refusals import chosen, refusal
from trainrun.report.as_code.text import Imports, call, constants
from trainrun.task.binary import Binary

_BATCH = '''

def batch(rows: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of these rows, whose own random draws are of (seed, row) alone."""
    samples = Seeded(data.splits["train"][0])
    inputs, targets = collate([samples[seed, row] for row in rows.tolist()])
    targets = data.reading(targets, rows, "").to(device)
    return inputs.to(device), {targets}

'''
_UNWRITTEN = ("balanced", "sampler", "inputs", "targets", "collate", "group", "time", "weights")
_OWN = CONF / "data" / "dataset.yaml"


def data_section(parts: Parts, imports: Imports) -> str:
    """Load, split and standardise."""
    data, node, scaled = unaugmented(parts.data), parts.settings["data"], "{}"
    if unwritten := [f"data.{name}={node[name]}" for name in _UNWRITTEN if node.get(name)]:
        raise refusal(*unwritten)
    if (parts.info.sizes["train"] or 0) > LARGE:
        raise refusal(f"a data set of more than {LARGE:,} samples")
    is_in_memory = isinstance(data, InMemoryData)
    if not is_in_memory and not _is_of_pairs(data):
        other = "a data set of other samples than pairs, or with splits of its own"
        raise refusal(other if isinstance(data, DatasetData) else chosen(parts.settings, "data"))
    text = _in_memory(parts, imports) if is_in_memory else _own(parts, imports)
    splits = [name for name in ("train", "val", "test") if parts.info.sizes.get(name)]
    names = '", "'.join(splits)
    rows = f'data.splits[name]{"" if is_in_memory else "[1]"} for name in ("{names}")'
    text += f"\ndata.to(device)\n{', '.join(splits)} = ({rows})"
    if data.info.target_scaling is not None and parts.settings["task"]["standardize"]:
        text += "\nmean, std = data.info.target_scaling.mean, data.info.target_scaling.std"
        scaled = "({} - mean) / std"
    scaled = "{}.float()[:, None]" if isinstance(parts.task, Binary) else scaled
    if not is_in_memory:
        return text + _BATCH.format(targets=scaled.format("targets"))
    standardised = "(data.inputs.float() - data.shift) * data.scale"
    values = {"inputs": standardised, "targets": scaled.format("data.targets")}
    return f"{text}\n{constants(values)}"


def _is_of_pairs(data: Any) -> bool:
    """Whether it is the user's own data set of (input, target), which the other splits are taken from."""
    return (
        isinstance(data, DatasetData)
        and not data.info.input_parts
        and len({id(dataset) for dataset, _ in data.splits.values()}) == 1
        and not any(rows is None or hasattr(dataset, "unprepared") for dataset, rows in data.splits.values())
    )


def _in_memory(parts: Parts, imports: Imports) -> str:
    """The call of the data set with what it takes; what else the settings hold concerns loader processes."""
    node, thing = parts.settings["data"], parts.make.callable_of("data")
    names, _ = parameters_of(thing)
    if "target_kind" in names:  # what the run offers, a script does not
        raise refusal(chosen(parts.settings, "data"))
    arguments = arguments_of(thing, {key: value for key, value in node.items() if key in names}, {})
    return call(f"data = {imports.name(node['_target_'])}", arguments)


def _own(parts: Parts, imports: Imports) -> str:
    """The user's own data set, split as the run splits it."""
    given, values, extras = parts.settings["data"], read_option(_OWN, "data"), SLOTS["data"].extras
    own = {key: value for key, value in given.items() if key not in extras}
    if given["_target_"] == values["_target_"]:
        own, values = dict(given["train"]), values | given
    kinds: tuple[str, ...] = getattr(parts.make.callable_of("task"), "kinds", ())
    values |= {"collate_function": None, "target_kind": kinds[0] if len(kinds) == 1 else None}
    values = {name: values[name] for name in parameters_of(from_dataset)[0] if name != "train"}
    train = call(f"train={imports.name(own.pop('_target_'))}", own)
    return call(f"data = {imports.name('trainrun.data.dataset.from_dataset')}", values, [train])


def read(parts: Parts, rows: str, seed: str) -> tuple[str, str, str]:
    """(a line that reads `rows`, inputs, targets) as the loop and the evaluation name them."""
    if isinstance(unaugmented(parts.data), DatasetData):
        return f"inputs, targets = batch({rows}, {seed})\n", "inputs", "targets"
    return "", f"inputs[{rows}]", f"targets[{rows}]"
