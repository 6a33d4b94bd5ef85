"""Quote values that Hydra's override grammar cannot read as they are typed."""

from __future__ import annotations

import re
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer

from trainrun.config.suggest import hydra_value

_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool|json_str)\s*\(")
_ARGUMENT = re.compile(r"\s*(start|stop|step|end|list|reverse|sweep|value)\s*=\s*")
_TEXT = r"\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\s*"
_NUMBER = re.compile(r"[+-]?[\d_.]+")  # one of too many digits is no text
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_ESCAPED = r"\\()\[\]{}:=, \t"  # in a key of a mapping, which cannot be quoted
_SIGNS = "#&;!<>^`~"  # have no meaning in the grammar, but it refuses them


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
