"""One word of the shell as Hydra's override grammar reads it."""

from __future__ import annotations

import os
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString, ValueType
from hydra.errors import HydraException

from trainrun.config.diagnose import Given
from trainrun.config.suggest import hydra_value


def given(text: str) -> Given:
    """An override as its parts; `problem` where Hydra's grammar cannot read it."""
    try:
        parsed = OverridesParser.create().parse_override(expanded(text))
    except RecursionError:
        return Given(text, problem="nests too deep")
    except HydraException:
        known = "=" not in text.strip("=")
        return Given(text, problem="is not KEY=VALUE" if known else "cannot be read; quote it for the shell")
    if not parsed.key_or_group:
        return Given(text, problem="is not KEY=VALUE")
    prefix = "~" if parsed.is_delete() else "++" if parsed.is_force_add() else "+" if parsed.is_add() else ""
    is_sweep = parsed.is_sweep_override()
    if is_sweep and (parsed.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP)):
        return Given(text, parsed.key_or_group, prefix, [], is_sweep=True)
    items = [_parsed(item) for item in parsed.sweep_string_iterator()] if is_sweep else [parsed.value()]
    values = [_text(one) for item in items for one in (item if isinstance(item, list) else [item])]
    is_list = any(isinstance(item, list) for item in items)
    return Given(text, parsed.key_or_group, prefix, None if items == [None] else values, is_list, is_sweep)


def expanded(word: str) -> str:
    """`data.root=~/x` with the home folder written out, which no shell does behind a `=`."""
    key, _, value = word.partition("=")
    return f"{key}={hydra_value(os.path.expanduser(value))}" if value.startswith("~/") else word


def value_of(word: str) -> Any:
    """The value of an override as a plain object; None for a sweep."""
    parsed = OverridesParser.create().parse_override(word)
    return None if parsed.is_sweep_override() else parsed.value()


def _parsed(text: str) -> Any:
    """One value of a sweep."""
    return OverridesParser.create().parse_override(f"x={text}").value()


def _text(value: Any) -> str:
    return "null" if value is None else str(value.text) if isinstance(value, QuotedString) else str(value)
