"""Build a live run from checked settings: data, model, optimizer and the rest, in one visible order.

The only module that knows the whole configuration. Nothing here touches the disk but the data.
"""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainrun import ranks
from trainrun.assembly.activations import Activations, activations_of
from trainrun.assembly.data import open_data
from trainrun.assembly.dry_run import try_parts
from trainrun.assembly.factory import Factory, Settings
from trainrun.assembly.initial import initialize, load_and_adapt
from trainrun.assembly.optimizer import configured, lr_of, optimizer_over, weight_average_of
from trainrun.assembly.plan import evaluation, plan_of, started_from
from trainrun.assembly.probes import probes_of
from trainrun.assembly.schedule import Rates, refuse_early_drops, schedule_over
from trainrun.assembly.scheduled_numbers import scheduled_numbers
from trainrun.augment.pictures import Until, augmented
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.weights import Weights
from trainrun.config.call import StoredOrigin, call, resolve
from trainrun.config.injection import SLOTS
from trainrun.loop.budget import FAR, ClockBudget
from trainrun.loop.clock import Clock
from trainrun.loop.evaluator import Evaluator, Monitor, monitor_of
from trainrun.loop.loop import Loop
from trainrun.loop.probes import Probe
from trainrun.loop.profiler import Profiler, check_profile
from trainrun.loop.step import Clip, Policy
from trainrun.loop.windows import Windows
from trainrun.loss import Distillation, as_loss
from trainrun.model.activation_checkpointing import checkpoint_activations
from trainrun.model.calling import call_by_signature
from trainrun.parameters import ParamConfig, Parameters
from trainrun.precision import Precision
from trainrun.protocols import BatchSpec, Data, DataInfo, Parallel, Position, TaskProtocol
from trainrun.regularization import kinds
from trainrun.run.record import Record
from trainrun.runtime.machine import Runtime, seed_everything
from trainrun.runtime.signals import Signals
from trainrun.scheduler.configured import Configured
from trainrun.task.lightning import Lightning
from trainrun.task.model_loss import ModelLoss, whole
from trainrun.task.steps import class_counts
from trainrun.vocabulary.duration import Pace, parse, to_steps
from trainrun.vocabulary.errors import ConfigError

_FEWEST_EVALUATED = 256  # samples: of fewer the standard error hides what a change does


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything of a run but its folder."""

    make: Factory
    runtime: Runtime
    parallel: Parallel
    data: Data
    task: TaskProtocol
    regularizers: Mapping[str, Any]
    batch_spec: BatchSpec
    pace: Pace
    param_configs: list[ParamConfig]
    monitor: Monitor | None
    probes: tuple[Probe, ...]
    state: TrainState
    clip: Clip
    budget: ClockBudget | None  # None: counted in steps
    rates: Rates
    weights: Weights | None  # that it started from
    activations: Activations | None = None
    plan: tuple[tuple[str, str], ...] = ()
    teacher: tuple[Path, str] | None = None  # the checkpoint that it learns from, and its hash

    @property
    def settings(self) -> Settings:
        return self.make.settings

    @property
    def info(self) -> DataInfo:
        return self.data.info

    @property
    def samples_per_step(self) -> int:
        """The window, which never crosses the end of an epoch: with the data, what a run's steps are."""
        size = self.info.sizes["train"]
        return self.batch_spec.window if size is None else min(self.batch_spec.window, size)

    @property
    def evaluation_limit(self) -> int | None:
        """The samples of a split that a short trial evaluates, no more than it trains on; None for all."""
        if self.pace.total_steps is None or not hasattr(self.data, "limit_evaluation"):
            return None
        return max(_FEWEST_EVALUATED, self.pace.total_steps * self.pace.window)

    def loop(self, folder: Path, run_id: str, record: Record | None, signals: Signals) -> Loop:
        """The loop, once the run has a folder; without `record` it saves nothing."""
        make, seed, regularizers = self.make, self.settings["seed"], self.regularizers
        if self.evaluation_limit is not None:
            self.data.limit_evaluation(self.evaluation_limit)  # type: ignore[attr-defined]
        node = {key: value for key, value in self.settings["loop"].items() if key != "probes"}
        rules = {key: node.pop(key) for key in ("nonfinite", "nonfinite_limit", "rollback_lr")}
        del node["clip"]
        policy = Policy(self.clip, **rules)
        offered: dict[str, Any] = {"folder": folder / "checkpoints", "run_id": run_id, "record": record}
        checkpoints = make("checkpoint", offered)
        offered = {"task": self.task, "policy": policy, "info": self.info, "seed": seed}
        offered["parallel"] = self.parallel
        offered["accumulate"] = node.pop("accumulate")
        offered["batch_changes"] = kinds.combine_batch_changes(regularizers.values())
        offered["penalties"] = {name: r for name, r in regularizers.items() if isinstance(r, kinds.Penalty)}
        step = make.at("loop.step", node.pop("step"), offered)
        windows = Windows(self.data, self.batch_spec, seed)
        shared = {"windows": windows, "checkpoints": checkpoints, "signals": signals}
        rules = {"monitor": self.monitor, "stop_at": node.pop("stop_at"), "probes": self.probes}
        rules["clone"] = self.parallel.clone
        evaluator = Evaluator(task=self.task, **rules, **shared)
        offered = shared | {"step": step, "policy": policy, "budget": self.budget, "evaluator": evaluator}
        offered["clock"] = Clock
        if (steps := self.runtime.profile) is not None and record is not None:
            offered["clock"] = functools.partial(Profiler, steps=steps, run_dir=folder, task=self.task)
        loop: Loop = make.at("loop", node, offered)
        return loop

    def another_model(self, make: Factory) -> nn.Module:
        """The model that other settings name, for the same data."""
        return _model(make, self.data, self.task)

    def loggers(self, run_dir: Path) -> dict[str, Callable[[Any], None]]:
        """The views of the run by name."""
        nodes, offered = self.settings["logger"] or {}, {"run_dir": run_dir}
        return {name: self.make.at(f"logger.{name}", node, offered) for name, node in nodes.items()}


