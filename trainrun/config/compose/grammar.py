"""One word of the shell as Hydra's override grammar reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException

from trainrun.config.compose.quoting import quoted
from trainrun.config.diagnose import Given
from trainrun.config.suggest import hydra_value, override


def given(text: str) -> Given:
    """An override as its parts; `problem` where Hydra's grammar cannot read it."""
    key, _, value = text.partition("=")
    key = key.lstrip("+~")
    try:
        text.encode()
        parsed = parse(text)
    except UnicodeEncodeError:
        return Given(text, key, problem="is not UTF-8 text")
    except RecursionError:
        return Given(text, key, problem="nests too deep")
    except ValueError:
        digits = max(map(len, re.findall(r"\d+", text)), default=0)
        return Given(text, key, problem=f"holds a number of {digits:,} digits")
    except HydraException as error:
        if "=" not in text.strip("="):
            return Given(text, problem="is not KEY=VALUE")
        if reason := re.search(r"Error while evaluating .*?: (?:\w+: )?(.*)", str(error)):
            return Given(text, key, problem=f"cannot be read: {reason[1]}")
        as_text = f"; as a text it is written {override(key, value)}" if len(value) < 200 else ""
        return Given(text, key, problem=f"cannot be read{as_text}")
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


def parse(word: str) -> Override:
    """An override. Raises HydraException, ValueError or RecursionError where it cannot be read."""
    return OverridesParser.create().parse_override(readable(word))


def readable(word: str) -> str:
    """An override as Hydra reads it: texts quoted where they must be, and `data.root=~/x` with the home
    folder written out, which no shell does behind a `=`.
    """
    key, _, value = word.partition("=")
    return f"{key}={hydra_value(os.path.expanduser(value))}" if value.startswith("~/") else quoted(word)


def as_path(word: str) -> str:
    """`data.path=a,b.csv` as one text where there is a file or folder of that name; else as it is."""
    key, _, value = word.partition("=")
    try:
        is_path = "," in value and value[0] not in "[{'\"" and Path(value).expanduser().exists()
    except (OSError, ValueError):  # longer than a name can be
        return word
    return f"{key}={hydra_value(value)}" if is_path else word


def value_of(word: str) -> Any:
    """The value of an override as a plain object; None for a sweep."""
    parsed = parse(word)
    return None if parsed.is_sweep_override() else parsed.value()


def _parsed(text: str) -> Any:
    """One value of a sweep."""
    return OverridesParser.create().parse_override(f"x={text}").value()


def _text(value: Any) -> str:
    return "null" if value is None else str(value.text) if isinstance(value, QuotedString) else str(value)
