"""Whether the parts fit each other, tried on two samples before anything is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from trainrun import ranks
from trainrun.errors import ConfigError, DataError
from trainrun.protocols import Cut, Data, Position, Task
from trainrun.regularization.kinds import BatchChange, Penalty, joined
from trainrun.runtime import is_out_of_memory
from trainrun.state import TrainState


def try_parts(
    data: Data, task: Task, state: TrainState, regularizers: Iterable[Any], seed: int, channels_last: bool
) -> tuple[tuple[str, str], ...]:
    """`try_once`; where that fails on kernels in `channels_last`, without. Returns a line for the plan."""
    kinds = list(regularizers)
    changes = joined(kinds)
    with torch.no_grad():
        for penalty in [kind for kind in kinds if isinstance(kind, Penalty)]:
            penalty.penalty(state.model)
    try:
        try_once(data, task, state, changes, seed)
    except ConfigError:
        if not channels_last:
            raise
        models = [state.model, *([state.averager.model] if state.averager and state.averager.model else [])]
        for parameter in (p for model in models for p in model.parameters()):
            parameter.data = parameter.data.contiguous()
        try_once(data, task, state, changes, seed)
        return (("channels_last", "off: the model fails with it, as one does that flattens with .view"),)
    return ()


def try_once(data: Data, task: Task, state: TrainState, changes: Sequence[BatchChange], seed: int) -> None:
    """One forward pass of two samples: a model that does not fit is told before anything is written,
    and so are inputs that cannot be changed as the regularisers would.

    Where there are several ranks their shares are looked at, too.
    """
    batch = next(iter(data.train_batches(Position(), Cut(2, 1), seed)))
    for change in changes:
        change.change_batch(batch, data.info, torch.Generator())
    state.model.eval()
    try:
        with torch.no_grad(), state.precision.autocast():
            task(state.model, batch)
    except (RuntimeError, IndexError, ValueError, TypeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        inputs = tuple(getattr(batch.inputs, "shape", ()))
        text = f"fails on inputs of shape {inputs}, with {task.num_outputs} outputs wanted: {error}"
        raise ConfigError.one("model", text) from error
    finally:
        state.model.train()
    if ranks.size() > 1:
        _check_shares(data, seed)


def _check_shares(data: Data, seed: int) -> None:
    """Every rank must read the same data and be given other samples of them."""
    if "share" not in inspect.signature(data.eval_batches).parameters:
        text = "judges whole splits; with several ranks eval_batches takes (split, share) and gives a share"
        raise ConfigError.one("data", text)
    mine = next(iter(data.train_batches(Position(), Cut(1, 1, ranks.size(), ranks.rank()), seed)))
    whole = next(iter(data.train_batches(Position(), Cut(ranks.size(), 1), seed)))
    found = ranks.gather([str(data.info.identity), *map(int, mine.indices)])
    for rank, theirs in enumerate(found):
        if theirs[0] != found[0][0]:
            raise DataError(f"data: rank {rank} has other data than rank 0: {theirs[0]}, not {found[0][0]}")
    samples = sorted(str(index) for theirs in found for index in theirs[1:])
    if samples != sorted(str(int(index)) for index in whole.indices):
        text = "gives several ranks the same samples; train_batches must give those of cut.rank"
        raise ConfigError.one("data", text)
