"""Bring stored tensors into live ones, one at a time: from the files of shards, or from the first rank.

So a rank reads what it needs and nothing more, and holds one tensor beside its state, whatever number
of ranks stored it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.checkpoint import reader
from trainrun.checkpoint.shards import Piece, box_of, is_sharded, read_box
from trainrun.checkpoint.state import TrainState
from trainrun.vocabulary.errors import ResumeError

_LARGE = 1 << 16  # bytes; smaller tensors go from rank to rank with what is no tensor


def lifted(tree: Any, is_lifted: Callable[[Tensor], bool], tensors: dict[str, Tensor], path: str = "") -> Any:
    """The same containers, with shapes in the place of the tensors that go into `tensors`, by path."""
    if isinstance(tree, Tensor) and is_lifted(tree):
        tensors[path] = tree
        return torch.empty_strided(tree.shape, tree.stride(), dtype=tree.dtype, device="meta")
    return _mapped(tree, path, lambda value, key, inner: lifted(value, is_lifted, tensors, inner))


def _mapped(tree: Any, path: str, function: Callable[[Any, Any, str], Any]) -> Any:
    """The same containers around what a function makes of (value, key, path) of each entry."""
    if isinstance(tree, list):
        return [function(value, index, f"{path}/{index}") for index, value in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    same = {key: function(value, key, f"{path}/{key}" if path else str(key)) for key, value in tree.items()}
    if not hasattr(tree, "_metadata"):
        return same
    state_dict = OrderedDict(same)  # a module's state dict: its layers' versions go with it
    state_dict._metadata = tree._metadata  # type: ignore[attr-defined]
    return state_dict


class Source:
    """Where the tensors are whose shapes a stored state has: in files, or held by the first rank."""

    def __init__(self, pieces: Mapping[str, Iterable[Piece]], held: dict[str, Tensor]) -> None:
        self.pieces, self.held = pieces, held

    def fill(self, tree: Any, live: Any, path: str, in_place: bool) -> Any:
        """The stored containers with tensors, divided as those in `live` are, or read into them."""
        if isinstance(tree, Tensor):
            fits = isinstance(live, Tensor) and live.shape == tree.shape
            return self._tensor(tree, live if fits else None, path, in_place)
        inside = (
            live.get if isinstance(live, Mapping) else lambda key: live
        )  # one weight's moments are as it is
        return _mapped(tree, path, lambda value, key, inner: self.fill(value, inside(key), inner, in_place))

    def _tensor(self, stored: Tensor, live: Any, path: str, in_place: bool) -> Tensor:
        in_place = in_place and live is not None and live.dtype == stored.dtype
        if live is None or not is_sharded(live):
            if not stored.is_meta:
                return stored
            device = "cpu" if live is None else live.device
            whole: Tensor = live if in_place else torch.empty_like(stored, device=device)
            self._read(stored, whole, (0,) * stored.ndim, path)
            return whole
        from torch.distributed.tensor import DTensor

        sizes, offsets = box_of(live)
        local = live.to_local() if in_place else torch.empty(sizes, dtype=stored.dtype, device=live.device)
        self._read(stored, local, offsets, path)
        mesh, kinds = live.device_mesh, live.placements
        if in_place:
            return live  # type: ignore[no-any-return]
        return DTensor.from_local(local, mesh, kinds, run_check=False, shape=live.shape, stride=live.stride())

    def _read(self, stored: Tensor, into: Tensor, offsets: tuple[int, ...], path: str) -> None:
        if path in self.pieces:
            return read_box(self.pieces[path], offsets, into)
        if stored.is_meta:
            stored = self.held.pop(path) if path in self.held else torch.empty_like(stored, device="cpu")
            ranks.broadcast([stored])
        ends = zip(offsets, into.shape, strict=True)
        into.copy_(stored[tuple(slice(offset, offset + size) for offset, size in ends)])
        return None


def load_state(state: TrainState, stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Load into every rank's state what the first one found stored; returns it, without large tensors.

    All is checked before anything is copied. Empties `stored` as it goes.
    """
    if ranks.size() == 1 and stored is not None and "shards" not in stored:
        state.load_state_dict(stored)
        return stored
    found, source = _shared(stored)
    if found is None:
        return None
    state.check(found)
    live = state.tensors()
    parts = {
        name: source.fill(part, live.get(name), name, name != "optimizer") for name, part in found.items()
    }
    state.load_state_dict(parts)
    return found


