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


def layers(bench: CheckContext) -> CheckSection:
    """Activations and gradients by layer, parameters that get no gradient, norms that are not 1 and 0."""
    model, task, settings = bench.still, bench.parts.task, bench.parts.settings
    bench.seed(0)
    found = signals(model, task, bench.batch)
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    total = float(torch.stack(norms).norm()) if norms else 0.0
    other = bench.still

    def loss() -> torch.Tensor:
        bench.seed(0)
        return loss_of(task, other, bench.batch)

    learned = learning(other, loss)
    count, odd = _norm_layers(bench.parts.state.model)
    lines = [("layers", f"{len(found)}, for {len(bench.batch)} samples"), *_table(found)]
    lines.append(("gradient", f"norm {total:.3g} over all parameters"))
    if count:
        but = f" but for {_names(odd)}" if odd else ""
        lines.append(("norms", f"{count} norm layers, weight 1 and bias 0{but}"))
    lines += [("no gradient", _names(names)) for names in (learned.unused, learned.still) if names]
    is_new = bench.parts.weights is None and not settings["model"].get("pretrained")
    findings = [*_zero_or_alike(bench.parts.state.model, learned, settings)]
    findings = findings or [*_dead_or_saturated(found, settings)] or [*_through_depth(found, settings)]
    findings += _unused(learned, settings) + (_still(learned) if not findings else [])
    if odd and is_new and not settings["init"].get("zero_residual"):
        findings.append(
            CheckResult(
                "norm layers", f"{_names(odd)} begin otherwise", "weight 1 and bias 0", ("init=auto",)
            )
        )
    return CheckSection("model", tuple(lines), tuple(findings), {"layers": [asdict(one) for one in found]})


def _table(found: Sequence[Signal]) -> list[tuple[str, str]]:
    head = ["layer", "mean", "std", "dead", "saturated", "grad std", "weight grad"]
    rows = [head]
    for one in found:
        shares = ["" if share is None else f"{share:.0%}" for share in (one.dead, one.saturated)]
        figures = [f"{value:.2g}" for value in (one.gradient_std, one.gradient_norm)]
        rows.append([one.layer or "whole", f"{one.mean:.2g}", f"{one.std:.2g}", *shares, *figures])
    if not found:
        return []
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [("", line.plain) for line in laid_out(list(zip(*kept, strict=True)))]


def _zero_or_alike(model: nn.Module, learned: Learning, settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    weights = {name: model.get_submodule(name).get_parameter("weight") for name in learned.alike}
    zero = [name for name, weight in weights.items() if not bool(weight.detach().any())]
    if zero:
        measured = f"all weights of {_names(zero)} are 0 and stay so: no gradient reaches them"
        yield CheckResult("zero weights", measured, "random weights", *_init_anew(settings))
    elif weights:
        measured = f"all units of {_names(list(weights))} begin alike and stay alike"
        yield CheckResult(
            "equal weights", measured, "random weights, that units come to differ", *_init_anew(settings)
        )


def _dead_or_saturated(found: Sequence[Signal], settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    dead = [one for one in found if one.dead is not None and one.dead >= _DEAD]
    if dead:
        worst = max(one.dead or 0.0 for one in dead)
        measured = (
            f"{worst:.0%} of the units after {_names([one.layer for one in dead])} give 0 for every sample"
        )
        yield CheckResult(
            "dead units", measured, f"less than {_DEAD:.0%} before training", *_init_anew(settings)
        )
    full = [one for one in found if one.saturated is not None and one.saturated >= _SATURATED]
    if full:
        worst = max(one.saturated or 0.0 for one in full)
        measured = (
            f"{worst:.0%} of the activations after {_names([one.layer for one in full])} are at their limits"
        )
        yield CheckResult(
            "saturated units", measured, f"less than {_SATURATED:.0%} before training", *_init_anew(settings)
        )


def _through_depth(found: Sequence[Signal], settings: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Signals that die out or grow from layer to layer, forwards (but for the outputs) or backwards."""
    stds = [one.std for one in found[:-1]]
    back = [one.gradient_std for one in found if not math.isnan(one.gradient_std)]
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


def _init_anew(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
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
