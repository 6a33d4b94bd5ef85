"""Values of settings as text in tables: numbers in four digits, long texts without their middle."""

from __future__ import annotations

from typing import Any

from trainrun.run.listing import printable

_LABEL = 18  # characters


def cell_of(value: Any, width: int) -> str:
    """A swept value for people: numbers in four digits, a long text without its middle."""
    return shortened(f"{value:.4g}" if isinstance(value, float) else text_of(value), width)


def text_of(value: Any) -> str:
    """A value in a printable line, as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{printable(key)}:{text_of(item)}' for key, item in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else printable(value)


def shortened(text: str, width: int = _LABEL) -> str:
    """At most `width` characters, of a long text its beginning and its end."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (width - 1 - head) :]}"
