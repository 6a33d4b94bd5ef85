"""Parse numbers as people write them: decimal comma, thousands, currency and percent signs, (5) for -5."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

MARKS = {"comma": ",", "point": ".", "space": " ", "apostrophe": "'", "none": ""}
# Words that stand for no value where everything else is a number.
GAPS = frozenset(
    ("-", "--", "\N{EN DASH}", "\N{EM DASH}", ".", "na", "n.a.", "n/a", "nan", "nat", "none", "null", "#n/a")
    + ("k.a.", "#nv", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!")
)
_MOST_ODD = 10  # a column of numbers has at most one other text in so many: a mistake
_FEW = 10  # different numbers; among fewer a dash is as likely a value as a gap
_SPACES = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{FIGURE SPACE}\N{THIN SPACE}\t"
_SAME = str.maketrans(
    dict.fromkeys(_SPACES, " ")
    | dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{FULLWIDTH HYPHEN-MINUS}", "-")
    | dict.fromkeys("\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}", "'")
)
_CODES = (
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NOK|NZD|PHP|PLN"
    "|RMB|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_SIGNS = "$¢£¤¥؋฿៛\u20a0-\u20cf﷼\uff04\uffe0\uffe1\uffe5\uffe6"
_CURRENCY = rf"(?:[A-Z]{{0,3}}[{_SIGNS}]|{_CODES}|kr\.?|zł|Kč|Ft|S?Fr\.?|Rs\.?)"
_GROUP = "[1-9][0-9]{0,2}"
_INDIAN = "[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
_CORE = "|".join(
    (
        r"[0-9]+(?:[.,][0-9]*)?",
        r"[.,][0-9]+",
        rf"{_GROUP}(?:\.[0-9]{{3}})+(?:,[0-9]+)?",
        rf"(?:{_GROUP}(?:,[0-9]{{3}})+|{_INDIAN})(?:\.[0-9]+)?",
        rf"{_GROUP}(?:[ ][0-9]{{3}})+(?:[.,][0-9]+)?",
        rf"{_GROUP}(?:'[0-9]{{3}})+(?:[.,][0-9]+)?",
    )
)
_BARE = re.compile(rf"([-+]?)({_CORE})((?:[eE][-+]?[0-9]+)?)")
_NUMBER = re.compile(
    rf"(\()? ?([-+])? ?({_CURRENCY})? ?(\()?([-+])? ?"
    rf"({_CORE})([eE][-+]?[0-9]+)? ?([%‰])?(\))? ?({_CURRENCY})? ?(\))?(-)?"
)
_WITH_UNIT = re.compile(rf"[-+]?(?:{_CORE}) ?([^\W\d_][^\d,;:()]*)")


class UnclearNotationError(ValueError):
    """A column of numbers that can be read in several ways or in none; `text` is a value that shows it."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


@dataclass(frozen=True)
class Style:
    """The notations to look for: a name in MARKS, or auto for any; decimal `plain` is Python's alone."""

    decimal: str
    thousands: str

    @property
    def allows_plain(self) -> bool:
        """Whether 1.5 is one and a half."""
        return self.decimal in ("auto", "point", "plain") and self.thousands != "point"

    def pairs(self) -> list[tuple[str, str]]:
        """(decimal, thousands) of every notation that is looked for, the plainest first."""
        return [
            (decimal, thousands)
            for thousands in ("none", "comma", "point", "space", "apostrophe")
            for decimal in ("point", "comma")
            if decimal not in (thousands, self.thousands)
            and self.decimal in ("auto", decimal)
            and (thousands == "none" or self.thousands in ("auto", thousands))
        ]

    def __str__(self) -> str:
        settings = {"data.decimal": self.decimal, "data.thousands": self.thousands}
        return " ".join(f"{key}={value}" for key, value in settings.items() if value != "auto")


class _Part(NamedTuple):
    core: str  # digits and what stands between them
    exponent: str
    is_negative: bool
    currency: str
    percent: str


