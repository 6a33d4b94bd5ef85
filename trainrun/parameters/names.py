"""Names of parameters and layers: those of the output layer, and the nearest to a pattern."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import nn


def head_of(model: nn.Module) -> set[str]:
    """The output layer's parameters by name: timm's `get_classifier`, else the last layer with a matrix."""
    classifier = getattr(model, "get_classifier", None)
    heads = classifier() if callable(classifier) else ()
    heads = nn.ModuleList(heads) if isinstance(heads, (tuple, nn.ModuleList)) else heads
    members = {id(parameter) for parameter in heads.parameters()}
    named = dict(model.named_parameters())
    if members:
        return {name for name, parameter in named.items() if id(parameter) in members}
    matrices = [name for name, parameter in named.items() if parameter.ndim > 1] or list(named)
    layer = matrices[-1].rpartition(".")[0]
    return {name for name in named if name.rpartition(".")[0] == layer}


def nearest_name(pattern: str, names: Iterable[str]) -> str:
    """The name, or a leading or last part of one, that is most similar to a pattern."""
    parts = [name.split(".") for name in names]
    candidates = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    candidates |= {part[-1] for part in parts}
    return difflib.get_close_matches(pattern.strip("*.?"), sorted(candidates), 1, 0.0)[0]