def build(
    settings: Settings,
    stored: StoredOrigin | None = None,
    trust: tuple[str, ...] | None = None,
    weights: Weights | None = None,
) -> Parts:
    """Build every part in order.

    `stored`: the run that settings come from; beyond torch's own only what `trust` names is imported then.
    Raises ConfigError and DataError; nothing has been written when it does.
    """
    _collect_again()
    make = Factory(settings, stored, trust)
    runtime: Runtime = make("runtime")
    parallel: Parallel = make("parallel")
    seed_everything(settings["seed"])
    data, loss, task = _data_and_task(make)
    batch_spec, pace = _pace(settings, data.info)
    data = _paced(make, pace, data)
    model = _model(make, data, task)
    regularizers = _regularizers(make, model, data.info)
    parameters: Parameters = make("parameters")
    param_configs = parameters.param_configs(model, settings["optimizer"].get("weight_decay"))
    initialized = initialize(make, model, param_configs, data, batch_spec)
    reinitialized, param_configs = load_and_adapt(make, parameters, model, weights, param_configs)
    model = _placed(model, runtime, parallel, batch_spec)
    data.to(runtime.device)
    loss.to(runtime.device)
    monitor = monitor_of(settings, data.info, task)
    own = configured(make, model, pace)
    rates, lr_arithmetic = own[1:] if own else _rates(make, pace, monitor)
    groups = parameters.groups(model, param_configs, rates.lr)
    optimizer = own[0] if own else optimizer_over(make, model, groups, rates.lr)
    weight_average = _averager(make, regularizers, optimizer, model, parallel)
    precision: Precision = make("precision", {"device": runtime.device})
    total = pace.total_steps or FAR
    state = TrainState(model, optimizer, rates.over(total), precision, total, weight_average)
    if stored is None:  # a run that exists goes on as it began
        refuse_early_drops(state.schedule)
    state.stopper, state.data = _one_of(regularizers, kinds.Stopper), data.info.identity
    state.freezing, state.fitted = parameters.freezing(model, param_configs), data.fitted()
    if hasattr(task, "fit") and isinstance(features := getattr(task, "features", None), nn.Module):
        state.features = features.to(runtime.device)
    parts = Parts(
        make=make,
        runtime=runtime,
        parallel=parallel,
        data=data,
        task=task,
        regularizers=regularizers,
        batch_spec=batch_spec,
        pace=pace,
        param_configs=param_configs,
        monitor=monitor,
        probes=probes_of(make, monitor is not None),
        state=state,
        clip=make.at("loop.clip", settings["loop"]["clip"]),
        budget=None if pace.total_steps else ClockBudget(parse(settings["budget"]).seconds, rates.over),
        rates=rates,
        weights=weights,
    )
    state.numbers = scheduled_numbers(parts)
    return _planned(parts, lr_arithmetic, initialized + started_from(weights, reinitialized))


