"""Plot style: lines among many, text in a picture, and panels in a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def look(index: int) -> dict[str, Any]:
    """Colour and stroke; the first forty are all different."""
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", "-.", ":")[index // 10 % 4]}


def plain(text: str) -> str:
    """Text that matplotlib takes for no formula."""
    return text.replace("$", r"\$")


def grid(figure: Any, count: int, across: int, **shared: bool) -> list[Any]:
    """As many axes, `across` in a row; those that the last row has to spare are removed."""
    panels = list(figure.subplots(math.ceil(count / across), across, squeeze=False, **shared).flat)
    for spare in panels[count:]:
        spare.remove()
    return panels[:count]


def legend_of(panels: Iterable[Any]) -> dict[str, Any]:
    """Every label of these axes once, and what it stands for."""
    labels: dict[str, Any] = {}
    for axes in panels:
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return labels
