"""What an optimizer asks of other settings: of precision, clipping, schedule, averages and groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainrun.config.diagnose import NO_EFFECT, misfit_option
from trainrun.config.paths import groups
from trainrun.config.plain import read_option
from trainrun.config.tree import target_of
from trainrun.vocabulary.errors import Problem

Settings = Mapping[str, Any]

_CLIPS = ("norm", "value", "agc")


def _lbfgs(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if target_of(s, "optimizer") not in ("trainrun.optimizer.lbfgs", "torch.optim.LBFGS"):
        return
    if target_of(s, "precision").endswith(".fp16"):
        yield Problem("precision", "fp16's changing loss scale breaks L-BFGS's line search", "precision=fp32")
    clip = s["loop"].get("clip") or {}
    for key in (f"loop.clip.{kind}" for kind in _CLIPS if clip.get(kind) is not None):
        yield Problem(key, "clipped gradients break L-BFGS's curvature", f"{key}=null")
    rules = s["parameters"].get("rules") or {}
    if any(isinstance(rule, Mapping) and {"lr", "weight_decay"} & rule.keys() for rule in rules.values()):
        text = "L-BFGS takes one group of parameters; no lr or weight_decay by rule"
        yield Problem("parameters.rules", text)


def _sam(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    if target_of(s, "optimizer") not in ("trainrun.optimizer.sam", "trainrun.optimizer.sam.sam"):
        return
    if target_of(s, "precision").endswith(".fp16"):
        text = "fp16 skips a step that overflows, but SAM's two evaluations share one loss scale"
        yield Problem("precision", f"{text}; use bf16 or fp32", "precision=bf16")
    base = s["optimizer"].get("base")
    if wrong := misfit_option("optimizer", base, "adamw or {momentum: {momentum: 0.8}}"):
        yield Problem("optimizer.base", wrong)
        return
    name = next(iter(base)) if isinstance(base, Mapping) else base
    if name in ("sam", "lbfgs", "schedule_free"):
        text = f"{name} cannot be wrapped: it evaluates the window or averages the weights by itself"
        yield Problem("optimizer.base", text, "optimizer.base=momentum")


def _schedule_free(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """An average in the place of a schedule: two of either would undo each other."""
    if not target_of(s, "optimizer").endswith(".schedule_free_adamw"):
        return
    if target_of(s, "scheduler") != "trainrun.scheduler.constant":
        text = "schedule_free averages instead of a schedule; use warmup_constant or constant"
        yield Problem("scheduler", text, "scheduler=warmup_constant")
    for name in filter((s.get("regularization") or {}).__contains__, ("ema", "swa")):
        text = f"leave out {name}: schedule_free averages the weights itself, and one average is possible"
        yield Problem("regularization", text)


def _configure_optimizers(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """A module's own optimizer and schedules, and what would have no effect beside them."""
    if not target_of(s, "optimizer").endswith(".configure_optimizers"):
        return
    if target_of(s, "task") != "trainrun.task.lightning.Lightning":
        text = "own calls the configure_optimizers of a LightningModule, with task=lightning"
        yield Problem("optimizer", f"{text}; name another by optimizer._target_=my_code.MyOptimizer")
        return
    for group, name in (("scheduler", "constant"), ("parameters", "default")):
        plain = read_option(groups()[group][name], group)
        changed = [key for key, value in s[group].items() if value != plain.get(key)]
        if "_target_" in changed:
            yield Problem(group, NO_EFFECT, f"{group}={name}")
        else:
            yield from (Problem(f"{group}.{key}", NO_EFFECT) for key in changed)
    yield from (Problem(f"optimizer.{key}", NO_EFFECT) for key in s["optimizer"] if key != "_target_")


def _clipping(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    clip = s["loop"].get("clip")
    kinds = _CLIPS if isinstance(clip, Mapping) else ()
    given = [f"loop.clip.{kind}" for kind in kinds if clip.get(kind) is not None]
    for key in given[1:]:
        yield Problem(key, f"cannot be combined with {given[0]}", f"{key}=null")


OPTIMIZER_RULES = (_lbfgs, _sam, _schedule_free, _clipping, _configure_optimizers)
