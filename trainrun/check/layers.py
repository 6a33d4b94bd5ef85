"""The model before training: what passes through its layers, and which parameters learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from trainrun.assembly.costs import first_of
from trainrun.assembly.factory import option_of
from trainrun.check.context import CheckContext, loss_of
from trainrun.check.depth import Level, levels
from trainrun.check.finding import CheckSection
from trainrun.config.tree import value_at
from trainrun.init import LAYERS, NORMS
from trainrun.terminal.table import laid_out

_DEAD, _SATURATED = 0.8, 0.5  # shares from which a layer is worth a word
_WEAK, _STRONG = 1e-5, 1e5  # a signal, by the strongest or weakest of the other layers
_PASSES = 4  # what begins at 0, as a residual branch, gets its first gradient in the second pass
_STEP = 0.01  # of the norm of all weights that a pass may move
_FIGURES = ("layer", "mean", "std", "dead", "saturated", "gradient_std", "gradient_norm")


def layers(context: CheckContext) -> CheckSection:
    """Activations and gradients by layer, parameters that get no gradient, norms that are not 1 and 0."""
    model, settings, own = context.still, context.parts.settings, context.parts.state.model
    context.seed(0)
    measured = levels(model, context.parts.task, context.batch)
    norm = float(get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    other = context.still

    def loss() -> Tensor:
        context.seed(0)
        return loss_of(context.parts.task, other, context.batch)

    unused, still, alike = learning(other, loss)
    norms = {name: m for name, m in own.named_modules() if isinstance(m, NORMS)}
    odd = [
        f"{name}.{part}"
        for name, layer in norms.items()
        for part, p in layer.named_parameters(recurse=False)
        if bool((p.detach() != (1.0 if part == "weight" else 0.0)).any())
    ]
    section = CheckSection("model", [("layers", f"{len(measured)}, for {len(context.batch)} samples")])
    section.lines += [*_table(measured), ("gradient", f"norm {norm:.3g} over all parameters")]
    if norms:
        but = f" but for {first_of(odd)}" if odd else ""
        section.lines.append(("norms", f"{len(norms)} norm layers, weight 1 and bias 0{but}"))
    section.lines += [("no gradient", first_of(names)) for names in (unused, still) if names]
    section.values = {"layers": [{name: getattr(level, name) for name in _FIGURES} for level in measured]}
    _alike(section, own, alike, settings)
    if not section.findings:
        _dead_or_saturated(section, measured, settings)
    if not section.findings:
        _through_depth(section, measured, settings)
    _without_gradient(section, unused, still, settings)
    is_new = context.parts.weights is None and not settings["model"].get("pretrained")
    if odd and is_new and not settings["init"].get("zero_residual"):
        section.add("norm layers", f"{first_of(odd)} begin otherwise", "weight 1 and bias 0", "init=auto")
    return section


def _table(measured: Sequence[Level]) -> list[tuple[str, str]]:
    rows = [["layer", "mean", "std", "dead", "saturated", "grad std", "weight grad"]]
    for level in measured:
        shares = ["" if share is None else f"{share:.0%}" for share in (level.dead, level.saturated)]
        figures = [f"{value:.2g}" for value in (level.gradient_std, level.gradient_norm)]
        rows.append([level.layer or "whole", f"{level.mean:.2g}", f"{level.std:.2g}", *shares, *figures])
    if not measured:
        return []
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [("", line.plain) for line in laid_out(list(zip(*columns, strict=True)))]


def _alike(
    section: CheckSection, model: nn.Module, names: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """Layers whose units begin alike: all of them 0, or not."""
    fix, advice = _new_init(settings)
    zero = [name for name in names if not model.get_submodule(name).get_parameter("weight").detach().any()]
    if zero:
        measured = f"all weights of {first_of(zero)} are 0 and stay so: no gradient reaches them"
        section.add("zero weights", measured, "random weights", *fix, advice=advice)
    elif names:
        measured = f"all units of {first_of(names)} begin alike and stay alike"
        expected = "random weights, that units come to differ"
        section.add("equal weights", measured, expected, *fix, advice=advice)


def _dead_or_saturated(section: CheckSection, measured: Sequence[Level], settings: Mapping[str, Any]) -> None:
    kinds = (
        ("dead units", "units after {} give 0 for every sample", "dead", _DEAD),
        ("saturated units", "activations after {} are at their limits", "saturated", _SATURATED),
    )
    fix, advice = _new_init(settings)
    for name, text, share, limit in kinds:
        shares = [(level.layer, getattr(level, share) or 0.0) for level in measured]
        worst = {layer: value for layer, value in shares if value >= limit}
        if worst:
            text = f"{max(worst.values()):.0%} of the {text.format(first_of([*worst]))}"
            section.add(name, text, f"less than {limit:.0%} before training", *fix, advice=advice)


def _through_depth(section: CheckSection, measured: Sequence[Level], settings: Mapping[str, Any]) -> None:
    """Signals that die out or grow from layer to layer, forwards (but for the outputs) or backwards."""
    stds = [level.std for level in measured[:-1]]
    back = [level.gradient_std for level in measured if not math.isnan(level.gradient_std)]
    if len(stds) < 2 or len(back) < 2:
        return
    forward, backward = _ratio(stds[-1], stds[0]), _ratio(back[0], back[-1])
    text = f"activations x {forward:.1g} from first to last hidden layer, "
    text += f"gradients x {backward:.1g} coming back"
    if min(forward, backward) < _WEAK:
        section.add("vanishing", text, f"more than x {_WEAK:g}", *_deeper(settings))
    elif max(forward, backward) > _STRONG:
        section.add("exploding", text, f"less than x {_STRONG:g}", *_deeper(settings))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf if a else 1.0


def _deeper(settings: Mapping[str, Any]) -> list[str]:
    """What lets a signal pass through many layers, of what the model has."""
    if option_of(settings["init"]) != "auto":
        return ["init=auto"]
    saturates = value_at(settings, "model.activation") in ("sigmoid", "tanh")
    fixes = ["model.activation=relu"] if saturates else []
    return fixes + (["model.norm=batch"] if value_at(settings, "model.norm") == "none" else [])


def _new_init(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The override that gives usual weights, or what to do where the settings are not to blame."""
    if any("init" in rule for rule in (value_at(settings, "parameters.rules") or {}).values()):
        return ("parameters.rules={}",), ""
    if option_of(settings["init"]) != "auto":
        return ("init=auto",), ""
    advice = "begin with random weights of about 1 / sqrt(inputs) and biases of 0"
    return (), f"the model's own code sets them: {advice}"


