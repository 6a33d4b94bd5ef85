"""What a run takes: memory by what holds it, and disk for its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainrun.assembly.activations import Activations
from trainrun.assembly.factory import Settings, option_of
from trainrun.checkpoint.state import TrainState
from trainrun.optimizer.memory import state_bytes
from trainrun.runtime.usage import peak_bytes

_SHOWN = 4  # names in a line


def memory(settings: Settings, state: TrainState, activations: Activations | None) -> str:
    """`1.6 MB: 0.4 of weights, 0.4 of gradients, 0.8 of adamw`; activations where they are checkpointed."""
    name, sizes = option_of(settings["optimizer"]), _sizes(settings, state, activations)
    shares = ", ".join(f"{megabytes(size)} of {what}" for what, size in sizes.items())
    more = f" and what {name} keeps" if state_bytes(state.optimizer) is None else ""
    above = "activations and the batch come on top"
    if activations is not None:
        count, plain = activations.num_blocks, megabytes(activations.plain)
        above = f"activations are an estimate, {plain} without checkpointing of {count} blocks"
    return f"{megabytes(sum(sizes.values()))} MB: {shares}{more}; {above}"


def memory_at_end(settings: Settings, state: TrainState, activations: Activations | None) -> str:
    """`memory: 402 MB at most on cuda:0; 380 planned, and activations`."""
    device, more = state.precision.device, "" if activations else ", and activations"
    peak, where = peak_bytes(), "in this process, Python and torch included"
    if device.type == "cuda":
        peak, where = torch.cuda.max_memory_allocated(device), f"on {device}"
    planned = megabytes(sum(_sizes(settings, state, activations).values()))
    return f"memory: {megabytes(peak)} MB at most {where}; {planned} planned{more}"


def _sizes(settings: Settings, state: TrainState, activations: Activations | None) -> dict[str, int]:
    """The bytes that are known before training, by what holds them."""
    trained = sum(p.nbytes for p in state.model.parameters() if p.requires_grad)
    sizes = {"weights": _size(state.model), "gradients": trained}
    if optimizer_bytes := state_bytes(state.optimizer):
        sizes[option_of(settings["optimizer"])] = optimizer_bytes
    if state.weight_average is not None:
        sizes[state.weight_average.name] = _averaged(state)
    return sizes | ({"activations": activations.checkpointed} if activations else {})


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
