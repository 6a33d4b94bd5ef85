"""Training samples as the model sees them: grey values and colours that can be drawn, and labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainrun.protocols import BatchSpec, Data, DataInfo, Position
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import Pictured

_LONGEST = 22  # characters of a label


def pictured(data: Data, count: int, seed: int, key: str) -> Pictured:
    """The first `count` of a run's training samples, augmented. Raises ConfigError, of `key`, where they
    are no pictures.

    What is drawn for a sample depends on the seed, the epoch and the sample alone, so a run is not
    changed by looking.
    """
    info = data.info
    if len(info.input_shape) != 3 or info.input_shape[0] not in (1, 3) or info.sizes["train"] is None:
        what = (
            "a stream" if info.sizes["train"] is None else f"of shape {'x'.join(map(str, info.input_shape))}"
        )
        text = f"wants pictures in 1 or 3 channels, and the inputs of {info.name} are {what}"
        raise ConfigError.one(key, text, f"{key}=0")
    batches = iter(data.train_batches(Position(), BatchSpec(count, 1), seed))
    batch = next(batches)
    close = getattr(batches, "close", None)  # and with it loader processes
    if close is not None:
        close()
    height, width = batch.inputs.shape[2:]
    pixels = (shown(batch.inputs.cpu(), info) * 255).round().byte().permute(0, 2, 3, 1)
    pictures, labels = [bytes(one.flatten().tolist()) for one in pixels], labels_of(batch.targets, info)
    shape = int(height), int(width), info.input_shape[0]
    return Pictured(step=0, pictures=pictures, shape=shape, labels=labels)


def shown(inputs: Tensor, info: DataInfo) -> Tensor:
    """Pictures (N, C, H, W) from 0 to 1: black to white where those are known, else least to largest."""
    if info.pixels is not None:
        black, white = info.pixels.black.cpu(), info.pixels.white.cpu()
    else:
        black, white = inputs.min(), inputs.max()
    span = torch.where(white > black, white - black, torch.ones_like(white - black))
    return ((inputs - black) / span).clamp(0, 1)


def labels_of(targets: Any, info: DataInfo) -> list[str]:
    """A word or two for each sample: its class, the labels it has, its values; of a mixture the two largest
    shares.
    """
    if not isinstance(targets, Tensor):
        return [str(one)[:_LONGEST] for one in targets]
    targets = targets.cpu()

    def name(number: int) -> str:
        return info.class_names[number] if 0 <= number < len(info.class_names) else str(number)

    if info.kind == "classes" and targets.ndim == 1:
        return [name(number)[:_LONGEST] for number in targets.tolist()]
    if info.kind == "classes":
        shares, numbers = targets.topk(min(2, targets.shape[1]))
        pairs = zip(shares.tolist(), numbers.tolist(), strict=True)
        return [
            ", ".join(f"{name(n)} {share:.0%}" for share, n in zip(*pair, strict=True) if share > 0.005)[
                :_LONGEST
            ]
            for pair in pairs
        ]
    if info.kind == "labels":
        return [
            ", ".join(name(int(n)) for n in row.nonzero().flatten())[:_LONGEST] or "none" for row in targets
        ]
    return [", ".join(f"{value:.4g}" for value in row.flatten().tolist()[:3])[:_LONGEST] for row in targets]