def _without_gradient(
    section: CheckSection, unused: Sequence[str], still: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """Unused parameters, and those whose gradient is 0 where nothing else explains it."""
    is_explained = bool(section.findings)
    if unused:
        measured = f"the loss does not depend on {first_of(unused)}"
        advice = "use them in forward (is there a detach, or a no_grad?), or remove them"
        if not value_at(settings, "parameters.rules"):
            rules = ",".join(f"{name}:{{freeze:true}}" for name in unused)
            advice += f"; where that is meant: 'parameters.rules={{{rules}}}'"
        section.add("unused parameters", measured, "a gradient", advice=advice)
    if still and not is_explained:
        measured = f"{first_of(still)} got a gradient of exactly 0 in each of several steps"
        advice = "look at what their output is multiplied by"
        section.add("no gradient", measured, "a gradient", advice=advice)


def learning(model: nn.Module, loss: Callable[[], Tensor]) -> tuple[list[str], list[str], list[str]]:
    """What learns at all in a few small steps of plain gradient descent, which change the model.

    `loss` is that of the model, for a batch. Return the names of parameters that the loss does not depend on,
    of those whose gradient was exactly 0 each time, and of layers whose units started equal and stayed so.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    used: set[str] = set()
    moved: set[str] = set()
    for _ in range(_PASSES):
        model.zero_grad(set_to_none=True)
        loss().backward()
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        parameters = [named[name].detach() for name in gradients]
        used |= gradients.keys()
        moved |= {name for name, gradient in gradients.items() if bool((gradient != 0).any())}
        norm, size = get_total_norm(gradients.values()), float(get_total_norm(parameters))
        if bool(torch.isfinite(norm)) and norm > 0:
            alpha = -float(_STEP * max(size, 1.0) / norm)
            torch._foreach_add_(parameters, list(gradients.values()), alpha=alpha)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}
    weights = {name: layer.get_parameter("weight").detach() for name, layer in layers.items()}
    return (
        [name for name in named if name not in used],
        [name for name in named if name in used - moved],
        [name for name, weight in [*weights.items()][:-1] if _are_alike(weight)],
    )


def _are_alike(weight: Tensor) -> bool:
    """Whether all rows are equal, to rounding."""
    return len(weight) > 1 and bool((weight - weight[:1]).abs().max() <= 1e-5 * weight.abs().max())
