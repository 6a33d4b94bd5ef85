"""The coverage list: how every parameter is trained (`trainrun -v`)."""

from __future__ import annotations

from trainrun.assembly.build import Parts


def coverage(parts: Parts) -> str:
    """One line per parameter: name, shape, group, learning rate, decay, init."""
    rates = {group["name"]: group["base_lr"] for group in parts.state.optimizer.param_groups}
    default = str(parts.settings["init"]["_target_"]).rpartition(".")[2]
    rows = [("parameter", "shape", "group", "lr", "decay", "init")]
    for one in parts.treatments:
        lr = "frozen" if one.frozen else f"{rates[one.group]:.3g}"
        decay = "" if one.weight_decay is None or one.frozen else f"{one.weight_decay:g}"
        init = default if one.init is None else str(one.init)
        rows.append((one.name, " x ".join(map(str, one.shape)), one.group, lr, decay, init))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