def load_eval_weights(model: nn.Module, path: Path, parts: Mapping[str, Any]) -> str:
    """Load the weights that were evaluated when `parts` were stored, raw or averaged; returns which.

    This process reads all of them by itself.
    """
    weights = str(reader.manifest_of(path)["weights"])
    _load_into(model, path, weights, parts, Source(reader.stored_pieces(parts.get("shards")), {}))
    return weights


def load_weights(model: nn.Module, path: Path, found: dict[str, Any]) -> str:
    """The same of what the first rank found, into every rank's model.

    `found` has `weights`, which says which they are, or `problem`. Raises ResumeError, on all or on none.
    """
    parts, source = _shared(found)
    assert parts is not None
    if "problem" in parts:
        raise ResumeError(parts["problem"])
    _load_into(model, path, parts["weights"], parts, source)
    return str(parts["weights"])


def _load_into(model: nn.Module, path: Path, weights: str, parts: Mapping[str, Any], source: Source) -> None:
    stored, live = reader.eval_weights_in(parts, {"weights": weights}), model.state_dict()
    for name in live.keys() & stored.keys():  # before anything is copied
        if live[name].shape != stored[name].shape:
            text = f"{name} is stored as {tuple(stored[name].shape)}, here {tuple(live[name].shape)}"
            raise ResumeError(f"checkpoint: {path} does not fit the model: size mismatch: {text}")
    try:
        where = "model" if weights == "raw" else "averager/model"
        model.load_state_dict(source.fill(stored, live, where, in_place=True))
    except (RuntimeError, KeyError) as error:
        raise ResumeError(f"checkpoint: {path} does not fit the model: {error}") from None


def _shared(stored: dict[str, Any] | None) -> tuple[dict[str, Any] | None, Source]:
    """Give all ranks what the first one found: containers now, large tensors as they are asked for."""
    held: dict[str, Tensor] = {}
    if stored is not None and ranks.size() > 1 and ranks.is_main_process():
        sent = lifted(stored, lambda tensor: tensor.nbytes >= _LARGE and not tensor.is_meta, held)
        stored.clear()  # what the caller still has would be held twice
        stored = sent
    found = ranks.broadcast_object(stored) if ranks.is_main_process() else assist()
    return found, Source(reader.stored_pieces(found.pop("shards", None) if found else None), held)


# Checking, by all ranks


def problem_among_ranks(path: Path, run_id: str | None) -> str | None:
    """What is wrong with a checkpoint, as `reader.problem_of` says it; every rank looks at some of the files.

    For the first rank. The others call `assist`.
    """

    def share(path: Path, files: Mapping[str, Any]) -> str | None:
        if len(files) == 1 or ranks.size() == 1:
            return reader.damage_in(path, files)
        ranks.broadcast_object([str(path), dict(files)])
        return next(filter(None, ranks.gather(_share_of_damage(path, files))), None)

    return reader.problem_of(path, run_id, share)


def assist() -> Any:
    """Look at files as long as the first rank asks for it; returns what it says last."""
    while isinstance(task := ranks.broadcast_object(None), list):
        ranks.gather(_share_of_damage(Path(task[0]), task[1]))
    return task


def _share_of_damage(path: Path, files: Mapping[str, Any]) -> str | None:
    return reader.damage_in(path, dict(list(files.items())[ranks.rank() :: ranks.size()]))