@dataclass(frozen=True)
class Notation:
    """How all numbers of a column are written."""

    decimal: str  # point or comma
    thousands: str  # a name in MARKS
    currency: str  # a sign that values may bear; none: ""
    percent: str  # a sign that all values bear; none: ""

    def number(self, text: str) -> float:
        """The value of a text. Raises ValueError for one that is not written so."""
        if self == _COMMA and "." not in text:
            with suppress(ValueError):
                return float(text.replace(",", "."))
        part = _split(text)
        is_fit = part and _core(self.decimal, self.thousands).fullmatch(part.core)
        if not part or not is_fit or part.percent != self.percent or part.currency not in ("", self.currency):
            raise ValueError(text)
        return self.value_of(part)

    def value_of(self, part: _Part) -> float:
        """The value of a number that is written so."""
        value = _value(part.core + part.exponent, self.decimal, self.thousands)
        return -value if part.is_negative else value

    def __str__(self) -> str:
        words = ["decimal comma"] if self.decimal == "comma" else []
        if self.thousands != "none":
            words.append(f"{self.thousands} between thousands")
        if self.currency:
            words.append(f"currency {self.currency}")
        if self.percent:
            words.append(f"{self.percent} (12{self.percent} is 12)")
        return ", ".join(words) or "decimal point"


PLAIN = Notation("point", "none", "", "")
_COMMA = Notation("comma", "none", "", "")  # the most frequent of the others: read without taking apart


@dataclass(frozen=True)
class NumberReading:
    """The one notation of a column, which of its texts stand for no value, and the others' values."""

    notation: Notation
    gaps: frozenset[str]
    values: Mapping[str, float]


def find_notation(texts: Collection[str], style: Style) -> NumberReading | None:
    """Find how different texts are read as numbers; None where they are none.

    Raises Unclear where two notations fit or none, ValueError(odd texts) where nearly all are numbers.
    """
    if style.decimal in ("auto", "comma") and style.thousands != "comma" and (read := _as_commas(texts)):
        return read
    parts, gaps, odd = {}, [], []
    is_plain = style.decimal == "plain"
    for text in texts:
        if (part := _of_python(text) if is_plain else _split(text)) is not None:
            parts[text] = part
            continue
        if text.lower() in GAPS and not is_plain:
            gaps.append(text)
            continue
        odd.append(text)
        if _MOST_ODD * len(odd) > len(texts):
            return None
    if len(parts) <= _FEW:  # among few a dash may be one of the values
        odd, gaps = odd + gaps, []
    if not parts or _MOST_ODD * len(odd) > len(texts):
        return None
    if odd:
        raise ValueError(*odd)
    currency, percent = _sign(parts, "currency"), _sign(parts, "percent")
    cores = {text: part.core for text, part in parts.items()}
    decimal, thousands = ("point", "none") if is_plain else _marks(cores, style)
    notation = Notation(decimal, thousands, currency, percent)
    values = {text: notation.value_of(part) for text, part in parts.items()}
    return NumberReading(notation, frozenset(gaps), values)


def _as_commas(texts: Collection[str]) -> NumberReading | None:
    """Texts of which each is a number with a decimal comma or none, and not all may be 1,234 for 1234."""
    try:
        values = {text: _COMMA.number(text) for text in texts}
    except ValueError:
        return None
    with_comma = [text for text in texts if "," in text]
    is_clear = any(not _core("point", "comma").fullmatch(text.lstrip("+-")) for text in with_comma)
    return NumberReading(_COMMA, frozenset(), values) if is_clear else None


def unit_of(texts: Collection[str]) -> str | None:
    """The word that stands behind the number in every text."""
    units = set()
    for match in map(_WITH_UNIT.fullmatch, texts):
        units.add(match[1] if match else "")
        if len(units) > 1 or not match:
            return None
    return units.pop() if units else None


def is_grouped(text: str) -> bool:
    """Whether a decimal point may as well be one between thousands: 1.234, not 0.123 or 1.5."""
    return bool(re.fullmatch(rf"[-+]?{_GROUP}\.[0-9]{{3}}", text))


def _marks(cores: Mapping[str, str], style: Style) -> tuple[str, str]:
    """The decimal mark and that between thousands which fit all texts."""
    used = set().union(*map(set, cores.values()))
    every = [
        (decimal, thousands)
        for decimal, thousands in style.pairs()
        if (decimal == "point" or "," in used or thousands == "point" or style.decimal == "comma")
        and (thousands == "none" or MARKS[thousands] in used)
    ]
    fits = [pair for pair in every if all(map(_core(*pair).fullmatch, cores.values()))]
    if not fits:
        _refuse_mixed(cores, every, style)
    first, *others = fits
    for other in others:
        for text, core in cores.items():
            if _value(core, *first) != _value(core, *other):
                pairs = (first, other)
                either = " or ".join(f"{_value(core, *pair):.15g} (data.decimal={pair[0]})" for pair in pairs)
                raise UnclearNotationError(f"can be read in two ways: {text!r} is {either}; choose one", text)
    return first


