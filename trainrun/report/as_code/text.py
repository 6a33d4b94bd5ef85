"""Write Python: values, calls broken where they are long, and names with the imports that they need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH = 88  # ruff's own, so that a formatter leaves the script as it is
# What the script itself binds: a part of such a name gets another.
_OWN = {"average", "batch", "best", "criterion", "data", "device", "evaluate", "groups"}
_OWN |= {"lr_factor", "mean", "model", "optimizer", "std", "test", "train", "val", "windows"}


class Imports:
    """The parts that the script imports, each under a name of its own."""

    def __init__(self) -> None:
        self.targets = {"epoch_order": "trainrun.data.order.epoch_order"}  # name -> dotted name
        self.targets |= {name: f"trainrun.vocabulary.seeds.{name}" for name in ("derive", "stream")}

    def name(self, target: str) -> str:
        """The name by which the script calls `target`."""
        module, _, name = target.rpartition(".")
        if name in _OWN or self.targets.get(name, target) != target:
            name = f"{module.replace('.', '_')}_{name}"
        self.targets[name] = target
        return name

    def lines(self) -> list[str]:
        """`from package.module import name` for each, in the order of a formatter."""
        by_module: dict[str, list[str]] = {}
        for name, target in sorted(self.targets.items()):
            module, _, own = target.rpartition(".")
            by_module.setdefault(module, []).append(own if own == name else f"{own} as {name}")
        return [f"from {module} import {', '.join(names)}" for module, names in sorted(by_module.items())]


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
    """The call that `before` begins, on one line, its arguments on one line, or each on its own."""
    words = [*words, *(f"{name}={literal(value)}" for name, value in arguments.items())]
    inner = ", ".join(words)
    if len(before + inner) < _WIDTH - 1:
        return f"{before}({inner})"
    if len(inner) <= _WIDTH - 4:
        return f"{before}(\n    {inner}\n)"
    return "\n".join([f"{before}(", *(f"    {word}," for word in words), ")"])
