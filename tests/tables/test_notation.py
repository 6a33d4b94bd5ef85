"""Numbers as people write them: one notation for a column, or a refusal that shows both readings."""

from __future__ import annotations

import math

import pytest

from trainrun.tables.notation import PLAIN, Notation, Style, UnclearNotationError, find_notation

AUTO = Style("auto", "auto")
READ: dict[str, tuple[list[str], list[float]]] = {
    "plain": (["1", "-2.5", "1e-3", ".5", "5.", "+3"], [1, -2.5, 1e-3, 0.5, 5, 3]),
    "decimal comma": (["13,1", "-2,25", "7", ",5", "0,123"], [13.1, -2.25, 7, 0.5, 0.123]),
    "decimal comma and exponent": (["1,5e3", "2,25E-2"], [1500, 0.0225]),
    "four digits before a comma": (["1234,567", "0"], [1234.567, 0]),
    "three digits, but not all": (["1,234", "12,5"], [1.234, 12.5]),
    "German": (["1.234,5", "1.234.567", "12"], [1234.5, 1234567, 12]),
    "German, one mark each": (["1.234", "1,5"], [1234, 1.5]),
    "English": (["1,234.5", "1,234,567", "12", "3.25"], [1234.5, 1234567, 12, 3.25]),
    "English, whole": (["1,234", "1,234,567"], [1234, 1234567]),
    "Indian": (["12,34,567", "1,23,456.5", "99"], [1234567, 123456.5, 99]),
    "spaces": (["1 234", "12 345 678", "5"], [1234, 12345678, 5]),
    "French": (["1\u202f234,5", "1\u00a0234,25", "5"], [1234.5, 1234.25, 5]),
    "Swiss": (["1'234.50", "12\u2019345", "5"], [1234.5, 12345, 5]),
    "dollars": (["$1,234.50", "-$5", "$-6", "7"], [1234.5, -5, -6, 7]),
    "euros behind": (["1.234,50 €", "5 €", "\u22126,5\u00a0€"], [1234.5, 5, -6.5]),
    "codes": (["EUR 12.5", "13 EUR"], [12.5, 13]),
    "other signs": (["R$ 5,5", "R$ 6,25"], [5.5, 6.25]),
    "percent": (["12,5 %", "7%"], [12.5, 7]),
    "accounting": (["(1,234.50)", "5.25", "$(3.0)", "($4.5)"], [-1234.5, 5.25, -3, -4.5]),
    "a minus of typographers": (["\u22125", "\u20136.5", "7"], [-5, -6.5, 7]),
    "a minus behind": (["1.234,50-", "5,0-", "7"], [-1234.5, -5, 7]),
    "points between thousands alone": (["1.234.567", "12"], [1234567, 12]),
    "what Python takes": (["1_000", "2.5"], [1000, 2.5]),
}


@pytest.mark.parametrize("name", READ)
def test_numbers_are_read_as_they_are_meant(name: str) -> None:
    texts, expected = READ[name]
    reading = find_notation(texts, AUTO)
    assert reading is not None
    assert [reading.values[text] for text in texts] == expected
    assert [reading.notation.number(text) for text in texts] == expected  # of another file, by what is stored


