"""The coverage list: how every parameter is trained (`trainrun -v`)."""

from __future__ import annotations

from trainrun.assembly.build import Parts


def coverage(parts: Parts) -> str:
    """One line per parameter: name, shape, group, learning rate, decay, init."""
    rates = {group["name"]: group["base_lr"] for group in parts.state.optimizer.param_groups}
    default = str(parts.settings["init"]["_target_"]).rpartition(".")[2]
    rows = [("parameter", "shape", "group", "lr", "decay", "init")]
    for treatment in parts.param_configs:
        lr = "frozen" if treatment.frozen else f"{rates[treatment.group]:.3g}"
        decay = "" if treatment.weight_decay is None or treatment.frozen else f"{treatment.weight_decay:g}"
        init = default if treatment.init is None else str(treatment.init)
        rows.append((treatment.name, " x ".join(map(str, treatment.shape)), treatment.group, lr, decay, init))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
