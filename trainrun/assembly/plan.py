"""The plan: what a run is about to do, in derived numbers, before it does it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from trainrun.assembly import costs
from trainrun.assembly.cautions import cautions
from trainrun.assembly.compiled import compile_cost
from trainrun.assembly.factory import option_of
from trainrun.assembly.schedule import Rates
from trainrun.augment.pictures import unaugmented
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.weights import Weights
from trainrun.parameters.lora import is_adapter
from trainrun.precision import bf16_units, why_auto
from trainrun.protocols import DataInfo, ObservingSchedule
from trainrun.regularization.early_stopping import EarlyStopping
from trainrun.regularization.kinds import Stopper
from trainrun.runtime.divided import num_shards
from trainrun.scheduler import Restarting
from trainrun.scheduler.configured import Configured
from trainrun.terminal.braille import curve
from trainrun.vocabulary.duration import Pace, parse, to_steps

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

_SHOWN = 8  # restarts, and weights that are initialised: what fits a line, or a screen
_POINTS = 60  # of the learning rate's curve
_UNMONITORED = "nothing: there is no validation split, the last weights are kept"
_MOST_GROUPS = 4  # in one line
_MOST_LAYERS = 6  # named beside the model; -v shows all


def plan_of(parts: Parts, lr_arithmetic: str) -> tuple[tuple[str, str], ...]:
    """(label, text) lines for people."""
    optimizer = f"{option_of(parts.settings['optimizer'])}, lr {lr_arithmetic}; {_schedule(parts)}"
    return (
        ("data", _data(parts)),
        *(("", note) for note in parts.info.notes),
        ("model", _model(parts)),
        ("steps", _steps(parts)),
        *_batch_norm(parts),
        ("optimizer", optimizer),
        *_curve(parts.rates, parts.pace),
        *_numbers(parts),
        *_restarts(parts.state, parts.pace),
        *_groups(parts.state),
        *_frozen(parts),
        *_techniques(parts),
        ("compute", _compute(parts)),
        *compile_cost(parts),
        ("memory", costs.memory(parts.settings, parts.state, parts.activations)),
        ("saves", costs.checkpoints(parts.settings, parts.state)),
        ("monitor", str(parts.monitor or _UNMONITORED)),
        *_stops(parts.state.stopper),
        *cautions(parts),
    )


def started_from(weights: Weights | None, reinitialized: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Where the first weights are from, and which of them are not."""
    if weights is None:
        return ()
    more = [("", f"and {len(reinitialized) - _SHOWN} more")] if len(reinitialized) > _SHOWN else []
    return (("init from", weights.description), *(("", line) for line in reinitialized[:_SHOWN]), *more)


def evaluation(limit: int | None, info: DataInfo) -> tuple[tuple[str, str], ...]:
    """What a short trial leaves out of its evaluations; no line where it leaves out nothing."""
    sizes = {split: size or 0 for split, size in info.sizes.items() if split != "train"}
    larger = [split for split, size in sizes.items() if limit and size > limit]
    text = f"on {limit} samples of {' and '.join(larger)}, evenly spread: no more than the run trains on"
    return (("evaluates", text),) if larger else ()


def _data(parts: Parts) -> str:
    settings, info = parts.settings, parts.info
    sizes = ", ".join(f"{size} {split}" for split, size in info.sizes.items() if size)
    text = f"{info.name}: {sizes or 'a stream without length'}"
    if info.vocabulary:
        return f"{text} windows of {info.input_shape[0]} tokens, of {len(info.vocabulary)} kinds"
    scaling = f"standardised by {info.input_scaling}" if info.input_scaling else "not standardised"
    # A data set that is read as it goes may scale them itself.
    text += f"; inputs {scaling}" if info.input_scaling or info.in_memory else ""
    text += "; every class drawn equally often" if settings["data"].get("balanced") else ""
    text += f"; drawn by {settings['data']['sampler']}" if settings["data"].get("sampler") else ""
    weights = settings["data"].get("weights")
    text += "" if weights is None else f"; each sample's loss counts {weights}, metrics count all alike"
    device = parts.runtime.device
    if info.in_memory and getattr(unaugmented(parts.data), "storage", device) != device:
        text += "; kept on the host: they would take more than half of the GPU's memory"
    if info.kind != "values":
        return text
    scaled = info.target_scaling is not None and settings["task"].get("standardize")
    return f"{text}; targets {'standardised' if scaled else 'in their own units'}"


def _model(parts: Parts) -> str:
    node, model = parts.settings["model"], parts.state.model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    title = f"{option_of(node)}{f' {name}' if isinstance(name := node.get('name'), str) else ''}"
    text = f"{title}: {trained:,} parameters{f', {frozen:,} frozen' if frozen else ''}"
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    shown = [f"{name} {size:,}" for name, size in sizes.items() if size]
    return f"{text} ({', '.join(shown)})" if 1 < len(shown) <= _MOST_LAYERS else text


