"""The script's optimizer, torch's own class with the run's values, and its learning rate as a formula."""

from __future__ import annotations

import inspect
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.optimizer import needs_closure
from trainrun.report.as_code.refusals import chosen, refusal
from trainrun.report.as_code.text import call
from trainrun.vocabulary.duration import parse, to_steps

_GROUPS = """# Norms and biases are not decayed: smaller ones make no simpler model.
matrices = [p for p in model.parameters() if p.ndim > 1]
vectors = [p for p in model.parameters() if p.ndim < 2]
groups = [
    {{"params": matrices, "weight_decay": {decay!r}}},
    {{"params": vectors, "weight_decay": 0.0}},
]
"""
# Of the share of the run after the warm-up.
_OF_PROGRESS = {
    "cosine": "(1 + math.cos(math.pi * progress)) / 2",
    "linear": "1 - progress",
    "polynomial": "(1 - progress) ** POWER",
}
# Of the updates since the start, which the warm-up multiplies.
_OF_UPDATE = {
    "constant": "1.0",
    "step": "GAMMA ** (update // DROP_EVERY)",
    "multistep": "GAMMA ** sum(update >= drop for drop in DROPS)",
    "exponential": "GAMMA ** (update / DROP_EVERY)",
    "noam": "min(1.0, math.sqrt(WARMUP / (update + 1)))",
}


def optimizer_section(parts: Parts) -> str:
    """Make the parameter groups and the optimizer."""
    optimizer: Any = parts.state.optimizer
    kind, node, groups = type(optimizer), parts.settings["optimizer"], optimizer.param_groups
    if not kind.__module__.startswith("torch.optim.") or needs_closure(optimizer):
        raise refusal(chosen(parts.settings, "optimizer"))
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    values = {
        name: value
        for name, value in optimizer.defaults.items()
        if name in defaults and name not in ("lr", "weight_decay")
        if (name in node and not isinstance(value, bool)) or value != defaults[name]
    }
    begin = f"optimizer = torch.optim.{kind.__name__}"
    if len(groups) == 1:
        decay = {"weight_decay": groups[0]["weight_decay"]} if "weight_decay" in defaults else {}
        return call(begin, values | decay, ["model.parameters()", "lr=LR"])
    names = {id(parameter): name for name, parameter in parts.state.model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    if decayed != {name for name, p in parts.state.model.named_parameters() if p.ndim > 1}:
        raise refusal("a norm or bias that is a matrix")
    return _GROUPS.format(decay=node["weight_decay"]) + call(begin, values, ["groups", "lr=LR"])


def schedule_section(parts: Parts) -> str:
    """The factor of the learning rate, a function of the update."""
    node, warmup = parts.settings["scheduler"], _warmup(parts)
    name, start = node["_target_"].rpartition(".")[2], node["warmup_start"]
    rise = "(update + 1) / WARMUP" if start == 0 else f"{start} + {1 - start} * (update + 1) / WARMUP"
    lines = ["def lr_factor(update: int) -> float:"]
    lines.append(f'    """The share of LR at an update, {name}: accumulation does not stretch it."""')
    if name in _OF_PROGRESS:
        shape = _OF_PROGRESS[name]
        shape = f"FLOOR + (1 - FLOOR) * ({shape})" if node["min_lr"] else shape
        lines += ["    if update < WARMUP:", f"        return {rise}"] if warmup else []
        lines.append(
            f"    progress = {'(update - WARMUP) / (STEPS - WARMUP)' if warmup else 'update / STEPS'}"
        )
    else:
        shape = f"max(FLOOR, {_OF_UPDATE[name]})" if node.get("min_lr") else _OF_UPDATE[name]
        lines += ["    if update < WARMUP:", f"        return {shape} * ({rise})"] if warmup else []
    return "\n".join([*lines, f"    return {shape}"])


def rate_constants(parts: Parts) -> list[str]:
    """Lines of the numbers that optimizer and schedule need."""
    node, warmup = parts.settings["scheduler"], _warmup(parts)
    lines = [f"LR = {parts.rates.lr!r}  # the highest learning rate"]
    lines += [f"WARMUP = {warmup}  # updates in which it rises"] if warmup else []
    lines += [f"FLOOR = {node['min_lr']!r} / LR  # where the decay ends"] if node.get("min_lr") else []
    lines += [f"{key.upper()} = {node[key]!r}" for key in ("power", "gamma") if key in node]
    if "every" in node:
        lines.append(f"DROP_EVERY = {to_steps(parse(node['every']), parts.pace)}  # updates")
    if "at" in node:
        drops = [to_steps(parse(point), parts.pace) for point in node["at"]]
        lines.append(f"DROPS = {drops}  # updates")
    return lines


def _warmup(parts: Parts) -> int:
    schedule: Any = parts.state.schedule
    return int(schedule.warmup)
