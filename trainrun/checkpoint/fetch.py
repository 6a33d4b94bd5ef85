"""Bring stored tensors into live ones, one at a time: from the files of shards, or from the first rank.

So a rank reads what it needs and nothing more, and holds one tensor beside its state, whatever number
of ranks stored it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.checkpoint import reader
from trainrun.checkpoint.shards import box_of, is_sharded, pieces_at, read_box
from trainrun.checkpoint.snapshot import mapped
from trainrun.checkpoint.state import TrainState
from trainrun.vocabulary.errors import ResumeError

_LARGE = 1 << 16  # bytes; smaller tensors go from rank to rank with what is no tensor


def lifted(tree: Any, is_lifted: Callable[[Tensor], bool], tensors: dict[str, Tensor], path: str = "") -> Any:
    """The same containers, with shapes in the place of the tensors that go into `tensors`, by path."""
    if isinstance(tree, Tensor) and (tree.is_meta or is_lifted(tree)):
        if not tree.is_meta:
            tensors[path] = tree
        return torch.empty_strided(tree.shape, tree.stride(), dtype=tree.dtype, device="meta")
    return mapped(tree, path, lambda value, key, inner: lifted(value, is_lifted, tensors, inner))


class Source:
    """Gives the numbers of stored shapes: from their files, or what the first rank holds to all ranks."""

    def __init__(self, held: dict[str, Tensor]) -> None:
        self.held = held  # by path; of all ranks but the first nothing

    def fill(self, tree: Any, live: Any, path: str, in_place: bool) -> Any:
        """The stored containers with tensors, divided as those in `live` are, or read into them."""
        if isinstance(tree, Tensor):
            fits = isinstance(live, Tensor) and live.shape == tree.shape
            return self._tensor(tree, live if fits else None, path, in_place)
        inside = live.get if isinstance(live, Mapping) else lambda key: live  # moments are as their weight
        return mapped(tree, path, lambda value, key, inner: self.fill(value, inside(key), inner, in_place))

    def _tensor(self, stored: Tensor, live: Any, path: str, in_place: bool) -> Tensor:
        is_divided = live is not None and is_sharded(live)
        if not is_divided and not stored.is_meta:
            return stored
        sizes, offsets = box_of(live) if is_divided else (stored.shape, (0,) * stored.ndim)
        if live is not None and in_place and live.dtype == stored.dtype:
            self._read(stored, live.to_local() if is_divided else live, offsets, path)
            return live  # type: ignore[no-any-return]
        tensor = torch.empty(sizes, dtype=stored.dtype, device="cpu" if live is None else live.device)
        self._read(stored, tensor, offsets, path)
        if not is_divided:
            return tensor
        from torch.distributed.tensor import DTensor

        form = {"shape": live.shape, "stride": live.stride()}
        return DTensor.from_local(tensor, live.device_mesh, live.placements, run_check=False, **form)

    def _read(self, stored: Tensor, into: Tensor, offsets: tuple[int, ...], path: str) -> None:
        if (pieces := pieces_at(stored)) is not None:
            return read_box(pieces, offsets, into)
        if stored.is_meta:
            stored = self.held.pop(path) if path in self.held else torch.empty_like(stored, device="cpu")
            ranks.broadcast([stored])
        ends = zip(offsets, into.shape, strict=True)
        into.copy_(stored[tuple(slice(offset, offset + size) for offset, size in ends)])
        return None


def load_state(state: TrainState, stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Load into every rank's state what the first one read; returns it, without large tensors.

    All is checked before anything is copied. Empties `stored` as it goes.
    """
    shared, source = _shared(stored)
    if shared is None:
        return None
    state.check(shared)
    live = state.tensors()
    fill = source.fill
    parts = {name: fill(part, live.get(name), name, name != "optimizer") for name, part in shared.items()}
    state.load_state_dict(parts)
    return shared


def load_weights(model: nn.Module, path: Path, content: dict[str, Any]) -> str:
    """Load into every rank's model the weights that the first one read; returns which, raw or averaged.

    `content` has `weights`, which says which they are, or `problem`. Raises ResumeError, on all or on none.
    """
    parts, source = _shared(content)
    assert parts is not None
    if "problem" in parts:
        raise ResumeError(parts["problem"])
    return _load_into(model, path, parts, source)


def load_eval_weights(model: nn.Module, path: Path, parts: Mapping[str, Any]) -> str:
    """The same of a state that this process read by itself."""
    return _load_into(model, path, {**parts, "weights": reader.manifest_of(path)["weights"]}, Source({}))


def _load_into(model: nn.Module, path: Path, parts: Mapping[str, Any], source: Source) -> str:
    stored, weights = reader.eval_weights_in(parts, parts), str(parts["weights"])
    where = "model" if weights == "raw" else "averager/model"
    try:
        model.load_state_dict(source.fill(stored, model.state_dict(), where, in_place=True))
    except (RuntimeError, KeyError) as error:
        raise ResumeError(f"checkpoint: {path} does not fit the model: {error}") from None
    return weights


def _shared(stored: dict[str, Any] | None) -> tuple[dict[str, Any] | None, Source]:
    """Give all ranks what the first one read: containers now, large tensors as they are asked for."""
    held: dict[str, Tensor] = {}
    if stored is not None and ranks.size() > 1 and ranks.is_main_process():
        sent = lifted(stored, lambda tensor: tensor.nbytes >= _LARGE, held)
        stored.clear()  # what the caller still has would be held twice
        stored = sent
    shared = ranks.broadcast_object(stored) if ranks.is_main_process() else assist()
    if shared and (folder := shared.pop("shards", None)):
        reader.attach_pieces(shared, Path(folder))
    return shared, Source(held)


# Checking, by all ranks


def problem_among_ranks(path: Path, run_id: str | None) -> str | None:
    """`reader.problem_of` for the first rank, while the others `assist`: each looks at some of the files."""

    def share(path: Path, files: Mapping[str, Any]) -> str | None:
        if len(files) == 1 or ranks.size() == 1:
            return reader.damage_in(path, files)
        ranks.broadcast_object([str(path), json.dumps(files)])  # as text: whatever a stranger wrote there
        return next(filter(None, ranks.gather(_share_of_damage(path, files))), None)

    return reader.problem_of(path, run_id, share)


def assist() -> Any:
    """Look at files as long as the first rank asks for it; returns what it says last."""
    while isinstance(task := ranks.broadcast_object(None), list):
        ranks.gather(_share_of_damage(Path(task[0]), json.loads(task[1])))
    return task


@ranks.working("reading a checkpoint")
def _share_of_damage(path: Path, files: Mapping[str, Any]) -> str | None:
    return reader.damage_in(path, dict(list(files.items())[ranks.rank() :: ranks.size()]))
