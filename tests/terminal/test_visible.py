"""What moves the cursor, begins a line or turns the direction is shown; what people write stays."""

from __future__ import annotations

import pytest

from trainrun.terminal.visible import visible


@pytest.mark.parametrize("text", ["plain", "été 价格 ελ", "Ωmega/日本", "🚀 👨‍👩‍👧 é", "a\u00a0b", ""])
def test_what_people_write_stays(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\tc", r"a\rb\tc"),
        ("abc\u202egpj.exe", r"abc\u202egpj.exe"),
        ("a\u2066b\u2028c", r"a\u2066b\u2028c"),
        ("\udcff", r"\udcff"),
        ("\x00\x7f", r"\x00\x7f"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