def _planned(parts: Parts, lr_arithmetic: str, start: tuple[tuple[str, str], ...]) -> Parts:
    """The parts, tried on a few samples, with their plan."""
    tried = _follow_run(parts.task, parts.state.model, parts.state) + try_parts(parts)
    parts = replace(parts, activations=activations_of(parts))
    plan = plan_of(parts, lr_arithmetic) + tried + evaluation(parts.evaluation_limit, parts.info)
    return replace(parts, plan=plan + start)


def _collect_again() -> None:
    """Turn the garbage collector on, which the command line turned off while it imported and composed.

    Next to nothing of that is garbage: neither the collector nor the end of the process looks through it.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _follow_run(task: TaskProtocol, model: nn.Module, state: TrainState) -> tuple[tuple[str, str], ...]:
    """Let a LightningModule read how far the run is. Returns a line for the plan."""
    if not isinstance(task, Lightning):
        return ()
    task.progress = lambda: (state.step, state.position.epoch)
    text = "configure_optimizers is not called: optimizer=own takes its optimizer and schedule"
    is_ignored = hasattr(model, "configure_optimizers") and not isinstance(state.schedule, Configured)
    return (("lightning", text),) if is_ignored else ()


def rates_of(settings: Settings, parts: Parts) -> Rates:
    """The learning rates that other settings of the same stored run plan."""
    if isinstance(parts.state.schedule, Configured):
        return parts.rates
    make = Factory(settings, parts.make.stored, parts.make.trust)
    _, pace = _pace(settings, parts.info)
    return _rates(make, pace, parts.monitor)[0]


def _rates(make: Factory, pace: Pace, monitor: Monitor | None) -> tuple[Rates, str]:
    """The planned learning rates, and the arithmetic that the highest comes from."""
    whole = pace.samples_per_epoch if make.settings["batch_size"] == "full" else None
    lr, arithmetic = lr_of(make, whole or pace.window)  # ranks may divide the whole with a remainder
    return Rates(lr, schedule_over(make, pace, lr, monitor is None or monitor.maximize)), arithmetic


def _data_and_task(make: Factory) -> tuple[Data, Any, TaskProtocol]:
    """(data, loss, task)."""
    with ranks.local_first():  # one downloads, the others find it
        data = open_data(make)
    info, counts = data.info, data.info.class_counts
    if info.kind == "step_classes" and make.settings["loss"].get("class_weights") == "balanced":
        counts = class_counts(data.eval_batches("train"), info.num_targets) if info.sizes["train"] else ()
    loss = as_loss(make("loss", {"class_counts": counts}))
    node = dict(make.settings["task"])
    if "metrics" in node:
        node["metrics"] = [_metric(make, metric) for metric in node["metrics"] or []]
    task: TaskProtocol = make.at("task", node, {"loss": loss, "info": data.info})
    if make.settings["data"].get("weights") is not None and not getattr(task, "takes_weights", False):
        text = f"has no meaning with {type(task).__name__}, which counts its loss in its own way"
        raise ConfigError.of("data.weights", text, "data.weights=null")
    if isinstance(loss, Distillation) and data.info.kind.startswith("step_"):
        raise ConfigError.of("loss", "distillation compares samples, the targets are of steps or pixels")
    return data, loss, task


def _paced(make: Factory, pace: Pace, data: Data) -> Data:
    """The data with their augmentation, once durations are known in steps."""
    make.pace = pace
    make.check_durations("loop")
    make.check_durations("checkpoint")
    node = dict(make.settings["augment"])
    until = make.in_steps("augment.until", node.pop("until", None))
    changes = make.at("augment", node, {"info": data.info})
    if changes is not None and data.info.kind.startswith("step_"):
        text = "would change the inputs and not the target of each step or pixel; do it in the data set"
        raise ConfigError.of("augment", text, "augment=none")
    return augmented(data, changes, Until(until, pace))


def _metric(make: Factory, metric: Any) -> Any:
    """A metric by name: a function under the name it has in its module, a class called.

    The class may be of torchmetrics, or any whose objects are callable.
    """
    node = metric if isinstance(metric, Mapping) else {"_target_": metric}
    target, slot = node["_target_"], SLOTS["task.metrics"]
    thing = resolve(target, "task.metrics", slot, make.trust, make.stored)
    if isinstance(thing, type):
        with make.seeded("task.metrics", target):
            return call(node, "task.metrics", slot, {}, make.trust, make.stored)
    name = target.rpartition(".")[2]
    if thing.__name__ == name:
        return thing
    renamed = functools.wraps(thing)(lambda outputs, targets: thing(outputs, targets))  # of a closure
    renamed.__name__ = name
    return renamed


def _pace(settings: Settings, info: DataInfo) -> tuple[BatchSpec, Pace]:
    """How samples become steps, and how many steps the budget is; None for one by the clock."""
    size = info.sizes["train"]
    batch_size, accumulate = settings["batch_size"], settings["loop"]["accumulate"]
    if batch_size == "full":
        if size is None:
            raise ConfigError.of("batch_size", "full has no meaning on a stream without length")
        batch_size, accumulate = math.ceil(size / ranks.size()), 1
    batch_spec = BatchSpec(batch_size, accumulate, ranks.size(), ranks.rank())
    pace, budget = Pace(batch_spec.window, size), parse(settings["budget"])
    if budget.is_clock:
        return batch_spec, pace
    try:
        total = to_steps(budget, pace)
    except ValueError as error:
        raise ConfigError.of("budget", str(error)) from None
    if total < 1:
        raise ConfigError.of("budget", f"is shorter than one step, got {settings['budget']}")
    check_profile(settings["runtime"]["profile"], total)
    return batch_spec, replace(pace, total_steps=total)


def offered_to_model(info: DataInfo, task: TaskProtocol) -> dict[str, Any]:
    """The runtime values that a model may ask for."""
    return {
        "input_shape": info.input_shape,
        "num_outputs": task.num_outputs,
        "num_classes": task.num_outputs,
        "vocab_size": getattr(task, "vocab_size", None),
        "per_token": getattr(task, "per_token", False),
    }


def _model(make: Factory, data: Data, task: TaskProtocol) -> nn.Module:
    info, target = data.info, make.settings["model"]["_target_"]
    if info.input_parts and target.startswith("trainrun."):
        text = f"takes one tensor, an input of {info.name} is a {info.input_parts}"
        fix = "join its parts by torch.cat in the data set, or take a model of your own for them"
        raise ConfigError.of("model", f"{text}; {fix}")
    model: nn.Module = make("model", offered_to_model(info, task))
    is_lazy = any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())
    if is_lazy or info.input_parts or isinstance(task, ModelLoss):
        batch = next(iter(data.train_batches(Position(), BatchSpec(2, 1), make.settings["seed"])))
        is_whole = isinstance(task, ModelLoss)
        call_by_signature(model, whole(batch) if is_whole else batch.inputs, is_whole)
    if is_lazy:
        with torch.no_grad(), make.seeded("model", "lazy"):
            model.eval()(batch.inputs)  # lazy layers learn their shapes, and nothing else
        model.train()
    if isinstance(task, Lightning):
        task.check(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError.of("model", "has no parameter that can be trained")
    return model


def _placed(model: nn.Module, runtime: Runtime, parallel: Parallel, batch_spec: BatchSpec) -> nn.Module:
    """The model where it trains, with the first rank's weights."""
    model = runtime.prepare(model, batch_spec.batch_size)
    if runtime.activation_checkpointing is not None:  # below what `parallel` puts around blocks
        checkpoint_activations(model, runtime.activation_checkpointing)
    ranks.broadcast([*model.parameters(), *model.buffers()])
    return parallel.place(model, runtime.device)


