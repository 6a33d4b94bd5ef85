"""The coverage list: how every parameter is trained (`trainrun -v`)."""

from __future__ import annotations

from trainrun.assembly.build import Parts
from trainrun.assembly.factory import option_of


def coverage(parts: Parts) -> str:
    """One line per parameter: name, shape, group, learning rate, decay, init."""
    rates = {p: group["base_lr"] for group in parts.state.optimizer.param_groups for p in group["params"]}
    weights = dict(parts.state.model.named_parameters())
    default = option_of(parts.settings["init"])
    rows = [("parameter", "shape", "group", "lr", "decay", "init")]
    for config in parts.param_configs:
        lr = "frozen" if config.frozen else f"{rates.get(weights[config.name], 0):.3g}"
        decay = "" if config.weight_decay is None or config.frozen else f"{config.weight_decay:g}"
        init = default if config.init is None else str(config.init)
        rows.append((config.name, " x ".join(map(str, config.shape)), config.group, lr, decay, init))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
