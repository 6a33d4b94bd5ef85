"""The user's own metrics: their names, and a curve for each number that they return."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from trainrun.vocabulary.errors import ConfigError

# (outputs, targets) of the whole split -> a number, a vector or a dict of them
OwnMetric = Callable[..., Any]
# Keys beside the metrics of an evaluation, in metrics.jsonl and metrics.csv.
TAKEN = ("event", "step", "epoch", "split", "weights", "nonfinite", "lr")
_MOST = 1000  # curves of a vector, or one per class if that is more: longer ones are no metric, but outputs


def named(metrics: Sequence[OwnMetric]) -> dict[str, OwnMetric]:
    """Metrics by name, each a function of one split. Raises ConfigError for two of the same name."""
    by_name: dict[str, OwnMetric] = {}
    for metric in metrics:
        name = getattr(metric, "__name__", type(metric).__name__)
        if name in by_name:
            text = f"two are called {name}; rename one, such as by a function of another name that calls it"
            raise ConfigError.of("task.metrics", text)
        by_name[name] = _fresh(metric, name)
    return by_name


def curves(name: str, value: Any, labels: Sequence[str], num_targets: int) -> dict[str, float]:
    """The numbers that a metric returned, under its own name or `name/entry` for each entry.

    `labels` name the entries of a vector of the same length. Raises ValueError for anything else.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy() if not value.is_complex() else value.tolist()
    if isinstance(value, np.ndarray) and value.size == 1 and value.ndim < 2:
        value = value.item()
    if hasattr(value, "_asdict"):  # a named tuple
        value = value._asdict()
    if isinstance(value, Mapping):
        return _entries(name, value, labels, num_targets)
    if isinstance(value, np.ndarray) and value.ndim > 1:
        raise ValueError(f"returns an array of shape {value.shape}")
    if isinstance(value, (np.ndarray, list, tuple)):
        if len(value) > max(_MOST, num_targets):
            raise ValueError(f"returns {len(value):,} numbers")
        is_named = len(labels) == len(value) and len(set(labels)) == len(labels)
        keys = labels if is_named else range(len(value))
        return _entries(name, dict(zip(keys, value, strict=True)), labels=(), num_targets=num_targets)
    if value is None:
        raise ValueError("returns None: is its `return` missing?")
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or np.iscomplexobj(value):
        raise ValueError(f"returns {str(value)[:40]!r}, a {type(value).__name__}")
    return {name: float(value)}


def _entries(
    name: str, entries: Mapping[Any, Any], labels: Sequence[str], num_targets: int
) -> dict[str, float]:
    """Curves of a dict. Raises ValueError for no entries, two of one name, or one that is not a number."""
    if not entries:
        raise ValueError("returns nothing: it is empty")
    curves_by_name: dict[str, float] = {}
    for key, value in entries.items():
        entry = f"{name}/{' '.join(str(key).split())}"
        try:
            inner = curves(entry, value, labels, num_targets)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith("[") else f"[{key!r}] {text}") from None
        if both := curves_by_name.keys() & inner:
            raise ValueError(f"returns two entries called {min(both)}")
        curves_by_name |= inner
    return curves_by_name


def _fresh(metric: OwnMetric, name: str) -> OwnMetric:
    """Make an accumulating metric, such as torchmetrics', a function that starts fresh for each split."""
    if not all(hasattr(metric, method) for method in ("update", "compute")):
        if not callable(metric):
            text = f"{name} can neither be called nor has it update and compute"
            raise ConfigError.of("task.metrics", text)
        return metric

    def score(outputs: Tensor, targets: Tensor) -> Any:
        adding: Any = metric if hasattr(metric, "reset") else copy.deepcopy(metric)
        if hasattr(adding, "reset"):
            adding.reset()
        adding.update(outputs, targets)
        return adding.compute()

    score.__module__ = type(metric).__module__  # whose file an error is looked for in
    return score
