"""Write Python: values, calls broken where they are long, and names with the imports that they need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 88  # ruff's own, so that a formatter leaves the script as it is
# What the script itself binds; a part of that name gets another.
_OWN = frozenset(
    "average batch batches best copy data device epoch evaluate groups itertools lr_factor math mean model"
    " named nn optimizer outputs rows std step targets test torch train update update_average val window"
    " windows F Iterator Tensor".split()
)
_ALWAYS = {
    "derive": "trainrun.vocabulary.seeds.derive",
    "epoch_order": "trainrun.data.order.epoch_order",
    "stream": "trainrun.vocabulary.seeds.stream",
}


@dataclass(frozen=True)
class Section:
    """A part of the script, and the numbers that it needs, which stand together at the top."""

    text: str
    constants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imports:
    """The parts that the script imports, each under a name of its own."""

    targets: dict[str, str] = field(default_factory=lambda: dict(_ALWAYS))  # name -> dotted name

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
    if isinstance(value, tuple):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def call(function: str, arguments: Mapping[str, Any], first: str = "", before: str = "") -> str:
    """`before` and the call of a function with `first` and keyword arguments, on as few lines as fit."""
    words = [first] * bool(first) + [f"{name}={literal(value)}" for name, value in arguments.items()]
    return bracketed(f"{before}{function}(", words, ")")


def bracketed(begin: str, words: Sequence[str], end: str) -> str:
    """The words between brackets: on one line, on one of their own, or each on one."""
    inner = ", ".join(words)
    if len(begin + inner + end) <= _WIDTH:
        return begin + inner + end
    if len(inner) <= _WIDTH - 4 and not begin.endswith(("[", "{")):
        return f"{begin}\n    {inner}\n{end}"
    return "\n".join([begin, *(f"    {word}," for word in words), end])
