"""One word of the command line, parsed by Hydra's override grammar; texts quoted where it needs that."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import QuotedString, ValueType
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer

from trainrun.config.diagnose import ParsedOverride
from trainrun.config.overrides import Override
from trainrun.config.suggest import hydra_value, override

_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool|json_str)\s*\(")
_ARGUMENT = re.compile(r"\s*(start|stop|step|end|list|reverse|sweep|value)\s*=\s*")
_TEXT = r"\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\s*"
_NUMBER = re.compile(r"[+-]?[\d_.]+")  # one of too many digits is no text
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_ESCAPED = r"\\()\[\]{}:=, \t"  # in a key of a mapping, which cannot be quoted
_SIGNS = "#&;!<>^`~"  # have no meaning in the grammar, but it refuses them
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


def _take_every_letter() -> None:
    """Make Hydra's lexer take letters outside ASCII where it takes a to z, and signs without meaning."""
    transitions = [transition for state in OverrideLexer.atn.states for transition in state.transitions]
    for label in (transition.label for transition in transitions if transition.label is not None):
        if ord("a") in label and ord("Z") in label:
            label.addRange(range(0x80, 0x110000))
        elif ord("%") in label and ord("?") in label:  # what may stand in a text without quotes
            for sign in _SIGNS:
                label.addOne(ord(sign))


_take_every_letter()


@cache
def quoted(word: str) -> str:
    """Quote an override's texts where Hydra cannot read it; leave it where that does not help."""
    head, equals, value = word.partition("=")
    if not equals or _reads(word):
        return word
    try:
        elements, _ = _elements(value, "")
    except (ValueError, RecursionError):
        return word
    rewritten = f"{head}={','.join(elements)}"
    return rewritten if _reads(rewritten) else word


def _reads(word: str, is_one: bool = False) -> bool:
    """Whether Hydra reads an override; with `is_one`, as no sweep."""
    try:
        parsed = OverridesParser.create().parse_override(word)
    except (HydraException, ValueError, RecursionError):
        return False
    return not (is_one and parsed.is_sweep_override())


def _elements(text: str, end: str) -> tuple[list[str], str]:
    """(the elements up to the closing `end`, what follows it). Raises ValueError where it does not close."""
    elements: list[str] = []
    if end and text.lstrip().startswith(end):
        return elements, text.lstrip()[1:]
    while True:
        element, text = _element(text, end)
        elements.append(element)
        if text.startswith(end) and (end or not text):
            return elements, text[1:]
        if not text.startswith(","):
            raise ValueError(f"no {end}")
        text = text[1:]


def _element(text: str, end: str) -> tuple[str, str]:
    """(an element of a list, a mapping, a call or a sweep with its texts quoted, what follows it)."""
    head = ""
    if end == "}":
        head, text = _key(text)
    elif end == ")" and (name := _ARGUMENT.match(text)):
        head, text = name[0].strip(), text[name.end() :]
    value, rest = _value(text.lstrip(), end)
    return head + value, rest


def _key(text: str) -> tuple[str, str]:
    """(a mapping's key and its colon, what follows it)."""
    match = re.match(rf"{_TEXT}:", text, re.DOTALL) or re.match(r"([^:]+):", text)
    if match is None:
        raise ValueError("no colon")
    key = match[1].strip()
    key = key[1:-1] if key[0] in "\"'" else re.sub(rf"\\([{_ESCAPED}])", r"\1", key)
    return re.sub(rf"([{_ESCAPED}])", r"\\\1", key) + ":", text[match.end() :]


def _value(text: str, end: str) -> tuple[str, str]:
    """(a value with its texts quoted, what follows it). Raises ValueError where there is none."""
    stops = f",{end}"
    if (string := re.match(_TEXT, text, re.DOTALL)) and text[string.end() :][:1] in stops:
        return string[1], text[string.end() :]
    call = _FUNCTION.match(text)
    opening, start = ("(", call.end()) if call else (text[:1], 1)
    if call or opening in ("[", "{"):
        elements, rest = _elements(text[start:], _CLOSING[opening])
        if rest.lstrip()[:1] in stops:
            return text[:start] + ",".join(elements) + _CLOSING[opening], rest.lstrip()
    length = _length(text, stops)
    plain = text[:length].strip()
    if not plain:
        raise ValueError("nothing between two commas")
    is_left = _NUMBER.fullmatch(plain) or _reads(f"x={plain}", is_one=True)
    return plain if is_left else hydra_value(plain.replace("\\,", ",")), text[length:]


def _length(text: str, stops: str) -> int:
    """Where a text ends: at a stop outside of its brackets, or at the first one where these do not close."""
    for counts in (True, False):
        depth = 0
        for match in re.finditer(r"\\,|.", text, re.DOTALL):
            if depth == 0 and match[0] in stops:
                return match.start()
            if counts:
                depth = max(0, depth + (match[0] in "([{") - (match[0] in ")]}"))
        if depth == 0:
            break
    return len(text)