def _refuse_mixed(cores: Mapping[str, str], every: list[tuple[str, str]], style: Style) -> None:
    """Raise for texts that no notation fits: ValueError with the odd ones of nearly all, else Unclear."""
    misfits = [[text for text, core in cores.items() if not _core(*pair).fullmatch(core)] for pair in every]
    fewest = min(misfits, key=len, default=list(cores))
    if (str(style) and not style.allows_plain) or len(fewest) == len(cores):
        why = f"holds {fewest[0]!r}, which is not a number with {style}; change it"
        raise UnclearNotationError(why, fewest[0])
    if _MOST_ODD * len(fewest) <= len(cores):
        raise ValueError(*fewest)
    rest = [text for text in cores if text not in set(fewest)]
    other = next((text for text in rest if not text.isdigit()), rest[0])
    raise UnclearNotationError(f"mixes notations, such as {other!r} and {fewest[0]!r}; use one", fewest[0])


def _sign(parts: Mapping[str, _Part], kind: str) -> str:
    """The currency or percent sign of all texts; raises Unclear where it is not one."""
    signs: dict[str, str] = {}
    for text, part in parts.items():
        signs.setdefault(getattr(part, kind), text)
    if kind == "currency" and len(signs) > 1:
        signs.pop("", None)  # some bear none: written in the first row alone, or left out at 0
    if len(signs) > 1:
        first, other = list(signs.values())[:2]
        raise UnclearNotationError(f"mixes notations, such as {first!r} and {other!r}; use one", other)
    return next(iter(signs))


def _split(text: str) -> _Part | None:
    """The parts of a text that is a number in some notation."""
    text = text if text.isascii() else text.translate(_SAME)
    if bare := _BARE.fullmatch(text):
        return _Part(bare[2], bare[3], bare[1] == "-", "", "")
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _of_python(text)
    open_, sign, before, inner, inner_sign, core, exponent, *end = match.groups()
    percent, close, after, outer, behind = end
    is_wrapped = bool(open_ or inner)
    wrong = (open_ and inner) or (sign and inner_sign) or (before and after) or (close and outer)
    wrong = wrong or is_wrapped != bool(close or outer) or (is_wrapped and (sign or inner_sign))
    if wrong or (behind and (is_wrapped or sign or inner_sign or core.isdigit())):  # 5,00- but no grade, 1-
        return None
    is_negative = is_wrapped or "-" in (sign, inner_sign, behind)
    return _Part(core, exponent or "", is_negative, before or after or "", percent or "")


def _of_python(text: str) -> _Part | None:
    """What float() takes beside: 1_000, and digits of other scripts."""
    try:
        value = repr(float(text))
    except ValueError:
        return None
    core, mark, exponent = value.lstrip("-").partition("e")
    return _Part(core, mark + exponent, value.startswith("-"), "", "") if core[0].isdigit() else None


@functools.cache
def _core(decimal: str, thousands: str) -> re.Pattern[str]:
    """What the digits of a number and the marks between them look like."""
    point, mark = re.escape(MARKS[decimal]), re.escape(MARKS[thousands])
    whole = "[0-9]+"
    if mark:
        whole += rf"|{_GROUP}(?:{mark}[0-9]{{3}})+" + (f"|{_INDIAN}" if mark == "," else "")
    return re.compile(rf"(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+")


def _value(text: str, decimal: str, thousands: str) -> float:
    return float(text.replace(MARKS[thousands], "").replace(MARKS[decimal], "."))


def grouped(notations: Mapping[str, Notation]) -> dict[str, list[str]]:
    """The columns of each notation that is not plain, by its words."""
    groups: dict[str, list[str]] = {}
    for name, notation in notations.items():
        if notation != PLAIN:
            groups.setdefault(str(notation), []).append(name)
    return groups
