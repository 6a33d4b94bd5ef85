"""The model before training: what passes through its layers, and which parameters learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from trainrun.check.context import CheckContext, loss_of
from trainrun.check.finding import CheckResult, CheckSection, option_of, setting
from trainrun.check.learning import Learning, learning
from trainrun.check.signals import Signal, signals
from trainrun.init import NORMS
from trainrun.terminal.table import laid_out

_DEAD, _SATURATED = 0.8, 0.5  # shares from which a layer is worth a word
_WEAK, _STRONG = 1e-5, 1e5  # a signal, by the strongest or weakest of the other layers
_SHOWN = 4  # names in a row


def layers(context: CheckContext) -> CheckSection:
    """Activations and gradients by layer, parameters that get no gradient, norms that are not 1 and 0."""
    model, task, settings = context.still, context.parts.task, context.parts.settings
    context.seed(0)
    layer_signals = signals(model, task, context.batch)
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    total = float(torch.stack(norms).norm()) if norms else 0.0
    other = context.still

    def loss() -> torch.Tensor:
        context.seed(0)
        return loss_of(task, other, context.batch)

    learned = learning(other, loss)
    count, odd = _norm_layers(context.parts.state.model)
    lines = [("layers", f"{len(layer_signals)}, for {len(context.batch)} samples"), *_table(layer_signals)]
    lines.append(("gradient", f"norm {total:.3g} over all parameters"))
    if count:
        but = f" but for {_names(odd)}" if odd else ""
        lines.append(("norms", f"{count} norm layers, weight 1 and bias 0{but}"))
    lines += [("no gradient", _names(names)) for names in (learned.unused, learned.still) if names]
    is_new = context.parts.weights is None and not settings["model"].get("pretrained")
    findings = [*_zero_or_alike(context.parts.state.model, learned, settings)]
    findings = (
        findings
        or [*_dead_or_saturated(layer_signals, settings)]
        or [*_through_depth(layer_signals, settings)]
    )
    findings += _unused(learned, settings) + (_still(learned) if not findings else [])
    if odd and is_new and not settings["init"].get("zero_residual"):
        findings.append(
            CheckResult(
                "norm layers", f"{_names(odd)} begin otherwise", "weight 1 and bias 0", ("init=auto",)
            )
        )
    return CheckSection(
        "model", tuple(lines), tuple(findings), {"layers": [asdict(signal) for signal in layer_signals]}
    )


def _table(layer_signals: Sequence[Signal]) -> list[tuple[str, str]]:
    head = ["layer", "mean", "std", "dead", "saturated", "grad std", "weight grad"]
    rows = [head]
    for signal in layer_signals:
        shares = ["" if share is None else f"{share:.0%}" for share in (signal.dead, signal.saturated)]
        figures = [f"{value:.2g}" for value in (signal.gradient_std, signal.gradient_norm)]
        rows.append([signal.layer or "whole", f"{signal.mean:.2g}", f"{signal.std:.2g}", *shares, *figures])
    if not layer_signals:
        return []
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [("", line.plain) for line in laid_out(list(zip(*columns, strict=True)))]


def _zero_or_alike(model: nn.Module, learned: Learning, settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    weights = {name: model.get_submodule(name).get_parameter("weight") for name in learned.alike}
    zero = [name for name, weight in weights.items() if not bool(weight.detach().any())]
    if zero:
        measured = f"all weights of {_names(zero)} are 0 and stay so: no gradient reaches them"
        yield CheckResult("zero weights", measured, "random weights", *_new_init(settings))
    elif weights:
        measured = f"all units of {_names(list(weights))} begin alike and stay alike"
        yield CheckResult(
            "equal weights", measured, "random weights, that units come to differ", *_new_init(settings)
        )


def _dead_or_saturated(signals: Sequence[Signal], settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    kinds = (
        ("dead units", "units after {} give 0 for every sample", "dead", _DEAD),
        ("saturated units", "activations after {} are at their limits", "saturated", _SATURATED),
    )
    for name, text, share, limit in kinds:
        shares = [(signal.layer, getattr(signal, share) or 0.0) for signal in signals]
        layers = {layer: value for layer, value in shares if value >= limit}
        if layers:
            measured = f"{max(layers.values()):.0%} of the {text.format(_names([*layers]))}"
            yield CheckResult(name, measured, f"less than {limit:.0%} before training", *_new_init(settings))


def _through_depth(layer_signals: Sequence[Signal], settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Signals that die out or grow from layer to layer, forwards (but for the outputs) or backwards."""
    stds = [signal.std for signal in layer_signals[:-1]]
    back = [signal.gradient_std for signal in layer_signals if not math.isnan(signal.gradient_std)]
    if len(stds) < 2 or len(back) < 2:
        return
    forward, backward = _ratio(stds[-1], stds[0]), _ratio(back[0], back[-1])
    text = (
        f"activations x {forward:.1g} from first to last hidden layer, gradients x {backward:.1g} coming back"
    )
    if min(forward, backward) < _WEAK:
        yield CheckResult("vanishing", text, f"more than x {_WEAK:g}", _deeper(settings))
    elif max(forward, backward) > _STRONG:
        yield CheckResult("exploding", text, f"less than x {_STRONG:g}", _deeper(settings))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf if a else 1.0


def _deeper(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What lets a signal pass through many layers, of what the model has."""
    if option_of(settings, "init") != "auto":
        return ("init=auto",)
    mends = ["model.activation=relu"] if setting(settings, "model.activation") in ("sigmoid", "tanh") else []
    mends += ["model.norm=batch"] if setting(settings, "model.norm") == "none" else []
    return tuple(mends)


def _new_init(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The override that gives usual weights, or what to do where the settings are not to blame."""
    if any("init" in rule for rule in (setting(settings, "parameters.rules") or {}).values()):
        return ("parameters.rules={}",), ""
    if option_of(settings, "init") != "auto":
        return ("init=auto",), ""
    return (
        (),
        "the model's own code sets them: begin with random weights of about 1 / sqrt(inputs) and biases of 0",
    )


def _still(learned: Learning) -> list[CheckResult]:
    if not learned.still:
        return []
    measured = f"{_names(learned.still)} got a gradient of exactly 0 in each of several steps"
    return [
        CheckResult("no gradient", measured, "a gradient", (), "look at what their output is multiplied by")
    ]


def _unused(learned: Learning, settings: Mapping[str, Any]) -> list[CheckResult]:
    if not learned.unused:
        return []
    rules = ",".join(f"{name}:{{freeze:true}}" for name in learned.unused)
    measured = f"the loss does not depend on {_names(learned.unused)}"
    advice = "use them in forward (is there a detach, or a no_grad?), or remove them"
    if not setting(settings, "parameters.rules"):
        advice += f"; where that is meant: 'parameters.rules={{{rules}}}'"
    return [CheckResult("unused parameters", measured, "a gradient", (), advice)]


def _norm_layers(model: nn.Module) -> tuple[int, list[str]]:
    """How many there are, and which have other weights than 1 or other biases than 0."""
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, NORMS)]
    odd = [
        f"{name}.{part}"
        for name, norm in norms
        for part, p in norm.named_parameters(recurse=False)
        if bool((p.detach() != (1.0 if part == "weight" else 0.0)).any())
    ]
    return len(norms), odd


def _names(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