TEXTS = {
    "versions": ["1.2.3", "1.2.4", "2.0.1"],
    "several answers": ["1,2,3", "1,3", "2,3,4", "1"],
    "addresses": ["10.0.0.1", "192.168.100.200"],
    "grades": ["1-", "2+", "3"],
    "clock": ["12:30", "13:45"],
    "pairs": ["48.1,11.5", "47.2,10.5"],
    "units": ["12 m", "13 m"],
    "words": ["north", "south"],
    "signs": ["+", "-"],
    "lone marks": [",", ".", "$", "%", "()"],
    "both signs": ["(-5)", "-(5)"],
    "open": ["(5", "6)"],
    "wrong groups": ["1 23", "12 3456", "1'2"],
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_number_stays_text(name: str) -> None:
    assert find_notation(TEXTS[name], AUTO) is None


UNCLEAR = {
    "two readings": (["1,234", "2,345"], "two ways: '1,234' is 1.234 .data.decimal=comma. or 1234 .*point"),
    "two readings beside whole numbers": (["5", "120", "1,234"], "1.234 .* or 1234"),
    "two readings with a currency": (["$1,234", "$2,345"], "1.234 .* or 1234"),
    "two readings of a point": (
        ["1.234 €", "2.345 €"],
        "two ways: '1.234 €' is 1.234 .*point. or 1234 .*comma",
    ),
    "two marks": (["12,5", "13.5"], "mixes notations, such as '1[23].5' and '1[23].5'"),
    "two currencies": (["$5", "€6"], r"mixes notations, such as '\$5' and '€6'"),
    "percent and none": (["5%", "0.05"], "mixes notations, such as '5%' and '0.05'"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_has_no_one_reading_is_refused_with_both(name: str) -> None:
    texts, message = UNCLEAR[name]
    with pytest.raises(UnclearNotationError, match=message.replace(",", "[.,]")):
        find_notation(texts, AUTO)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (Style("comma", "auto"), 1.234),
        (Style("auto", "none"), 1.234),
        (Style("auto", "point"), 1.234),
        (Style("point", "auto"), 1234),
        (Style("auto", "comma"), 1234),
    ],
    ids=str,
)
def test_a_setting_decides(style: Style, expected: float) -> None:
    reading = find_notation(["1,234", "2,345"], style)
    assert reading is not None and reading.values["1,234"] == expected


def test_what_does_not_fit_a_setting_is_named_with_it() -> None:
    with pytest.raises(
        UnclearNotationError, match=r"holds '12\.5', which is not a number with data\.decimal=comma"
    ):
        find_notation(["3", "12.5"], Style("comma", "auto"))


def test_plain_looks_for_no_other_notation() -> None:
    style = Style("plain", "auto")
    assert find_notation(["$5", "6%", "1,5"], style) is None
    reading = find_notation(["5", "1.234"], style)
    assert reading is not None and reading.notation == PLAIN and reading.values["1.234"] == 1.234


def test_a_few_texts_among_numbers_are_mistakes() -> None:
    for texts in (map(str, range(20)), (f"{n},5" for n in range(20)), (f"{n} €" for n in range(20))):
        with pytest.raises(ValueError) as caught:
            find_notation([*texts, "12 m"], AUTO)
        assert caught.value.args == ("12 m",)


def test_one_value_in_another_notation_is_a_mistake() -> None:
    with pytest.raises(ValueError) as caught:
        find_notation([*(f"{n},5" for n in range(20)), "20.5"], AUTO)
    assert caught.value.args == ("20.5",)


def test_a_dash_among_many_numbers_is_a_gap() -> None:
    reading = find_notation([*(f"{n},5" for n in range(20)), "-", "#NV"], AUTO)
    assert reading is not None and reading.gaps == {"-", "#NV"}
    reading = find_notation([*map(str, range(20)), "-", "NA", "n.a.", "null"], AUTO)
    assert reading is not None and len(reading.gaps) == 4
    assert find_notation(["1", "2", "-"], AUTO) is None  # of few values it may be one of them


def test_another_file_is_read_in_the_stored_notation_alone() -> None:
    german = Notation("comma", "point", "€", "")
    assert german.number("1.234") == 1234
    assert german.number("5,5 €") == 5.5
    for other in ("1.5", "1,234.5", "$5", "5%", "12 m", ""):
        with pytest.raises(ValueError):
            german.number(other)
    assert PLAIN.number("1.234") == 1.234
    assert math.isclose(PLAIN.number("(5)"), -5)
    with pytest.raises(ValueError):
        PLAIN.number("1,5")
