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
from torch.utils.data import Dataset

from trainrun import ranks
from trainrun.assembly.dry_run import try_parts
from trainrun.assembly.factory import Factory, Settings, read_option
from trainrun.assembly.initial import initialize, load_and_adapt, preprocessing_for
from trainrun.assembly.optimizer import lr_of, optimizer_over, weight_average_of
from trainrun.assembly.plan import evaluation, plan_of, started_from
from trainrun.assembly.probes import probes_of
from trainrun.assembly.schedule import Rates, refuse_early_drops, schedule_over
from trainrun.augment.pictures import augmented
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.weights import Weights
from trainrun.config.call import StoredOrigin, call, misfit, parameters_of, resolve
from trainrun.config.injection import COLLATE, SLOTS
from trainrun.config.paths import CONF
from trainrun.data.dataset import from_dataset
from trainrun.data.padding import pad
from trainrun.data.samples import describe_error
from trainrun.loop.budget import FAR, ClockBudget
from trainrun.loop.evaluator import Evaluator, Monitor, monitor_of
from trainrun.loop.loop import Loop
from trainrun.loop.probes import Probe
from trainrun.loop.step import Policy
from trainrun.loop.windows import Windows
from trainrun.loss import as_loss
from trainrun.model.calling import call_by_signature
from trainrun.parameters import ParamConfig, Parameters
from trainrun.precision import Precision
from trainrun.protocols import BatchSpec, Data, DataInfo, Position, TaskProtocol
from trainrun.regularization import kinds
from trainrun.run.record import Record
from trainrun.runtime.machine import Runtime, seed_everything
from trainrun.runtime.signals import Signals
from trainrun.task.lightning import Lightning
from trainrun.task.model_loss import ModelLoss, whole
from trainrun.vocabulary.duration import Pace, parse, to_steps
from trainrun.vocabulary.errors import ConfigError, DataError, TrainrunError

_FEWEST_EVALUATED = 256  # samples: of fewer the standard error hides what a change does