def _regularizers(make: Factory, model: nn.Module, info: DataInfo) -> dict[str, Any]:
    """Every regulariser by name; those that change the model have done so."""
    nodes = make.settings["regularization"] or {}
    regularizers = {name: make.at(f"regularization.{name}", node) for name, node in nodes.items()}
    for name, regularizer in regularizers.items():
        if isinstance(regularizer, kinds.ModelChange):
            with make.seeded(f"regularization.{name}", "model"):
                regularizer.change_model(model)
        if isinstance(regularizer, kinds.BatchChange):
            regularizer.check(info)
    return regularizers


def _averager(
    make: Factory, regularizers: Mapping[str, Any], optimizer: Any, model: nn.Module, parallel: Parallel
) -> kinds.WeightAverage | None:
    """The one average of the weights, started."""
    weight_average = weight_average_of(_one_of(regularizers, kinds.WeightAverage), optimizer)
    if weight_average is not None:
        with make.seeded("averager"):
            weight_average.start(model, parallel.clone)
    return weight_average


def _one_of(regularizers: Mapping[str, Any], kind: type[Any]) -> Any:
    names = [name for name, regularizer in regularizers.items() if isinstance(regularizer, kind)]
    if len(names) > 1:
        raise ConfigError.of("regularization", f"choose one of {' and '.join(names)}: both do the same work")
    return regularizers[names[0]] if names else None
