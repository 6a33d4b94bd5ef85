"""Write Python: values, calls broken where they are long, and names with the imports that they need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH = 88  # what fits most windows
# What the script itself binds: a part of such a name gets another.
_OWN = """average batch best criterion data device epoch evaluate groups index inputs kernel loss lr matrices
    mean micro model optimizer order progress rows score smoothed std step targets test train val vectors"""


class Imports:
    """The parts that the script imports, each under a name of its own."""

    def __init__(self) -> None:
        self.targets = {"epoch_order": "trainrun.data.order.epoch_order"}  # name -> dotted name
        self.targets |= {name: f"trainrun.vocabulary.seeds.{name}" for name in ("derive", "stream")}
        self.targets |= {name: f"trainrun.data.samples.{name}" for name in ("Seeded", "collate")}

    def name(self, target: str) -> str:
        """The name by which the script calls `target`."""
        module, _, name = target.rpartition(".")
        if name in _OWN.split() or self.targets.get(name, target) != target:
            name = f"{module.replace('.', '_')}_{name}"
        self.targets[name] = target
        return name

    def lines(self, body: str) -> str:
        """`from package.module import name` for each that `body` names, in the order of a formatter."""
        by_module: dict[str, list[str]] = {}
        used = {name: target for name, target in self.targets.items() if f"{name}(" in body}
        for name, target in sorted(used.items()):
            module, _, own = target.rpartition(".")
            by_module.setdefault(module, []).append(own if own == name else f"{own} as {name}")
        return "\n".join(f"from {name} import {', '.join(by_module[name])}" for name in sorted(by_module))


def literal(value: Any) -> str:
    """Source of a plain value, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def call(before: str, arguments: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    """The call that `before` begins, on one line, or its arguments on as many as they fill."""
    words = [*words, *(f"{name}={literal(value)}" for name, value in arguments.items())]
    if len(before) + len(", ".join(words)) < _WIDTH - 1:
        return f"{before}({', '.join(words)})"
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > _WIDTH - 6 and lines[-1]:
            lines.append("")
        lines[-1] += f" {word}," if lines[-1] else f"    {word},"
    return "\n".join([f"{before}(", *lines, ")"])


def constants(values: Mapping[str, str]) -> str:
    """Names and their values, in one assignment where that fits a line."""
    line = f"{', '.join(values)} = {', '.join(values.values())}"
    return line if len(line) <= _WIDTH else "\n".join(f"{name} = {value}" for name, value in values.items())
