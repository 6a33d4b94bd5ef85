"""Format numbers and texts for people: four digits, no control codes."""

from __future__ import annotations

from collections.abc import Mapping


def printable(text: str) -> str:
    """`text` with its control codes, which a terminal would obey, as question marks; lines stay."""
    return "".join(c if c == "\n" or c.isprintable() else " " if c == "\t" else "?" for c in text)


def metrics_text(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name} {number(value)}" for name, value in metrics.items())


def number(value: float) -> str:
    """Four significant digits where they matter: 0.9926, 12.35, 3.1e-05."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