_SAMPLE_KEYS = ("inputs", "targets", "collate")  # of a data set whose samples are the user's own


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything of a run but its folder."""

    make: Factory
    runtime: Runtime
    data: Data
    task: TaskProtocol
    regularizers: Mapping[str, Any]
    batch_spec: BatchSpec
    pace: Pace
    param_configs: list[ParamConfig]
    monitor: Monitor | None
    probes: tuple[Probe, ...]
    state: TrainState
    budget: ClockBudget | None  # None: counted in steps
    rates: Rates
    plan: tuple[tuple[str, str], ...]
    weights: Weights | None  # that it started from

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
        policy = Policy(make.at("loop.clip", node.pop("clip")), **rules)
        offered: dict[str, Any] = {"folder": folder / "checkpoints", "run_id": run_id, "record": record}
        checkpoints = make("checkpoint", offered)
        offered = {"task": self.task, "policy": policy, "info": self.info, "seed": seed}
        offered["accumulate"] = node.pop("accumulate")
        offered["batch_changes"] = kinds.combine_batch_changes(regularizers.values())
        offered["penalties"] = {name: r for name, r in regularizers.items() if isinstance(r, kinds.Penalty)}
        step = make.at("loop.step", node.pop("step"), offered)
        windows = Windows(self.data, self.batch_spec, seed)
        shared = {"windows": windows, "checkpoints": checkpoints, "signals": signals}
        rules = {"monitor": self.monitor, "stop_at": node.pop("stop_at"), "probes": self.probes}
        evaluator = Evaluator(task=self.task, **rules, **shared)
        offered = shared | {"step": step, "policy": policy, "budget": self.budget, "evaluator": evaluator}
        loop: Loop = make.at("loop", node, offered)
        return loop

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
    gc.enable()  # the command line turned it off while composing
    make = Factory(settings, stored, trust)
    runtime: Runtime = make("runtime")
    seed_everything(settings["seed"])
    data, loss, task = _data_and_task(make)
    batch_spec, pace = _pace(settings, data.info)
    make.pace = pace
    make.check_durations("loop")
    make.check_durations("checkpoint")
    model = _model(make, data, task)
    regularizers = _regularizers(make, model, data.info)
    parameters: Parameters = make("parameters")
    param_configs = parameters.param_configs(model, settings["optimizer"].get("weight_decay"))
    initialized = initialize(make, model, param_configs, data, batch_spec)
    reinitialized, param_configs = load_and_adapt(make, parameters, model, weights, param_configs)
    model = runtime.prepare(model, batch_spec.batch_size)
    ranks.broadcast([*model.parameters(), *model.buffers()])
    data.to(runtime.device)
    loss.to(runtime.device)
    monitor = monitor_of(settings, data.info, task)
    rates, lr_arithmetic = _rates(make, pace, monitor)
    optimizer = optimizer_over(make, model, parameters.groups(model, param_configs, rates.lr), rates.lr)
    weight_average = _averager(make, regularizers, optimizer, model)
    runtime.optimize(model)
    precision: Precision = make("precision", {"device": runtime.device})
    total = pace.total_steps or FAR
    state = TrainState(model, optimizer, rates.over(total), precision, total, weight_average)
    if stored is None:  # a run that exists goes on as it began
        refuse_early_drops(state.schedule)
    state.stopper, state.data = _one_of(regularizers, kinds.Stopper), data.info.identity
    state.freezing, state.fitted = parameters.freezing(model, param_configs), data.fitted()
    if isinstance(task, Lightning):
        task.progress = lambda: (state.step, state.position.epoch)
    budget = parse(settings["budget"])
    parts = Parts(
        make=make,
        runtime=runtime,
        data=data,
        task=task,
        regularizers=regularizers,
        batch_spec=batch_spec,
        pace=pace,
        param_configs=param_configs,
        monitor=monitor,
        probes=probes_of(make, monitor is not None),
        state=state,
        budget=ClockBudget(budget.seconds, rates.over) if budget.is_clock else None,
        rates=rates,
        weights=weights,
        plan=(),
    )
    tried = try_parts(parts)
    if isinstance(task, Lightning) and hasattr(model, "configure_optimizers"):
        tried += (
            ("lightning", "configure_optimizers is not called: the optimizer and schedule are those above"),
        )
    plan = plan_of(parts, lr_arithmetic) + tried + evaluation(parts.evaluation_limit, data.info)
    return replace(parts, plan=plan + initialized + started_from(weights, reinitialized))


def rates_of(settings: Settings, parts: Parts) -> Rates:
    """The learning rates that other settings of the same stored run plan."""
    make = Factory(settings, parts.make.stored, parts.make.trust)
    _, pace = _pace(settings, parts.info)
    return _rates(make, pace, parts.monitor)[0]


def _rates(make: Factory, pace: Pace, monitor: Monitor | None) -> tuple[Rates, str]:
    """The planned learning rates, and the arithmetic that the highest comes from."""
    whole = pace.samples_per_epoch if make.settings["batch_size"] == "full" else None
    lr, arithmetic = lr_of(make, whole or pace.window)  # ranks may divide the whole with a remainder
    return Rates(lr, schedule_over(make, pace, lr, monitor is None or monitor.maximize)), arithmetic


def _data_and_task(make: Factory) -> tuple[Data, Any, TaskProtocol]:
    """(data with their augmentation, loss, task)."""
    with ranks.local_first():  # one downloads, the others find it
        data = _data(make)
    loss = as_loss(make("loss", {"class_counts": data.info.class_counts}))
    node = dict(make.settings["task"])
    if "metrics" in node:
        node["metrics"] = [_metric(make, metric) for metric in node["metrics"] or []]
    task: TaskProtocol = make.at("task", node, {"loss": loss, "info": data.info})
    changes = make("augment", {"info": data.info})
    if changes is not None and data.info.kind.startswith("step_"):
        text = "would change the inputs and not the target of each step or pixel; do it in the data set"
        raise ConfigError.of("augment", text, "augment=none")
    return augmented(data, changes), loss, task


def _data(make: Factory) -> Data:
    node = dict(make.settings["data"])
    extras = {name: node.pop(name) for name in SLOTS["data"].extras if name in node}
    names, _ = parameters_of(make.callable_of("data"))
    takes_samples = "collate_function" in names
    node |= {name: value for name, value in extras.items() if name in names}
    for split in ("train", "val", "test"):
        if isinstance(node.get(split), Mapping):
            node[split] = _opened(make, f"data.{split}", node[split])
    target_kinds: tuple[str, ...] = getattr(make.callable_of("task"), "kinds", ())
    offered = {
        "target_kind": target_kinds[0] if len(target_kinds) == 1 else None,  # None: of several
        "collate_function": _collate(make, extras.get("collate")),
    }
    preprocessing = preprocessing_for(make.settings, "preprocessing" in names)
    data = _opened(make, "data", node, offered | {"preprocessing": preprocessing})
    if isinstance(data, Dataset):
        option = read_option(CONF / "data" / "dataset.yaml", "data")
        values = option | extras | {"train": data, **offered}
        unwanted = ("_target_", "balanced", "collate")
        data = from_dataset(**{name: value for name, value in values.items() if name not in unwanted})
    elif unused := [name for name in _SAMPLE_KEYS if extras.get(name) is not None and not takes_samples]:
        text = f"has no effect on {data.info.name}, whose samples are (input, target) already"
        raise ConfigError.of(f"data.{unused[0]}", text, f"data.{unused[0]}=null")
    if extras.get("balanced") and "balanced" not in names:
        _balance(data)
    return data  # type: ignore[no-any-return]


def _collate(make: Factory, name: str | None) -> Callable[[list[Any]], Any] | None:
    """Find `pad`, or a function of the user's by its dotted name."""
    if name is None or name == "pad":
        return None if name is None else pad
    if text := misfit(name, COLLATE, make.trust, make.stored):
        raise ConfigError.of("data.collate", text)
    return resolve(name, "data.collate", COLLATE, make.trust, make.stored)


