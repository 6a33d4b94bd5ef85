"""The script's learning rate: a formula of the update, written out for the schedule chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.report.as_code.text import Section
from trainrun.vocabulary.duration import parse, to_steps

Steps = Callable[[Any], int]  # a duration of the settings as updates
# Of the share of the run after the warm-up.
_OF_PROGRESS = {
    "cosine": "(1 + math.cos(math.pi * progress)) / 2",
    "linear": "1 - progress",
    "polynomial": "(1 - progress) ** POWER",
}
# Of the updates since the start; the warm-up multiplies it.
_OF_UPDATE = {
    "constant": "1.0",
    "step": "GAMMA ** (update // DROP_EVERY)",
    "multistep": "GAMMA ** sum(update >= drop for drop in DROPS)",
    "exponential": "GAMMA ** (update / DROP_EVERY)",
    "noam": "min(1.0, math.sqrt(WARMUP / (update + 1)))",
}


def schedule_section(parts: Parts) -> Section:
    """The factor of the learning rate, a function of the update."""
    node, warmup = parts.settings["scheduler"], parts.state.schedule.warmup  # type: ignore[attr-defined]
    name = node["_target_"].rpartition(".")[2]
    has_floor = bool(node.get("min_lr"))
    lines = ["def lr_factor(update: int) -> float:"]
    lines.append(f'    """The share of LR by the updates done: {name}, counted in no other unit."""')
    start = node["warmup_start"]
    rise = "(update + 1) / WARMUP" if start == 0 else f"{start} + {1 - start} * (update + 1) / WARMUP"
    if name in _OF_PROGRESS:
        lines += ["    if update < WARMUP:", f"        return {rise}"] if warmup else []
        lines.append(f"    progress = {'(update - WARMUP) / (STEPS - WARMUP)' if warmup else 'update / STEPS'}")
        shape = _OF_PROGRESS[name]
        lines.append(f"    return {f'FLOOR + (1 - FLOOR) * ({shape})' if has_floor else shape}")
    else:
        shape = _OF_UPDATE[name]
        shape = f"{node['d_model']}**-0.5 * WARMUP**-0.5 * {shape}" if node.get("d_model") else shape
        shape = f"max(FLOOR, {shape})" if has_floor else shape
        lines += [f"    factor = {shape}"]
        lines += ["    if update < WARMUP:", f"        factor *= {rise}"] if warmup else []
        lines.append("    return factor")
    return Section("\n".join(lines), _constants(parts, node, warmup, has_floor))


def _constants(parts: Parts, node: Any, warmup: int, has_floor: bool) -> tuple[str, ...]:
    def steps(duration: Any) -> int:
        return to_steps(parse(duration), parts.pace)

    lines = [f"WARMUP = {warmup}  # updates in which the learning rate rises"] if warmup else []
    lines += [f"FLOOR = {node['min_lr']!r} / LR  # where the decay ends"] if has_floor else []
    lines += [f"POWER = {node['power']!r}"] if "power" in node else []
    lines += [f"GAMMA = {node['gamma']!r}"] if "gamma" in node else []
    lines += [f"DROP_EVERY = {steps(node['every'])}  # updates"] if "every" in node else []
    lines += [f"DROPS = {tuple(map(steps, node['at']))}  # updates"] if "at" in node else []
    return tuple(lines)
