"""Samples that cannot be learned from, named before or after they did harm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainrun.data.samples import map_tensors
from trainrun.protocols import IGNORED, Batch, DataInfo
from trainrun.vocabulary.errors import DataError


def check_targets(targets: Any, indices: Sequence[int] | Tensor, name: str, info: DataInfo) -> None:
    """Raise DataError for the first of a batch's targets, on the host, that is not of the kind that
    `info` tells: a class out of range, a label beside 0 and 1, a value that is not finite.

    `indices` and `name` say which samples of which dataset these are.
    """
    if info.kind == "other" or not isinstance(targets, Tensor):
        return
    wants, fits = _wanted(targets, info)
    if fits is None:
        got = f"{targets.dtype} {tuple(targets.shape)}".removeprefix("torch.")
        raise DataError(f"data: {_sample(indices, 0, name)} and others have targets of {got}, not {wants}")
    if not bool(fits.all()):
        row = int((~fits.reshape(len(fits), -1).all(1)).nonzero()[0])
        raise DataError(
            f"data: {_sample(indices, row, name)} has the target {targets[row].tolist()}, not {wants}"
        )


def refuse_not_finite(batches: Iterable[Batch], split: str, name: str) -> None:
    """Raise DataError for the first sample whose inputs are not finite: why a loss is none either."""
    for batch in batches:

        def refuse(inputs: Tensor, batch: Batch = batch) -> Tensor:
            odd = ~torch.isfinite(inputs).reshape(len(inputs), -1).all(1)
            if bool(odd.any()):
                sample = _sample(batch.indices, int(odd.nonzero()[0]), name)
                raise DataError(f"data: {sample} ({split}) has an input that is not a finite number")
            return inputs

        map_tensors(batch.inputs, refuse)


def _wanted(targets: Tensor, info: DataInfo) -> tuple[str, Tensor | None]:
    """(what is wanted, in words; (N, ...) which fit, or None where not even the form does)."""
    count, is_float = info.num_targets, targets.is_floating_point()
    if info.kind == "classes":
        wanted = f"a class from 0 to {count - 1}"
        return wanted, (targets >= 0) & (targets < count) if targets.ndim == 1 and not is_float else None
    if info.kind == "tokens":
        wanted = f"tokens from 0 to {count - 1}"
        fits = (targets >= 0) & (targets < count) | (targets == IGNORED)
        return wanted, fits if targets.ndim == 2 and not is_float else None
    of_form = targets.ndim == 2 and targets.shape[1] == count
    if info.kind == "labels":
        wanted = f"{count} labels, each 0 or 1"
        return wanted, (targets == 0) | (targets == 1) if of_form and not is_float else None
    return f"{count} finite numbers", torch.isfinite(targets) if of_form and is_float else None


def _sample(indices: Sequence[int] | Tensor, row: int, name: str) -> str:
    return f"sample {int(indices[row])} of {name}"
