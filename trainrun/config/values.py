"""Check whether a value from YAML fits a type annotation, from the annotation's source alone."""

from __future__ import annotations

import ast
import math
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from trainrun.config.suggest import did_you_mean, hydra_value, nearest, shortened, shown
from trainrun.vocabulary import duration, ranges
from trainrun.vocabulary.duration import parse

_MOST_SHOWN = 200  # characters of a message that repeats a value: two lines or three of a terminal


@dataclass(frozen=True)
class Kind:
    """A kind of value: what it is called, and whether a value is one."""

    words: str
    fits: Callable[[Any], bool]
    holds_steps: bool = False  # durations
    choices: tuple[str, ...] = ()  # the words that it is chosen from
    by_clock: bool = False  # durations in seconds, minutes and hours too


UNKNOWN = Kind("anything", lambda value: True)  # only an import could tell


def complaint(value: Any, annotation: ast.expr | None) -> str | None:
    """What is wrong with `value`: `must be ..., got ...`; None where nothing is, or source cannot tell."""
    kind = kind_of(annotation)
    if kind.fits(value):
        return None
    if kind.holds_steps and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            if parse(value).is_clock and not kind.by_clock:
                return f"must be {kind.words}, got {value}; clock units are not possible here"
        except ValueError as error:
            return shortened(str(error), _MOST_SHOWN)
    hint = did_you_mean(value, kind.choices) if isinstance(value, str) else ""
    if isinstance(value, int) and not isinstance(value, bool) and not _is_number(value, whole=True):
        hint = "; numbers end at 2**63"
    hint = "; in quotes it is text" if _is_text_of(value, kind) else hint
    return f"must be {kind.words}, got {shown(value)}{hint}"


def nearest_value(value: Any, annotation: ast.expr | None, unit: str = "") -> str | None:
    """The value that a misfit was meant to be, as an override; `unit` is that of a bare number's duration."""
    kind = kind_of(annotation)
    return next((hydra_value(near) for near in _near(value, kind, unit) if kind.fits(near)), None)


def _is_text_of(value: Any, kind: Kind) -> bool:
    """Whether a number, or a truth value where no word stands for one, would fit if written as text."""
    is_switch = isinstance(value, bool) and "auto" in kind.choices
    return isinstance(value, (bool, int, float)) and kind.fits("any text") and not is_switch


