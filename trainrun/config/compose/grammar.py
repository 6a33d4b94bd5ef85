"""One word of the command line, parsed by Hydra's override grammar."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import QuotedString, ValueType
from hydra.errors import HydraException

from trainrun.config.compose.quoting import quoted
from trainrun.config.diagnose import ParsedOverride
from trainrun.config.overrides import Override
from trainrun.config.suggest import hydra_value, override

_MOST_QUOTED = 200  # characters of a value that a message repeats; more would bury what is wrong


def parse_override(text: str) -> ParsedOverride:
    """Parse a word; the result has a `problem` where Hydra's grammar cannot read it."""
    parts: dict[str, Any] = {**vars(Override.parse(text)), "text": text}
    try:
        text.encode()
        parsed = parse(text)
    except UnicodeEncodeError:
        return ParsedOverride(**parts, problem="is not UTF-8 text")
    except RecursionError:
        return ParsedOverride(**parts, problem="nests too deep")
    except ValueError:
        digits = max(map(len, re.findall(r"\d+", text)), default=0)
        return ParsedOverride(**parts, problem=f"holds a number of {digits:,} digits")
    except HydraException as error:
        if "=" not in text.strip("="):
            return ParsedOverride("", text=text, problem="is not KEY=VALUE")
        if reason := re.search(r"Error while evaluating .*?: (?:\w+: )?(.*)", str(error)):
            return ParsedOverride(**parts, problem=f"cannot be read: {reason[1]}")
        key, value = parts["key"], parts["value"] or ""
        as_text = f"; as a text it is written {override(key, value)}" if len(value) < _MOST_QUOTED else ""
        return ParsedOverride(**parts, problem=f"cannot be read{as_text}")
    if not parsed.key_or_group:
        return ParsedOverride("", text=text, problem="is not KEY=VALUE")
    parts["key"], is_sweep = parsed.key_or_group, parsed.is_sweep_override()
    if is_sweep and parsed.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
        return ParsedOverride(**parts, values=[], is_sweep=True)
    reader = OverridesParser.create()
    swept = parsed.sweep_string_iterator() if is_sweep else ()
    items = [reader.parse_override(f"x={item}").value() for item in swept] if is_sweep else [parsed.value()]
    texts = [_text(value) for item in items for value in (item if isinstance(item, list) else [item])]
    values, is_list = None if items == [None] else texts, any(isinstance(item, list) for item in items)
    return ParsedOverride(**parts, values=values, is_list=is_list, is_sweep=is_sweep)


def parse(word: str) -> HydraOverride:
    """An override. Raises HydraException, ValueError or RecursionError where it cannot be read."""
    return OverridesParser.create().parse_override(readable(word))


def readable(word: str) -> str:
    """Rewrite an override so that Hydra reads it: texts are quoted where they must be."""
    head, _, value = word.partition("=")
    if value.startswith("~/"):  # the home folder, which no shell writes out behind a `=`
        return f"{head}={hydra_value(os.path.expanduser(value))}"
    return quoted(word)


def as_path(word: str) -> str:
    """Quote `data.path=a,b.csv` as one text where there is a file or folder of that name."""
    head, _, value = word.partition("=")
    try:
        is_path = "," in value and value[0] not in "[{'\"" and Path(value).expanduser().exists()
    except (OSError, ValueError):  # longer than a name can be
        return word
    return f"{head}={hydra_value(value)}" if is_path else word


def value_of(word: str) -> Any:
    """The value of an override as a plain object; None for a sweep."""
    parsed = parse(word)
    return None if parsed.is_sweep_override() else parsed.value()


def _text(value: Any) -> str:
    return "null" if value is None else str(value.text) if isinstance(value, QuotedString) else str(value)
