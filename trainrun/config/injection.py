"""Dependency injection: the places of a config where a call stands, and the runtime values it is offered.

A runtime value is offered as pytest hands out fixtures: only to a parameter of that name that
has no default and no value in the YAML. Anywhere else the YAML asks for it: `'@num_outputs'`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainrun.config.signature import Parameter, source_signature


@dataclass(frozen=True)
class Slot:
    """A place where a call stands.

    `extras` are further keys of every option, which the build reads itself: name -> the callable with a
    parameter of that name.
    """

    modules: tuple[str, ...]
    bases: tuple[str, ...] = ()  # classes that the result must be one of; none: what `modules` make
    offers: tuple[str, ...] = ()
    extras: Mapping[str, str] = field(default_factory=dict)
    main: str = ""  # the argument that a bare value is meant for
    named: bool = False  # an option's name may stand for the call; a rule checks it
    reserved: tuple[str, ...] = ()  # offers that the YAML may not replace: live parts, where a run writes
    plain: tuple[int, ...] = ()  # how many values the run passes to a plain function
    adapter: str = ""  # turns the user's own objects into parts


_STEP = ("task", "policy", "batch_changes", "penalties", "info", "accumulate", "seed")
_CHECKPOINT = ("folder", "run_id", "record")
_LOOP = ("step", "policy", "windows", "budget", "evaluator", "checkpoints", "signals")
_SEARCH = ("axes", "trials", "maximize", "folder", "at_once")
_KINDS = tuple(
    f"trainrun.regularization.kinds.{name}"
    for name in ("ModelChange", "BatchChange", "Penalty", "WeightAverage", "Stopper")
)

_DATASET = Slot(("trainrun.data",), ("torch.utils.data.Dataset",))
_OPTIMIZER = Slot(
    ("trainrun.optimizer",), ("torch.optim.Optimizer",), ("params", "model"), reserved=("params",)
)

SLOTS: dict[str, Slot] = {
    "runtime": Slot(("trainrun.runtime",)),
    "data": Slot(
        ("trainrun.data",),
        ("trainrun.protocols.Data", "torch.utils.data.Dataset"),
        ("target_kind",),
        extras=dict.fromkeys(("num_workers", "balanced"), "trainrun.data.dataset.Loading"),
    ),
    **dict.fromkeys(("data.train", "data.val", "data.test"), _DATASET),
    "loss": Slot(
        ("trainrun.loss", "torch.nn.functional"),
        ("torch.nn.Module",),
        ("class_counts",),
        plain=(2,),
        adapter="trainrun.loss.as_loss",
    ),
    "task": Slot(
        ("trainrun.task",),
        (),
        ("loss", "info"),
        reserved=("loss", "info"),
        plain=(2,),
        adapter="trainrun.task.own.as_task",
    ),
    "augment": Slot(
        ("trainrun.augment", "torchvision.transforms"),
        (),
        ("info",),
        reserved=("info",),
        plain=(1,),
        adapter="trainrun.augment.own.as_change",
    ),
    "model": Slot(
        ("trainrun.model",),
        ("torch.nn.Module",),
        ("input_shape", "num_outputs", "num_classes", "vocab_size", "per_token"),
    ),
    "init": Slot(("trainrun.init",), ("trainrun.init.Init",), plain=(1,), adapter="trainrun.init.as_init"),
    "parameters": Slot(("trainrun.parameters",), ("trainrun.parameters.Parameters",)),
    "optimizer": replace(
        _OPTIMIZER, extras=dict.fromkeys(("lr_scaling", "base_batch_size"), "trainrun.optimizer.scaled_lr")
    ),
    "optimizer.base": replace(_OPTIMIZER, named=True),
    "scheduler": Slot(
        ("trainrun.scheduler",),
        ("torch.optim.lr_scheduler.LRScheduler",),
        ("total_steps", "base_lr", "maximize", "optimizer"),
        plain=(1,),
        adapter="trainrun.scheduler.own.as_schedule",
    ),
    "regularization": Slot(
        ("trainrun.regularization",),
        _KINDS,
        plain=(1, 2),
        adapter="trainrun.regularization.own.as_regularizer",
    ),
    "precision": Slot(
        ("trainrun.precision",),
        ("trainrun.precision.Precision",),
        ("device",),
        reserved=("device",),
        adapter="trainrun.precision.as_precision",
    ),
    "loop": Slot(
        ("trainrun.loop",),
        ("trainrun.loop.Loop",),
        _LOOP,
        reserved=tuple(name for name in _LOOP if name != "step"),  # that one is a call of its own
        extras={
            "accumulate": "trainrun.protocols.BatchSpec",
            **dict.fromkeys(
                ("clip", "nonfinite", "nonfinite_limit", "rollback_lr"), "trainrun.loop.step.Policy"
            ),
            "stop_at": "trainrun.loop.evaluator.Evaluator",
        },
    ),
    "loop.clip": Slot(("trainrun.loop.step",), ("trainrun.loop.step.Clip",), main="norm"),
    "loop.step": Slot(("trainrun.loop.step",), (), _STEP, reserved=_STEP),
    "checkpoint": Slot(
        ("trainrun.checkpoint",), ("trainrun.checkpoint.Checkpoints",), _CHECKPOINT, reserved=_CHECKPOINT
    ),
    "sweep": Slot(("trainrun.sweep",), ("trainrun.sweep.Sweep",)),
    "hydra.sweeper": Slot(("trainrun.sweep",), (), _SEARCH, reserved=_SEARCH),
    "logger": Slot(("trainrun.logger",), (), ("run_dir",), reserved=("run_dir",), plain=(1,)),
    "task.metrics": Slot(("trainrun.task",)),
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
    return SLOTS.get("init" if head == "parameters" and path.endswith(".init") else path)
