"""The script's optimizer, torch's own class with the run's values, and its learning rate as a formula."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from trainrun.assembly.build import Parts
from trainrun.optimizer import needs_closure
from trainrun.optimizer.prepared import Adam, AdamW
from trainrun.report.as_code.refusals import chosen, refusal
from trainrun.report.as_code.text import call
from trainrun.vocabulary.duration import parse, to_steps

_GROUPS = """matrices = [p for p in model.parameters() if p.ndim > 1]  # not norms and biases
vectors = [p for p in model.parameters() if p.ndim < 2]
groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
"""
# Of the share of the run after the warm-up.
_OF_PROGRESS = {
    "cosine": "(1 + math.cos(math.pi * progress)) / 2",
    "linear": "1 - progress",
    "polynomial": "(1 - progress) ** POWER",
}
# Of the steps since the start.
_OF_STEP = {
    "constant": "",
    "step": "GAMMA ** (step // DROP_EVERY)",
    "multistep": "GAMMA ** sum(step >= drop for drop in DROPS)",
    "exponential": "GAMMA ** (step / DROP_EVERY)",
    "noam": "min(1.0, math.sqrt(WARMUP / (step + 1)))",
}


def optimizer_section(parts: Parts) -> str:
    """Make the parameter groups and the optimizer."""
    optimizer: Any = parts.state.optimizer
    kind, node, groups = type(optimizer), parts.settings["optimizer"], optimizer.param_groups
    if kind in (Adam, AdamW):
        kind = getattr(torch.optim, kind.__name__)  # whose arithmetic it is
    if not kind.__module__.startswith("torch.optim.") or needs_closure(optimizer):
        raise refusal(chosen(parts.settings, "optimizer"))
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    values = {key: value for key, value in optimizer.defaults.items() if value != defaults.get(key, value)}
    values = {key: value for key, value in values.items() if key not in ("lr", "weight_decay")}
    begin = f"optimizer = torch.optim.{kind.__name__}"
    if len(groups) == 1:
        decay = {"weight_decay": groups[0]["weight_decay"]} if "weight_decay" in defaults else {}
        return call(begin, values | decay, ["model.parameters()", "lr=LR"])
    names = {id(parameter): name for name, parameter in parts.state.model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    if decayed != {name for name, p in parts.state.model.named_parameters() if p.ndim > 1}:
        raise refusal("a norm or bias that is a matrix")
    return _GROUPS + call(begin, {"weight_decay": node["weight_decay"]} | values, ["groups", "lr=LR"])


def rate_lines(parts: Parts) -> list[str]:
    """Lines that set the learning rate before a step; none where it stays."""
    node, warmup = parts.settings["scheduler"], getattr(parts.state.schedule, "warmup", 0)
    name, start = node["_target_"].rpartition(".")[2], node["warmup_start"]
    shape = _OF_PROGRESS.get(name) or _OF_STEP[name]
    if node.get("min_lr"):
        shape = f"FLOOR + (1 - FLOOR) * ({shape})" if name in _OF_PROGRESS else f"max(FLOOR, {shape})"
    rise = "min(1, (step + 1) / WARMUP)"
    rise = rise if start == 0 else f"({start} + {1 - start} * {rise})"
    factors = [*([rise] if warmup else []), *([f"({shape})"] if shape else [])]
    if not factors:
        return []
    share = "max(0, step - WARMUP) / max(1, STEPS - WARMUP)" if warmup else "step / STEPS"
    lines = [f"progress = {share}"] if name in _OF_PROGRESS else []
    lines.append(f"lr = LR * {' * '.join(factors)}")
    return [*lines, "for group in optimizer.param_groups:", '    group["lr"] = lr']


def rate_constants(parts: Parts) -> dict[str, str]:
    """The numbers that optimizer and schedule need, by name."""
    node, warmup = parts.settings["scheduler"], getattr(parts.state.schedule, "warmup", 0)
    values = {"LR": repr(parts.rates.lr)} | ({"WARMUP": repr(warmup)} if warmup else {})
    values |= {"FLOOR": f"{node['min_lr']!r} / {parts.rates.lr!r}"} if node.get("min_lr") else {}
    values |= {key.upper(): repr(node[key]) for key in ("power", "gamma") if key in node}
    if "every" in node:
        values["DROP_EVERY"] = repr(to_steps(parse(node["every"]), parts.pace))
    if "at" in node:
        values["DROPS"] = repr([to_steps(parse(point), parts.pace) for point in node["at"]])
    return values
