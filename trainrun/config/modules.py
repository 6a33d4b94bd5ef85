"""Check what is named for each module of a model, and what has no place where two networks train in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainrun.config.diagnose import misfit_option
from trainrun.vocabulary.errors import Problem

_EXAMPLES = {"optimizer": "adam or {adam: {eps: 1e-6}}", "scheduler": "cosine or {cosine: {warmup: 5%}}"}
_WHOLE = ("sam", "lbfgs", "schedule_free", "plateau", "torch", "per_module")  # need all of a model, or state
_SHARED = ("lr", "weight_decay", "lr_scaling", "base_batch_size", "also")


def problems_of_modules(s: Mapping[str, Any], explicit: Collection[str]) -> Iterator[Problem]:
    """Options and values that a module cannot have, and schedules of other modules than the optimizers'."""
    named = {group: s[group].get("modules") or {} for group in _EXAMPLES}
    for group, name, wanted in [(g, name, wanted) for g in named for name, wanted in named[g].items()]:
        path = f"{group}.modules.{name}"
        if wrong := misfit_option(group, wanted, _EXAMPLES[group]):
            yield Problem(path, wrong)
            continue
        option, values = next(iter(wanted.items())) if isinstance(wanted, Mapping) else (wanted, {})
        if option in _WHOLE:
            yield Problem(path, f"{option} cannot be one module's own {group}; choose another")
        for key in [key for key in _SHARED if key in (values or {})]:
            text = f"is shared by all modules: set {group}.{key}; parameters.rules gives a module its share"
            yield Problem(f"{path}.{key}", text)
    if named["scheduler"] and {*named["scheduler"]} != {*named["optimizer"]}:
        schedules, optimizers = (", ".join(named[group]) or "none" for group in ("scheduler", "optimizer"))
        text = f"must name the same modules as optimizer.modules, {optimizers}; got {schedules}"
        yield Problem("scheduler.modules", text)


def problems_of_gan(s: Mapping[str, Any], explicit: Collection[str]) -> Iterator[Problem]:
    """What a step of two networks cannot do, or does not read."""
    step, task, model = (_target(s, *path) for path in (("loop", "step"), ("task",), ("model",)))
    is_ours, is_gan = step.endswith(".AdversarialStep"), task.endswith(".Adversarial")
    is_apart = is_ours != is_gan or (not is_gan and model == "trainrun.model.gan.GAN")
    if is_apart and step.startswith("trainrun.") and task.startswith("trainrun."):
        yield Problem("task", "gan, its model and its step of two networks need each other", "experiment=gan")
    if "task.gradient_penalty" in explicit and s["task"].get("objective") == "dcgan":
        yield Problem("task.gradient_penalty", "has no effect because task.objective is dcgan")
    if not is_ours:
        return
    if not {"generator", "discriminator"} <= {*(s["optimizer"].get("modules") or ())}:
        yield Problem("optimizer", "must be per_module with generator and discriminator: trainrun show gan")
    if _target(s, "precision").endswith(".fp16"):
        yield Problem("precision", "fp16's loss scale cannot serve two losses", "precision=bf16")
    if s["runtime"].get("compile") != "off":
        text = "compiles one forward, and a step of two networks has several; leave it out"
        yield Problem("runtime.compile", text, "runtime.compile=off")
    if s["parameters"].get("unfreeze_at") is not None:
        yield Problem("parameters.unfreeze_at", "has no place in a step of two networks; leave it out")
    for name in {*(s["regularization"] or ())} - {"ema", "early_stopping"}:
        yield Problem(f"regularization.{name}", "has no place in a step of two networks; leave it out")


def _target(s: Mapping[str, Any], *path: str) -> str:
    """The target of the call at a path; "" where there is none, which is reported elsewhere."""
    node: Any = s
    for key in (*path, "_target_"):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, str) else ""