def _steps(parts: Parts) -> str:
    budget, pace, batch_spec = parts.settings["budget"], parts.pace, parts.batch_spec
    per_epoch = f"{pace.steps_per_epoch} an epoch" if pace.steps_per_epoch else "a stream without epochs"
    factors = [str(batch_spec.batch_size)]
    factors += [f"{batch_spec.accumulate} accumulated"] if batch_spec.accumulate > 1 else []
    factors += [f"{batch_spec.num_ranks} ranks"] if batch_spec.num_ranks > 1 else []
    window = " x ".join(factors) + (f" = {batch_spec.window}" if len(factors) > 1 else "")
    if parts.samples_per_step < batch_spec.window:
        window = f"all {parts.samples_per_step}"
    if pace.total_steps is None:
        outside = "the clock plans their number, so no second run has the same bits"
        return f"for {budget} of training, {per_epoch}, {window} samples a step; {outside}"
    return f"{parts.state.total_steps} ({budget}), {per_epoch}, {window} samples a step"


def _schedule(parts: Parts) -> str:
    node, pace = parts.settings["scheduler"], parts.pace
    if isinstance(parts.state.schedule, Configured):
        return str(parts.state.schedule)
    name, warmup = option_of(node), node.get("warmup")
    text = f"{node['name'] if name == 'from_torch' else name} schedule"
    if warmup is None or not node["_target_"].startswith("trainrun."):
        return text
    length = parse(warmup)
    if pace.total_steps is None and length.unit == "%":
        return f"{text} after a warm-up of {warmup}" if length.value else text
    steps = to_steps(length, pace)
    given = "" if str(warmup).endswith("step") else f" ({warmup})"
    return f"{text} after a warm-up of {steps} step{'s' if steps > 1 else ''}{given}" if steps else text


def _curve(rates: Rates, pace: Pace) -> list[tuple[str, str]]:
    """The learning rate from the first step to the last, drawn; none where a metric or the clock decides."""
    total = pace.total_steps
    if total is None or isinstance(schedule := rates.over(total), ObservingSchedule):
        return []
    lrs = [rates.lr * schedule(update)[0] for update in _updates(total)]
    return [] if len(set(lrs)) == 1 else [("lr", _drawn(lrs))]


def _numbers(parts: Parts) -> list[tuple[str, str]]:
    """Further numbers on a schedule, drawn; by the clock only where they go."""
    numbers, total = parts.state.numbers, parts.pace.total_steps
    if numbers is None:
        return []
    if total is None:
        return [("scheduled", ", ".join(numbers.also))]
    values = [numbers.at(update, total) for update in _updates(total)]
    return [("scheduled", f"{key} {_drawn([value[key] for value in values])}") for key in numbers.also]


