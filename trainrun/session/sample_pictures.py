"""Training samples as the model sees them, augmented: pictures that a logger can draw, and labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainrun.protocols import BatchSpec, Data, DataInfo, Position
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import Pictured

_LONGEST = 22  # characters of a label: what fits above a picture in a row of them
_SHOWN_SHARE = 0.005  # of a mixture: less would be shown as 0 %


def sample_pictures(data: Data, count: int, seed: int, key: str) -> Pictured:
    """The first `count` of a run's training samples, augmented.

    What is drawn for a sample depends on the seed, the epoch and the sample alone, so looking does not
    change the run. Raises ConfigError about `key` where the samples are no pictures.
    """
    info = data.info
    if len(info.input_shape) != 3 or info.input_shape[0] not in (1, 3) or info.sizes["train"] is None:
        shape = f"of shape {'x'.join(map(str, info.input_shape))}"
        inputs = "a stream" if info.sizes["train"] is None else shape
        text = f"needs pictures in 1 or 3 channels; the inputs of {info.name} are {inputs}"
        raise ConfigError.of(key, text, f"{key}=0")
    batches = iter(data.train_batches(Position(), BatchSpec(count, 1), seed))
    batch = next(batches)
    if (close := getattr(batches, "close", None)) is not None:
        close()  # and with it loader processes
    height, width = batch.inputs.shape[2:]
    pixels = (shown(batch.inputs.cpu(), info) * 255).round().byte().permute(0, 2, 3, 1)
    pictures = [bytes(picture.flatten().tolist()) for picture in pixels]
    size = int(height), int(width), info.input_shape[0]
    return Pictured(step=0, pictures=pictures, shape=size, labels=labels_of(batch.targets, info))


def shown(inputs: Tensor, info: DataInfo) -> Tensor:
    """Pictures (N, C, H, W) scaled to 0..1: black to white where those are known, else least to largest."""
    if info.pixels is not None:
        black, white = info.pixels.black.cpu(), info.pixels.white.cpu()
    else:
        black, white = inputs.min(), inputs.max()
    span = torch.where(white > black, white - black, torch.ones_like(white - black))
    return ((inputs - black) / span).clamp(0, 1)


def labels_of(targets: Any, info: DataInfo) -> list[str]:
    """A word or two for each sample: its class, its labels or its values.

    Of a mixture of classes these are the two largest shares.
    """

    def name(number: int) -> str:
        return info.class_names[number] if 0 <= number < len(info.class_names) else str(number)

    def label(target: Any) -> str:
        if not isinstance(target, Tensor):
            return str(target)
        if info.kind == "classes" and target.ndim == 0:
            return name(int(target))
        if info.kind == "classes":
            shares, numbers = target.topk(min(2, len(target)))
            pairs = zip(shares.tolist(), numbers.tolist(), strict=True)
            return ", ".join(f"{name(number)} {share:.0%}" for share, number in pairs if share > _SHOWN_SHARE)
        if info.kind == "labels":
            return ", ".join(name(int(number)) for number in target.nonzero().flatten()) or "none"
        return ", ".join(f"{value:.4g}" for value in target.flatten().tolist()[:3])

    return [
        label(target)[:_LONGEST] for target in (targets.cpu() if isinstance(targets, Tensor) else targets)
    ]
