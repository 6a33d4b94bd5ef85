"""Dependency injection: the places of a config where a call stands, and the runtime values it is offered.

A runtime value is offered as pytest hands out fixtures: only to a parameter of that name that
has no default and no value in the YAML. Anywhere else the YAML asks for it: `'@num_outputs'`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainrun.config.signature import Parameter, source_signature


@dataclass(frozen=True)
class Slot:
    """A place where a call stands, and what may stand there."""

    modules: tuple[str, ...]
    bases: tuple[str, ...] = ()  # classes that the result must be one of; none: what `modules` make
    offers: tuple[str, ...] = ()
    # Further keys of every option, which the build reads: name -> the callable with a parameter of that name.
    extras: Mapping[str, str] = field(default_factory=dict)
    main: str = ""  # the argument that a bare value is meant for
    named: bool = False  # an option's name may stand for the call; a rule checks it
    reserved: tuple[str, ...] = ()  # offers that the YAML may not replace: live parts, where a run writes
    plain: tuple[int, ...] = ()  # how many values the run passes to a plain function
    adapter: str = ""  # turns the user's own objects into parts


_CHECKPOINT = "folder run_id record"
_LIVE = "policy windows budget evaluator checkpoints signals clock"  # parts of the loop
_SEARCH = "axes excludes trials maximize folder at_once"
_STEP = "task policy batch_changes penalties info accumulate seed parallel"
_KINDS = ("ModelChange", "BatchChange", "Penalty", "WeightAverage", "Stopper")
_LOOP_EXTRAS = {
    "accumulate": "trainrun.protocols.BatchSpec",
    **dict.fromkeys(("clip", "nonfinite", "nonfinite_limit", "rollback_lr"), "trainrun.loop.step.Policy"),
    **dict.fromkeys(("stop_at", "probes"), "trainrun.loop.evaluator.Evaluator"),
}


def _slot(modules: str, bases: str = "", offers: str = "", reserved: str = "", **more: Any) -> Slot:
    """A slot by names with spaces between them."""
    names = [tuple(words.split()) for words in (modules, bases, offers, reserved)]
    return Slot(names[0], names[1], names[2], reserved=names[3], **more)


NAMED = _slot("trainrun.data")  # of `data.collate` and `data.sampler`: names rather than calls
_LOADING = ("num_workers", "balanced", "inputs", "targets", "collate", "sampler", "group", "time", "weights")
_DATASET = _slot("trainrun.data", "torch.utils.data.Dataset", adapter="trainrun.data.prepared.as_dataset")
_OPTIMIZER = _slot("trainrun.optimizer", "torch.optim.Optimizer", "params model", "params")

SLOTS: dict[str, Slot] = {
    "runtime": _slot("trainrun.runtime"),
    "data": _slot(
        "trainrun.data",
        "trainrun.protocols.Data torch.utils.data.Dataset",
        "target_kind collate_function preprocessing",
        extras=dict.fromkeys(_LOADING, "trainrun.data.dataset.Loading"),
    ),
    **dict.fromkeys(("data.train", "data.val", "data.test"), _DATASET),
    "loss": _slot(
        *("trainrun.loss torch.nn.functional", "torch.nn.Module", "class_counts"),
        plain=(2,),
        adapter="trainrun.loss.as_loss",
    ),
    "task": _slot(
        "trainrun.task", "", "loss info", "loss info", plain=(2,), adapter="trainrun.task.own.as_task"
    ),
    "augment": _slot(
        *("trainrun.augment torchvision.transforms", "", "info", "info"),
        extras={"until": "trainrun.augment.pictures.Until"},
        plain=(1,),
        adapter="trainrun.augment.own.as_change",
    ),
    "model": _slot(
        "trainrun.model", "torch.nn.Module", "input_shape num_outputs num_classes vocab_size per_token"
    ),
    "init": _slot("trainrun.init", "trainrun.init.Init", plain=(1,), adapter="trainrun.init.as_init"),
    "parameters": _slot("trainrun.parameters", "trainrun.parameters.Parameters"),
    "optimizer": replace(
        _OPTIMIZER, extras=dict.fromkeys(("lr_scaling", "base_batch_size"), "trainrun.optimizer.scaled_lr")
    ),
    "optimizer.base": replace(_OPTIMIZER, named=True),
    "scheduler": _slot(
        "trainrun.scheduler",
        "torch.optim.lr_scheduler.LRScheduler",
        "total_steps base_lr maximize optimizer",
        extras={"also": "trainrun.scheduler.scheduled_numbers.ScheduledNumbers"},
        plain=(1,),
        adapter="trainrun.scheduler.own.as_schedule",
    ),
    "regularization": _slot(
        "trainrun.regularization",
        " ".join(f"trainrun.regularization.kinds.{kind}" for kind in _KINDS),
        plain=(1, 2),
        adapter="trainrun.regularization.own.as_regularizer",
    ),
    "precision": _slot(
        *("trainrun.precision", "trainrun.precision.Precision", "device", "device"),
        adapter="trainrun.precision.as_precision",
    ),
    "parallel": _slot("trainrun.parallel"),
    "loop": _slot("trainrun.loop", "trainrun.loop.Loop", f"step {_LIVE}", _LIVE, extras=_LOOP_EXTRAS),
    "loop.clip": _slot("trainrun.loop.step", "trainrun.loop.step.Clip", main="norm"),
    "loop.step": _slot("trainrun.loop.step trainrun.loop.adversarial", "", _STEP, _STEP),
    "loop.probes": _slot("trainrun.loop.probes", plain=(3,), named=True),
    "checkpoint": _slot("trainrun.checkpoint", "trainrun.checkpoint.Checkpoints", _CHECKPOINT, _CHECKPOINT),
    "sweep": _slot("trainrun.sweep", "trainrun.sweep.Sweep"),
    "hydra.sweeper": _slot("trainrun.sweep", "", _SEARCH, _SEARCH),
    "logger": _slot("trainrun.logger", "", "run_dir", "run_dir", plain=(1,)),
    "task.metrics": _slot("trainrun.task"),
}


def extra_parameters(slot: Slot) -> dict[str, Parameter]:
    """The keys that every option of a slot takes; none of them is required."""
    return {
        name: replace(source_signature(target).parameters[name], required=False)
        for name, target in slot.extras.items()
    }


def slot_of(path: str) -> Slot | None:
    """The slot at a dotted path; members of a list group (`regularization.ema`) share the group's."""
    head, _, rest = path.partition(".")
    if head in ("regularization", "logger") and "." not in rest:
        return SLOTS[head]
    if path.startswith("scheduler.also.") and path.endswith(".by"):
        return SLOTS["scheduler"]
    if path.startswith(("optimizer.modules.", "scheduler.modules.")):
        return SLOTS[head]
    return SLOTS.get("init" if head == "parameters" and path.endswith(".init") else path)
