"""Samples that cannot be learned from: inputs that are not finite, targets of another kind, each named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainrun.data.samples import tensors_in
from trainrun.protocols import IGNORED, Batch, DataInfo
from trainrun.vocabulary.errors import DataError


def check_targets(targets: Any, indices: Sequence[int] | Tensor, name: str, info: DataInfo) -> None:
    """Raise DataError for the first of a batch's targets, on the host, that `info.kind` does not allow.

    That is a class out of range, a label other than 0 and 1, or a value that is not finite.
    `indices` and `name` say which samples of which dataset these are.
    """
    if info.kind == "other" or not isinstance(targets, Tensor):
        return
    expected, fits = _expected(targets, info)
    if fits is None:
        got = f"{targets.dtype} {tuple(targets.shape)}".removeprefix("torch.")
        raise DataError(
            f"data: sample {int(indices[0])} of {name} and others have targets of {got}, not {expected}"
        )
    if (row := first_unfit(fits)) is not None:
        sample = f"sample {int(indices[row])} of {name}"
        raise DataError(f"data: {sample} has the target {targets[row].tolist()}, not {expected}")


def refuse_not_finite(batches: Iterable[Batch], split: str, name: str) -> None:
    """Raise DataError for the first sample whose inputs are not finite, the usual cause of such a loss."""
    for batch in batches:
        for inputs in tensors_in(batch.inputs):
            if (row := first_unfit(torch.isfinite(inputs))) is not None:
                sample = f"sample {int(batch.indices[row])} of {name} ({split})"
                raise DataError(f"data: {sample} has an input that is not a finite number")


def first_few(names: Sequence[object], most: int = 5) -> str:
    """The first of names, on a line of a terminal, and how many more there are: `a, b, c and 1,204 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def first_unfit(fits: Tensor) -> int | None:
    """The first row of `fits` (N, ...) that is not all true; None where every row is."""
    if bool(fits.all()):
        return None
    return int((~fits.reshape(len(fits), -1).all(1)).nonzero()[0])


def _expected(targets: Tensor, info: DataInfo) -> tuple[str, Tensor | None]:
    """(what is expected, in words; (N, ...) which fit, or None where not even the shape and type do)."""
    count, is_float = info.num_targets, targets.is_floating_point()
    if info.kind == "classes":
        fits = (targets >= 0) & (targets < count)
        return f"a class from 0 to {count - 1}", fits if targets.ndim == 1 and not is_float else None
    if info.kind == "tokens":
        fits = (targets >= 0) & (targets < count) | (targets == IGNORED)
        return f"tokens from 0 to {count - 1}", fits if targets.ndim == 2 and not is_float else None
    if info.kind == "step_classes":
        fits = (targets >= 0) & (targets < count) | (targets == IGNORED)
        return f"classes from 0 to {count - 1}, or -100 for none", fits if not is_float else None
    if info.kind == "step_values":
        return "finite numbers", torch.isfinite(targets) if is_float else None
    has_shape = targets.ndim == 2 and targets.shape[1] == count
    if info.kind == "labels":
        fits = (targets == 0) | (targets == 1)
        return f"{count} labels, each 0 or 1", fits if has_shape and not is_float else None
    return f"{count} finite numbers", torch.isfinite(targets) if has_shape and is_float else None