def _updates(total: int) -> Sequence[int]:
    """The updates at which a curve is drawn, the first and the last among them."""
    if total <= _POINTS:
        return range(total)
    return [point * (total - 1) // _POINTS for point in range(_POINTS + 1)]


def _drawn(values: Sequence[float]) -> str:
    drawn = curve(values, max(1, len(values) // 2), 1, max(values))[0]
    return f"{values[0]:.3g} {drawn} {values[-1]:.3g}"


def _restarts(state: TrainState, pace: Pace) -> list[tuple[str, str]]:
    """After which steps a cosine begins anew, and how long each is; none where the clock decides."""
    schedule = state.schedule
    if not isinstance(schedule, Restarting) or pace.total_steps is None:
        return []
    cycles = schedule.cycles
    if cycles.count == 1:
        return [("restarts", "none: the first cosine takes the whole run, as scheduler=cosine")]
    starts = [cycles.start(cycle) for cycle in range(min(cycles.count, _SHOWN) + 1)]
    lengths = list(dict.fromkeys(str(end - start) for start, end in pairwise(starts)))
    after = [str(schedule.begins_at + start) for start in starts[1 : cycles.count]]
    more = "" if cycles.count <= _SHOWN else f" ... ({cycles.count - 1} restarts)"
    steps = "step" if cycles.count == 2 else "steps"
    text = f"after {steps} {', '.join(after)}{more}; cosines of {', '.join(lengths)} steps"
    return [("restarts", f"{text}, fitted to end with the run")]


def _groups(state: TrainState) -> list[tuple[str, str]]:
    """Which parameters are trained by which rule; none where one rule is for all."""
    groups = [(str(g["name"]), sum(p.numel() for p in g["params"])) for g in state.optimizer.param_groups]
    if len(groups) < 2:
        return []
    shown = [f"{size:,} with {name}" for name, size in groups[:_MOST_GROUPS]]
    more = f" and {len(groups) - _MOST_GROUPS} more groups" if len(groups) > _MOST_GROUPS else ""
    return [("groups", "; ".join(shown) + more)]


def _frozen(parts: Parts) -> list[tuple[str, str]]:
    """What stays as it is, and until when."""
    held = [math.prod(config.shape) for config in parts.param_configs if config.is_held]
    frozen = [math.prod(config.shape) for config in parts.param_configs if config.frozen]
    node = parts.settings["parameters"]
    lines = []
    if frozen:
        until = f"; {sum(held):,} of them until {node['unfreeze_at']}, then trained" if held else ""
        until = f", until {node['unfreeze_at']}, then trained" if sum(held) == sum(frozen) else until
        text = f"{sum(frozen):,} parameters and the running statistics of their layers{until}"
        lines.append(("frozen", text))
    if lora := node.get("lora"):
        adapters = sum(math.prod(c.shape) for c in parts.param_configs if is_adapter(c.name))
        lines.append(("lora", f"{adapters:,} parameters in adapters of rank {lora['rank']}"))
    return lines


def _batch_norm(parts: Parts) -> list[tuple[str, str]]:
    """What batch norm sees where it is not the whole step."""
    batch_spec = parts.batch_spec
    layers = [m for m in parts.state.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers or batch_spec.window == batch_spec.batch_size:
        return []
    is_synced = isinstance(layers[0], nn.SyncBatchNorm)
    num_samples = batch_spec.batch_size * (batch_spec.num_ranks if is_synced else 1)
    if num_samples == batch_spec.window:
        return [("batch norm", f"sees the {num_samples} samples of all ranks")]
    whose = "a micro-batch" if batch_spec.accumulate > 1 else "a rank"
    return [("batch norm", f"sees {num_samples} samples of {whose}, not the {batch_spec.window} of the step")]


def _techniques(parts: Parts) -> list[tuple[str, str]]:
    """What was chosen beside the groups that every run has, and what it came to; no line for the plainest."""
    settings, modules = parts.settings, parts.state.model.modules()
    techniques = [name for name in settings["regularization"] or () if name != "dropout"]
    rates = Counter(m.p for m in modules if isinstance(m, nn.modules.dropout._DropoutNd) and m.p)
    techniques += [f"dropout {p:g} in {n} layer{'s' if n > 1 else ''}" for p, n in rates.items()]
    if (augment := option_of(settings["augment"])) != "none":
        given = {key: value for key, value in settings["augment"].items() if key[0] != "_"}
        given |= {} if given.get("until") else {"until": None}
        values = ", ".join(f"{key} {value}" for key, value in given.items() if value is not None)
        techniques.append(f"augment {augment} ({values})" if values else f"augment {augment}")
    if (init := option_of(settings["init"])) != "auto":
        techniques.append(f"init {init}")
    if (decay := settings["parameters"].get("layer_decay", 1)) != 1:
        techniques.append(f"layer decay {decay:g}")
    clip = settings["loop"].get("clip") or {}
    limits = {name: clip.get(name) for name in ("norm", "value", "agc")}
    techniques += [f"clipping by {name} {limit:g}" for name, limit in limits.items() if limit is not None]
    return [("with", ", ".join(techniques))] if techniques else []


def _compute(parts: Parts) -> str:
    runtime, batch_spec, state = parts.runtime, parts.batch_spec, parts.state
    threads = f"{runtime.num_threads} thread{'s' if runtime.num_threads > 1 else ''}"
    workers = parts.settings["data"].get("num_workers", 0)
    loading = f", {workers} loader processes" if workers else ""
    if workers and parts.info.in_memory:
        loading = ", no loader processes: the data are in memory"
    precision = state.precision.name
    if parts.settings["precision"]["_target_"] == "trainrun.precision.auto":
        precision += f" (auto: {why_auto(runtime.device)})"
    elif precision == "fp32" and runtime.device.type != "cpu" and bf16_units(runtime.device):
        precision += (
            f" ({why_auto(runtime.device)}: large products are several times as fast with precision=bf16)"
        )
    elif precision == "bf16" and not bf16_units(runtime.device):
        precision += f" (slow here: {why_auto(runtime.device)})"
    if batch_spec.num_ranks == 1:
        return f"{runtime.device}, {precision}, {threads}{loading}"
    where = f"{batch_spec.num_ranks} ranks on {runtime.device.type}, each with {threads}"
    divided = ""
    if parts.parallel.shards:
        count = num_shards(state.model)
        divided = f", fsdp: weights divided by {count}, {batch_spec.num_ranks // count} times"
    return f"{where}{f' and{loading[1:]}' if loading else ''}, {precision}{divided.removesuffix(', 1 times')}"


def _stops(stopper: Stopper | None) -> list[tuple[str, str]]:
    """When early stopping ends the run, and with which weights."""
    if not isinstance(stopper, EarlyStopping):
        return []
    better = f"better by more than {stopper.min_delta:g}" if stopper.min_delta else "better"
    ending = "the best weights are restored" if stopper.restore_best else "the last weights are kept"
    return [("stops", f"after {stopper.patience} evaluations in a row that are not {better}; then {ending}")]