_WORDS = {"none": None, "yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


def _near(value: Any, kind: Kind, unit: str) -> Iterator[Any]:
    """What a value may have been meant to be, the likeliest first."""
    if kind.holds_steps:
        yield from filter(None, [duration.respelled(value), f"{value}{unit}"])
    elif kind.by_clock:
        yield from filter(None, [duration.respelled(value), f"{value}min"])
    if isinstance(value, bool) and "auto" in kind.choices:
        yield "auto" if value else None
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    if isinstance(value, int) and value in (0, 1):
        yield bool(value)
    if isinstance(value, str):
        yield nearest(value, kind.choices) or value
        if value.lower() in _WORDS:
            yield _WORDS[value.lower()]
        for number in (int, float, partial(int, base=0)):
            with suppress(ValueError):
                yield number(value)
    if _is_text_of(value, kind):
        yield str(value)
    yield [value]


def kind_of(annotation: ast.expr | None) -> Kind:
    """The kind that an annotation's source means; names of `vocabulary.ranges` and builtins are known."""
    if annotation is None:
        return UNKNOWN
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            return kind_of(ast.parse(annotation.value, mode="eval").body)
        return _SIMPLE["None"] if annotation.value is None else UNKNOWN
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _union([kind_of(annotation.left), kind_of(annotation.right)])
    if isinstance(annotation, ast.Subscript):
        return _subscript(ast.unparse(annotation.value).rpartition(".")[2], annotation.slice)
    name = ast.unparse(annotation).rpartition(".")[2]
    if name in _SIMPLE:
        return _SIMPLE[name]
    return _from_typing(vars(ranges)[name]) if name in vars(ranges) else UNKNOWN


def _subscript(name: str, inner: ast.expr) -> Kind:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Optional":
        return _union([kind_of(inner), _SIMPLE["None"]])
    if name == "Union":
        return _union(list(map(kind_of, parts)))
    if name == "Literal":
        return _choice([part.value for part in parts if isinstance(part, ast.Constant)])
    if name.lower() == "tuple" and not (len(parts) == 2 and ast.unparse(parts[1]) == "..."):
        return _fixed(list(map(kind_of, parts)))
    if name.lower() in ("list", "tuple", "sequence", "iterable", "collection"):
        return _many(kind_of(parts[0]))
    return _SIMPLE["dict"] if name.lower() in ("dict", "mapping") else UNKNOWN


def _from_typing(form: Any) -> Kind:
    """The kind that a live annotation of `trainrun.vocabulary.ranges` means."""
    arguments = typing.get_args(form)
    if typing.get_origin(form) is typing.Literal:
        return _choice(list(arguments))
    if typing.get_origin(form) is tuple:
        return _fixed([_from_typing(part) for part in arguments])
    if typing.get_origin(form) is list:
        return _many(_from_typing(arguments[0]))
    if typing.get_origin(form) in (typing.Union, types.UnionType):
        return _union([_from_typing(part) for part in arguments])
    if not arguments:
        return _SIMPLE.get("None" if form is type(None) else form.__name__, UNKNOWN)
    base, note = arguments
    if isinstance(note, ranges.InSteps):
        return _duration(note)
    if isinstance(note, ranges.ByClock):
        return Kind("a time such as 30s, 90min or 12h", _is_time, by_clock=True)
    words = f"{'a whole number' if base is int else 'a number'} {note}"
    return Kind(words, lambda value: _is_number(value, base is int) and value in note)


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if isinstance(value, int):  # torch's integers have 64 bits, and a float ends near 1.8e308
        return abs(value) < 2**63 if whole else abs(value) < 10**300
    return not whole and math.isfinite(value)


def _is_time(value: Any) -> bool:
    try:
        duration = parse(value)
    except ValueError:
        return False
    return duration.is_clock and duration.value > 0


def _duration(note: ranges.InSteps) -> Kind:
    def fits(value: Any) -> bool:
        try:
            duration = parse(value)
        except ValueError:
            return False
        return (note.by_clock or not duration.is_clock) and (duration.value > 0 or not note.least)

    units = "ep, step, sample, s, min or h" if note.by_clock else "ep, step, sample or %"
    words = f"a duration {'above 0 ' if note.least else ''}in {units}"
    return Kind(words, fits, holds_steps=True, by_clock=note.by_clock)


def _choice(values: list[Any]) -> Kind:
    return Kind(
        " or ".join(map(str, values)),
        lambda value: any(value == v and type(value) is type(v) for v in values),
        choices=tuple(v for v in values if isinstance(v, str)),
    )


def _union(kinds: list[Kind]) -> Kind:
    words = [kind.words for kind in kinds if kind.words]
    return Kind(
        " or ".join(words),
        lambda value: any(kind.fits(value) for kind in kinds),
        any(kind.holds_steps for kind in kinds),
        sum((kind.choices for kind in kinds), ()),
        any(kind.by_clock for kind in kinds),
    )


def _many(item: Kind) -> Kind:
    words = "a list" if item is UNKNOWN else f"a list, each {item.words}"
    return Kind(words, lambda value: isinstance(value, list) and all(map(item.fits, value)), item.holds_steps)


def _fixed(items: list[Kind]) -> Kind:
    def fits(value: Any) -> bool:
        is_full = isinstance(value, list) and len(value) == len(items)
        return is_full and all(item.fits(member) for item, member in zip(items, value, strict=True))

    return Kind(f"a list of {len(items)}, each {items[0].words}" if items else "a list", fits)


_LIST = Kind("a list", lambda value: isinstance(value, list))
_SIMPLE = {
    "float": Kind("a number", lambda value: _is_number(value, whole=False)),
    "int": Kind("a whole number", lambda value: _is_number(value, whole=True)),
    "bool": Kind("true or false", lambda value: isinstance(value, bool)),
    "str": Kind("text", lambda value: isinstance(value, str)),
    "None": Kind("null", lambda value: value is None),
    "dict": Kind("a mapping", lambda value: isinstance(value, dict)),
    "list": _LIST,
    "tuple": _LIST,
    "Tensor": Kind("", lambda value: False),  # nothing that YAML can write
}
