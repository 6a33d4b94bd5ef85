"""Training samples as the model sees them, in bytes that a picture can be made of."""

from __future__ import annotations

from torch import Tensor

from trainrun.errors import ConfigError
from trainrun.events import Pictured
from trainrun.protocols import Cut, Data, DataInfo, Position


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
    batches = iter(data.train_batches(Position(), Cut(count, 1), seed))
    batch = next(batches)
    close = getattr(batches, "close", None)  # and with it loader processes
    if close is not None:
        close()
    height, width = batch.inputs.shape[2:]
    pictures = [bytes(one.flatten().tolist()) for one in _as_bytes(batch.inputs, info).permute(0, 2, 3, 1)]
    labels = [_label(target, info) for target in batch.targets]
    shape = int(height), int(width), info.input_shape[0]
    return Pictured(step=0, pictures=pictures, shape=shape, labels=labels)


def _as_bytes(inputs: Tensor, info: DataInfo) -> Tensor:
    """From black to white, (N, C, H, W) uint8; where these are not known, from the least to the largest."""
    pixels = info.pixels
    black, white = (inputs.min(), inputs.max()) if pixels is None else (pixels.black, pixels.white)
    return ((inputs - black) / (white - black) * 255).clamp(0, 255).round().byte().cpu()


def _label(target: Tensor, info: DataInfo) -> str:
    """The class by its name, the labels that a sample has by theirs, or the values."""
    if info.kind == "classes" and target.ndim == 0:
        return info.class_names[int(target)] if info.class_names else str(int(target))
    if info.kind == "labels":
        names = info.class_names or tuple(map(str, range(len(target))))
        return " ".join(name for name, has in zip(names, target, strict=True) if has > 0.5)
    return " ".join(f"{value:.3g}" for value in target.flatten()[:4].tolist())
