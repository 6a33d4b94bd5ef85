"""What a run takes: memory by what holds it, and disk for its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from trainrun.assembly.factory import Settings, option_of
from trainrun.checkpoint.state import TrainState
from trainrun.optimizer.memory import state_bytes

_SHOWN = 4  # names in a line


def memory(settings: Settings, state: TrainState) -> str:
    """`1.6 MB: 0.4 of weights, 0.4 of gradients, 0.8 of adamw`; activations are known only by running."""
    name = option_of(settings["optimizer"])
    optimizer_bytes = state_bytes(state.optimizer)
    trained = sum(p.nbytes for p in state.model.parameters() if p.requires_grad)
    parts = {"weights": _size(state.model), "gradients": trained}
    parts |= {name: optimizer_bytes} if optimizer_bytes else {}
    parts |= {state.weight_average.name: _averaged(state)} if state.weight_average is not None else {}
    shares = ", ".join(f"{megabytes(size)} of {what}" for what, size in parts.items())
    more = f" and what {name} keeps" if optimizer_bytes is None else ""
    return f"{megabytes(sum(parts.values()))} MB: {shares}{more}; activations and the batch come on top"


def checkpoints(settings: Settings, state: TrainState) -> str:
    """`1.2 MB each, every 1ep; the last 2 and the best are kept`."""
    node = settings["checkpoint"]
    size = _size(state.model) + (state_bytes(state.optimizer) or 0) + _averaged(state)
    retained = [f"the last {node['keep_last']}" if node["keep_last"] > 1 else "the last"]
    if best := int(node["keep_best"]):
        retained.append("the best" if best == 1 else f"the best {best}")
    retained += [f"every {node['keep_every']}"] if node["keep_every"] else []
    are = "are" if len(retained) > 1 or node["keep_last"] > 1 else "is"
    return f"{megabytes(size)} MB each, every {node['every']}; {listed(retained)} {are} kept"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def first_of(names: Sequence[str]) -> str:
    """`a, b, c, d and 3 more`."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def megabytes(size: int) -> str:
    """In units of 10^6 bytes, to two digits at least: 0.41, 12, 1,234."""
    amount = size / 1e6
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def _size(model: nn.Module) -> int:
    return sum(int(tensor.nbytes) for tensor in (*model.parameters(), *model.buffers()))


def _averaged(state: TrainState) -> int:
    """Every averager keeps one copy of the model, from its first average on."""
    return _size(state.model) if state.weight_average is not None else 0
