"""The first batch as training sees it, augmented and with its labels, as PNG."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from trainrun.check.context import CheckContext
from trainrun.protocols import BatchSpec, Position
from trainrun.regularization.kinds import combine_batch_changes
from trainrun.session.sample_pictures import labels_of, shown
from trainrun.vocabulary.errors import ConfigError, StorageError

_MOST, _ACROSS = 48, 8  # pictures on a page, and in a row


def picture(context: CheckContext, file: Path) -> str:
    """Write the samples into one PNG, and say what it shows.

    Raises ConfigError for inputs that cannot be drawn, StorageError where the file cannot be written.
    """
    parts, info = context.parts, context.parts.info
    seed, count = parts.settings["seed"], min(parts.batch_spec.batch_size, _MOST)
    batch = next(iter(parts.data.train_batches(Position(), BatchSpec(count, 1), seed)))
    for change in combine_batch_changes(parts.regularizers.values()):
        batch = change.change_batch(batch, info, torch.Generator().manual_seed(seed))
    if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
        raise ConfigError.of("--picture", f"the inputs of {info.name} are no pictures or numbers")
    from matplotlib.figure import Figure

    inputs, labels, figure = batch.inputs.cpu().float(), labels_of(batch.targets, info), Figure()
    figure.set_layout_engine("constrained")
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3):
        down = math.ceil(len(inputs) / _ACROSS)
        figure.set_size_inches(_ACROSS * 1.35, down * 1.6 + 0.5)
        panels = list(figure.subplots(down, _ACROSS, squeeze=False).flat)
        for axes in panels:
            axes.set_axis_off()
        for axes, pixels, label in zip(panels, shown(inputs, info), labels, strict=False):
            axes.imshow(pixels.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_title(label, fontsize="small")
    else:
        figure.set_size_inches(9, 1.2 + 0.2 * len(inputs))
        values, axes = inputs.flatten(1), figure.subplots()
        limit = float(values.abs().max()) or 1.0
        drawn = axes.imshow(values.numpy(), aspect="auto", cmap="coolwarm", vmin=-limit, vmax=limit)
        axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
        axes.set(xlabel="input", ylabel="target of the sample")
        figure.colorbar(drawn, label="value as the model sees it")
    title = f"{info.name}: the first {len(inputs)} training samples of the run"
    figure.suptitle(title, fontsize="medium")
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise StorageError(f"{file}: cannot be written: {error}") from None
    return f"{file}: {len(inputs)} training samples as the model sees them, with their labels"
