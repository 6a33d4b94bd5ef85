"""Plot style: lines among many, and text in a picture."""

from __future__ import annotations

from typing import Any


def look(index: int) -> dict[str, Any]:
    """Colour and stroke; the first forty are all different."""
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", "-.", ":")[index // 10 % 4]}


def plain(text: str) -> str:
    """Text that matplotlib takes for no formula."""
    return text.replace("$", r"\$")