def _balance(data: Any) -> None:
    """Draw every class equally often. Raises ConfigError for data that have none, or cannot."""
    has_classes = data.info.kind == "classes"
    if not has_classes or not hasattr(data, "balance"):
        reason = f"those of {data.info.name} are {data.info.kind}"
        reason = f"{type(data).__name__} has no method balance" if has_classes else reason
        text = f"draws every class equally often, so targets must be classes; {reason}"
        raise ConfigError.of("data.balanced", text, "data.balanced=false")
    data.balance()


def _opened(make: Factory, path: str, node: Settings, offered: Settings | None = None) -> Any:
    """Data as their class makes them. Raises DataError for what goes wrong in a class of the user's."""
    try:
        return make.at(path, node, offered)
    except (Exception, SystemExit) as error:
        target = str(node["_target_"])
        if isinstance(error, TrainrunError) or target.startswith("trainrun."):
            raise
        reason = describe_error(error, target.rpartition(".")[0])
        raise DataError(f"{path}: {target} failed: {reason}") from error


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
    return batch_spec, replace(pace, total_steps=total)


def _model(make: Factory, data: Data, task: TaskProtocol) -> nn.Module:
    info, target = data.info, make.settings["model"]["_target_"]
    if info.input_parts and target.startswith("trainrun."):
        text = f"takes one tensor, an input of {info.name} is a {info.input_parts}"
        fix = "join its parts by torch.cat in the data set, or take a model of your own for them"
        raise ConfigError.of("model", f"{text}; {fix}")
    offered = {
        "input_shape": info.input_shape,
        "num_outputs": task.num_outputs,
        "num_classes": task.num_outputs,
        "vocab_size": getattr(task, "vocab_size", None),
        "per_token": getattr(task, "per_token", False),
    }
    model: nn.Module = make("model", offered)
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
    make: Factory, regularizers: Mapping[str, Any], optimizer: Any, model: nn.Module
) -> kinds.WeightAverage | None:
    """The one average of the weights, started."""
    weight_average = weight_average_of(_one_of(regularizers, kinds.WeightAverage), optimizer)
    if weight_average is not None:
        with make.seeded("averager"):
            weight_average.start(model)
    return weight_average


def _one_of(regularizers: Mapping[str, Any], kind: type[Any]) -> Any:
    names = [name for name, regularizer in regularizers.items() if isinstance(regularizer, kind)]
    if len(names) > 1:
        raise ConfigError.of("regularization", f"choose one of {' and '.join(names)}: both do the same work")
    return regularizers[names[0]] if names else None
