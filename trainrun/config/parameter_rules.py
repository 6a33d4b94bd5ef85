"""Rules by parameter name in a configuration: their patterns, keys and values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainrun.config.diagnose import misfit_option
from trainrun.vocabulary.errors import Problem

Settings = Mapping[str, Any]
_INIT = "zeros or {normal: {std: 0.01}}"  # an example
_RULE_KEYS = ("lr", "weight_decay", "freeze", "init")


def parameter_rules(s: Settings, explicit: Collection[str]) -> Iterator[Problem]:
    """Find what is wrong in `parameters.rules`."""
    allowed = ", ".join(_RULE_KEYS)
    for pattern, rule in (s["parameters"].get("rules") or {}).items():
        key = f"parameters.rules.{pattern}"
        if not isinstance(rule, Mapping):
            yield Problem(key, f"must be a mapping such as {{lr: 0.1}}, got {rule!r}; a rule takes {allowed}")
            continue
        for name, value in rule.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name not in _RULE_KEYS:
                yield Problem(f"{key}.{name}", f"no such setting of a rule; it takes {allowed}")
            elif name in ("lr", "weight_decay") and not (number and value >= 0):
                yield Problem(f"{key}.{name}", f"must be a number of at least 0, got {value!r}")
            elif name == "freeze" and not isinstance(value, bool):
                yield Problem(f"{key}.{name}", f"must be true or false, got {value!r}")
            elif name == "init" and (wrong := misfit_option("init", value, _INIT)):
                yield Problem(f"{key}.init", wrong)
        if "weight_decay" in rule and "weight_decay" not in s["optimizer"]:
            yield Problem(f"{key}.weight_decay", "has no effect because the optimizer has no weight_decay")
