"""The user's probes by name: functions, or calls with more arguments, that take (model, batches, step)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from trainrun.assembly.factory import Factory
from trainrun.config.call import call, resolve
from trainrun.config.injection import SLOTS
from trainrun.loop.probes import Probe
from trainrun.vocabulary.errors import ConfigError

_PATH = "loop.probes"


def probes_of(make: Factory, is_evaluated: bool) -> tuple[Probe, ...]:
    """The probes that the settings name, in order.

    Raises ConfigError for one that takes something else, or where nothing is evaluated before the end.
    """
    nodes = make.settings["loop"].get("probes") or ()
    if nodes and not is_evaluated:
        text = "run on the validation split, and there is none"
        raise ConfigError.of(_PATH, text, f"{_PATH}=[]")
    return tuple(_probe(make, node) for node in nodes)


def _probe(make: Factory, node: Any) -> Probe:
    node = node if isinstance(node, Mapping) else {"_target_": node}
    target, slot = node["_target_"], SLOTS[_PATH]
    function: Any = resolve(target, _PATH, slot, make.trust, make.stored)
    module = function.__module__
    if isinstance(function, type):
        with make.seeded(_PATH, target):
            function = call(node, _PATH, slot, {}, make.trust, make.stored)
    elif len(node) > 1:
        function = functools.partial(function, **{key: node[key] for key in node if key != "_target_"})
    try:
        inspect.signature(function).bind("model", "batches", "step")
    except TypeError as error:
        raise ConfigError.of(_PATH, f"{target} must take (model, batches, step): {error}") from None
    return Probe(target, function, module)
