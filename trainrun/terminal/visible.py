"""Escape control codes, line breaks and marks of direction in texts for the terminal."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats, lone surrogates, separators of lines
_JOINERS = "\u200c\u200d"  # of letters, and of emoji


def visible(text: str) -> str:
    """One line of a text that may come from anybody: nothing in it moves the cursor or begins a line."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(char: str) -> str:
    is_hidden = unicodedata.category(char) in _HIDDEN and char not in _JOINERS
    return char.encode("unicode_escape").decode() if is_hidden else char
