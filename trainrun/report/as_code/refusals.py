"""What the plain script cannot say: refused by name, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainrun.assembly.factory import Settings
from trainrun.config.paths import groups
from trainrun.config.plain import read_option
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError, Problem

# Of each group the calls that it can write, by their last names; of the groups left out any.
_WRITTEN = {
    "augment": "none",
    "task": "Classification Binary Regression",
    "loss": "CrossEntropy BCEWithLogits MSE L1 Huber SmoothL1",
    "scheduler": "constant step multistep exponential linear polynomial cosine noam",
    "init": "auto default xavier_uniform xavier_normal kaiming_uniform kaiming_normal lecun_normal orthogonal"
    " normal truncated_normal constant zeros",
    "precision": "auto fp32 bf16",
}
_REGULARIZERS = ("dropout", "label_smoothing", "ema")
# Settings that it follows, or that have no say in the weights. Others must be as in their option's file.
_FOLLOWED = {
    "loop": "accumulate clip eval_every log_every health",
    "checkpoint": "every keep_last keep_every",
    "runtime": "device threads channels_last trust preemption_signal",
    "loss": "delta beta",
    "task": "standardize",
    "scheduler": "warmup warmup_start min_lr power gamma every at",
    "parameters": "",
}


def refuse(settings: Settings, choices: Mapping[str, Any]) -> None:
    """Raise ConfigError with everything that the settings ask for and the script cannot say."""
    if names := [*_options(settings, choices), *_settings(settings, choices)]:
        raise refusal(*names)


def refusal(*names: str) -> ConfigError:
    """The error of parts and settings, each named as it is set."""
    text = "is not in the plain script; leave it out"
    return ConfigError([Problem("show loop --as-code", f"{name} {text}") for name in names])


def chosen(settings: Settings, group: str, choices: Mapping[str, Any] | None = None) -> str:
    """`scheduler=plateau`, or the call that stands there."""
    name = _option(settings, group, choices or {})
    return f"{group}={name}" if name else f"{group}._target_={settings[group]['_target_']}"


def _option(settings: Settings, group: str, choices: Mapping[str, Any]) -> str | None:
    """The option that makes a group's call: the one chosen, or another with the same target."""
    options, target = groups()[group], settings[group]["_target_"]
    names = [name for name in (str(choices.get(group)), *options) if name in options]
    return next((n for n in names if read_option(options[n], group).get("_target_") == target), None)


def _options(settings: Settings, choices: Mapping[str, Any]) -> Iterator[str]:
    for group, names in _WRITTEN.items():
        target = settings[group]["_target_"]
        if not target.startswith("trainrun.") or target.rpartition(".")[2] not in names.split():
            yield chosen(settings, group, choices)
    regularizers = settings["regularization"] or {}
    yield from (f"regularization={name}" for name in regularizers if name not in _REGULARIZERS)


def _settings(settings: Settings, choices: Mapping[str, Any]) -> Iterator[str]:
    for group, followed in _FOLLOWED.items():
        name = _option(settings, group, choices)
        default = read_option(groups()[group][name], group) if name else {}
        for key, value in settings[group].items():
            if key not in followed.split() and value not in (
                default.get(key),
                [],
                settings[group]["_target_"],
            ):
                yield f"{group}.{key}={value}"
    for kind in ("value", "agc"):
        if (limit := settings["loop"]["clip"][kind]) is not None:
            yield f"loop.clip.{kind}={limit}"
    if settings["init_from"] is not None:
        yield f"init_from={settings['init_from']}"
    if parse(settings["budget"]).is_clock:
        yield f"budget={settings['budget']}"
