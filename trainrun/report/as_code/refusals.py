"""What the plain script cannot say: refused by name, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainrun.assembly.factory import Settings, read_option
from trainrun.config.paths import groups
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError, Problem

KEY = "show loop --as-code"
# Targets that it can write, without `trainrun.`, by group; of the groups left out any.
_WRITTEN = {
    "augment": ("augment.none.none",),
    "task": ("task.classification.Classification", "task.binary.Binary", "task.regression.Regression"),
    "loss": tuple(f"loss.{name}" for name in ("CrossEntropy", "BCEWithLogits", "MSE", "L1", "Huber", "SmoothL1")),
    "scheduler": tuple(
        f"scheduler.{name}"
        for name in ("constant", "step", "multistep", "exponential", "linear", "polynomial", "cosine", "noam")
    ),
    "precision": tuple(f"precision.{name}" for name in ("auto", "fp32", "tf32", "bf16")),
    "parameters": ("parameters.Parameters",),
}
_REGULARIZERS = ("dropout", "label_smoothing", "ema")
# Settings that it follows, or that have no say in the weights. Any other must be as its option's file has it.
_FOLLOWED = {
    "loop": ("accumulate", "clip", "eval_every", "log_every", "health"),
    "checkpoint": ("every", "keep_last", "keep_every"),
    "runtime": ("device", "threads", "deterministic", "channels_last", "trust", "preemption_signal"),
    "loss": ("delta", "beta", "pos_weight"),
    "task": ("standardize",),
    "parameters": ("decay_norm_and_bias", "layer_decay", "rules"),
}


def refuse(settings: Settings, choices: Mapping[str, Any]) -> None:
    """Raise ConfigError with everything of a run that the script cannot say."""
    names = [*_options(settings, choices), *_settings(settings, choices)]
    if names:
        raise ConfigError([problem(name) for name in names])


def problem(name: str) -> Problem:
    """The refusal of one part or setting, named as it is set."""
    return Problem(KEY, f"{name} is not in the plain script; leave it out")


def chosen(settings: Settings, choices: Mapping[str, Any], group: str) -> str:
    """`scheduler=plateau`, or the call that stands there."""
    target = settings[group]["_target_"]
    file = groups()[group].get(str(choices.get(group)))
    is_option = file is not None and read_option(file, group).get("_target_") == target
    return f"{group}={choices[group]}" if is_option else f"{group}._target_={target}"


def _options(settings: Settings, choices: Mapping[str, Any]) -> Iterator[str]:
    for group, targets in _WRITTEN.items():
        if settings[group]["_target_"].removeprefix("trainrun.") not in targets:
            yield chosen(settings, choices, group)
    target = settings["init"]["_target_"]
    if not target.startswith("trainrun.init.") or target.endswith(".lsuv"):
        yield chosen(settings, choices, "init")
    if not settings["data"]["_target_"].startswith("trainrun.data."):
        yield chosen(settings, choices, "data")
    yield from (f"regularization={name}" for name in settings["regularization"] or {} if name not in _REGULARIZERS)


def _settings(settings: Settings, choices: Mapping[str, Any]) -> Iterator[str]:
    for group, followed in _FOLLOWED.items():
        file = groups()[group].get(str(choices.get(group)))
        default = read_option(file, group) if file else {}
        yield from _differing(settings[group], default, (*followed, "_target_"), group)
    if settings["loop"]["clip"]["agc"] is not None:
        yield f"loop.clip.agc={settings['loop']['clip']['agc']}"
    if any("init" in rule for rule in settings["parameters"]["rules"].values()):
        yield "an init in parameters.rules"
    if settings["init_from"] is not None:
        yield f"init_from={settings['init_from']}"
    if parse(settings["budget"]).is_clock:
        yield f"budget={settings['budget']}"


def _differing(node: Settings, default: Settings, followed: Sequence[str], group: str) -> Iterator[str]:
    for key, value in node.items():
        if key not in followed and value != default.get(key):
            yield f"{group}.{key}={value}"
