"""The script's optimizer: torch's own class with the run's values, and its parameter groups."""

from __future__ import annotations

import inspect
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.optimizer import needs_closure
from trainrun.report.as_code.refusals import problem
from trainrun.report.as_code.text import Section, bracketed, call, literal
from trainrun.vocabulary.errors import ConfigError


def optimizer_section(parts: Parts) -> Section:
    """Make the parameter groups and the optimizer."""
    optimizer: Any = parts.state.optimizer
    kind, node = type(optimizer), parts.settings["optimizer"]
    if not kind.__module__.startswith("torch.optim.") or needs_closure(optimizer):
        raise ConfigError([problem(f"optimizer={node['_target_'].rpartition('.')[2]}")])
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    values = {
        name: value
        for name, value in optimizer.defaults.items()
        if name in defaults and name not in ("lr", "weight_decay")
        if (name in node and not isinstance(value, bool)) or value != defaults[name]
    }
    groups, lines = _groups(parts)
    if groups == "model.parameters()" and "weight_decay" in defaults:
        values["weight_decay"] = optimizer.param_groups[0]["weight_decay"]
    made = call(f"torch.optim.{kind.__name__}", {"lr": _LR} | values, groups, "optimizer = ")
    return Section("\n".join([*lines, made]), (f"LR = {parts.rates.lr!r}",))


class _Name:
    """A name in place of a value."""

    def __repr__(self) -> str:
        return "LR"


_LR = _Name()


def _groups(parts: Parts) -> tuple[str, list[str]]:
    """What the optimizer is given, and the lines before it."""
    model, groups = parts.state.model, parts.state.optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = [[names[id(p)] for p in group["params"]] for group in groups]
    if len(groups) == 1 and listed[0] == list(names.values()):
        return "model.parameters()", []
    factors = [group["base_lr"] / parts.rates.lr for group in groups]
    decays = [group.get("weight_decay") for group in groups]
    matrices = [name for name, p in model.named_parameters() if p.ndim > 1]
    vectors = [name for name, p in model.named_parameters() if p.ndim < 2]
    if factors == [1, 1] and sorted(listed) == sorted([matrices, vectors]):
        by_names = dict(zip(map(tuple, listed), decays, strict=True))
        is_first = listed[0] == matrices
        pair = [
            f'{{"params": matrices, "weight_decay": {by_names[tuple(matrices)]!r}}}',
            f'{{"params": vectors, "weight_decay": {by_names[tuple(vectors)]!r}}}',
        ]
        lines = ["# Norms and biases are not decayed: a smaller scale or offset is no simpler model."]
        lines.append("matrices = [p for p in model.parameters() if p.ndim > 1]")
        lines.append("vectors = [p for p in model.parameters() if p.ndim < 2]")
        return "groups", [*lines, bracketed("groups = [", pair if is_first else pair[::-1], "]")]
    return "groups", _by_name(parts, listed, factors, decays)


def _by_name(parts: Parts, listed: list[list[str]], factors: list[float], decays: list[Any]) -> list[str]:
    """Groups of any rules, their parameters by name."""
    lines = ["named = dict(model.named_parameters())"]
    trained = {name for group in listed for name in group}
    if frozen := [name for name, _ in parts.state.model.named_parameters() if name not in trained]:
        lines.append(bracketed("for name in [", list(map(literal, frozen)), "]:"))
        lines.append("    named[name].requires_grad_(False)")
    lines.append("groups = []")
    for names, factor, decay in zip(listed, factors, decays, strict=True):
        lines.append(bracketed("names = [", list(map(literal, names)), "]"))
        settings = {"factor": factor} | ({} if decay is None else {"weight_decay": decay})
        lines.append(f'groups.append({{"params": [named[n] for n in names], {literal(settings)[1:]})')
    return lines


def rates_by_group(parts: Parts) -> bool:
    """Whether groups learn at rates of their own."""
    return any(group["base_lr"] != parts.rates.lr for group in parts.state.optimizer.param_groups)
