"""Scale the learning rate with the batch size."""

from __future__ import annotations

from typing import Literal

from trainrun.vocabulary.ranges import Count


def scaled_lr(
    lr: float, window: int, lr_scaling: Literal["none", "linear", "sqrt"], base_batch_size: Count
) -> tuple[float, str]:
    """(learning rate for steps of `window` samples, its computation as text).

    linear: lr x window / base (Goyal et al., 2017); sqrt: lr x sqrt(window / base) (Krizhevsky, 2014).
    """
    ratio = window / base_batch_size
    if lr_scaling == "linear":
        return lr * ratio, f"{lr:g} x {window} / {base_batch_size} = {lr * ratio:g}"
    if lr_scaling == "sqrt":
        return lr * ratio**0.5, f"{lr:g} x sqrt({window} / {base_batch_size}) = {lr * ratio**0.5:g}"
    return lr, f"{lr:g}"
