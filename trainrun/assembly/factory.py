"""Instantiate a config node (`_target_`): durations become steps, runtime values are offered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trainrun.config.call import StoredOrigin, annotation_of, call, resolve
from trainrun.config.injection import SLOTS, slot_of
from trainrun.config.paths import groups
from trainrun.config.plain import read_option
from trainrun.config.values import kind_of
from trainrun.runtime.machine import seeded
from trainrun.vocabulary.duration import Pace, parse, to_steps
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.seeds import derive

Settings = Mapping[str, Any]


class Factory:
    """Makes the call of a group's node; durations become steps where a parameter says so."""

    def __init__(
        self, settings: Settings, stored: StoredOrigin | None, trust: tuple[str, ...] | None
    ) -> None:
        self.settings, self.stored = settings, stored
        self.trust = tuple(settings["runtime"]["trust"]) if trust is None and not stored else trust or ()
        self.pace: Pace | None = None  # known once the data are

    def __call__(self, group: str, offered: Mapping[str, Any] | None = None) -> Any:
        return self.at(group, self.settings[group], offered or {})

    def callable_of(self, group: str) -> Callable[..., Any]:
        """The class or function that a group's node names."""
        return resolve(self.settings[group]["_target_"], group, SLOTS[group], self.trust, self.stored)

    def over(self, pace: Pace) -> Factory:
        """The same, its durations in steps of another pace."""
        other = copy.copy(self)
        other.pace = pace
        return other

    def at(self, path: str, node: Mapping[str, Any], offered: Mapping[str, Any] | None = None) -> Any:
        """Make the call of `node`, whose random draws are its own: of the run's seed and `path`.

        Data draw from the run's own stream, which stored runs' fingerprints rest on.
        """
        slot = slot_of(path)
        if slot is None:
            raise ConfigError.of(path, "no call has a place here; make the object in a function of yours")
        arguments = {key: self._in_steps(node["_target_"], path, key, value) for key, value in node.items()}
        with nullcontext() if path.partition(".")[0] == "data" else self.seeded(path):
            return call(arguments, path, slot, offered or {}, self.trust, self.stored)

    def seeded(self, *purpose: str) -> AbstractContextManager[None]:
        """Random draws that are a function of the run's seed and of what they are for."""
        return seeded(derive(self.settings["seed"], *purpose))

    def check_durations(self, group: str) -> None:
        """Convert the durations of a group that is made only once the run has a folder."""
        for key, value in self.settings[group].items():
            self._in_steps(self.settings[group]["_target_"], group, key, value)

    def _in_steps(self, target: str, path: str, key: str, value: Any) -> Any:
        if self.pace is None or key == "_target_" or not kind_of(annotation_of(target, key)).holds_steps:
            return value
        return self.in_steps(f"{path}.{key}", value)

    def in_steps(self, key: str, value: Any) -> Any:
        """A duration, or each of a list, in optimizer steps. Raises ConfigError for one without a meaning."""
        assert self.pace
        try:
            if isinstance(value, list):
                return [to_steps(parse(item), self.pace) for item in value]
            return None if value is None else to_steps(parse(value), self.pace)
        except ValueError as error:
            raise ConfigError.of(key, str(error)) from None


def option_of(node: Settings) -> str:
    """What a call is named: `sigmoid_net` of `my_pkg.sigmoid_net`."""
    return str(node["_target_"]).rpartition(".")[2]


def node_of(group: str, wanted: Any, key: str) -> dict[str, Any]:
    """What stands for a call: an option's name, `{option: {argument: value}}`, or the call itself."""
    if isinstance(wanted, Mapping) and "_target_" in wanted:
        return dict(wanted)
    name, values = (wanted, {}) if isinstance(wanted, str) else next(iter(wanted.items()))
    options = groups()[group]
    if name not in options:
        raise ConfigError.of(key, f"no {group} is called {name}; there are {', '.join(options)}")
    return {**read_option(options[name], group), **values}
