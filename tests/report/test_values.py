"""Values as text: how they are typed, and what a long one loses."""

from __future__ import annotations

from trainrun.report.values import cell_of, shortened, text_of


def test_values_are_shown_as_they_are_typed() -> None:
    typed = [None, True, [0.9, 0.99], {"a": [1]}, "adam", 0.1, 3, "a\x1bb"]
    assert [text_of(value) for value in typed] == [
        *("null", "true", "[0.9,0.99]", "{a:[1]}", "adam", "0.1", "3", "a\\x1bb")
    ]
    assert cell_of(0.00247287, 9) == "0.002473"
    assert cell_of(123456, 9) == "123456"


def test_a_long_text_loses_its_middle() -> None:
    assert shortened("[mixup,cutmix,label_smoothing]", 15) == "[mixup,…othing]"
    assert shortened("fifteen letters", 15) == "fifteen letters"
