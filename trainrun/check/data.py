"""The data as the model sees them: counts, ranges, NaN, what was not standardised."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainrun.check.context import CheckContext
from trainrun.check.finding import CheckSection
from trainrun.check.splits import SampleRows
from trainrun.protocols import DataInfo

FEW, _PER_CLASS = 10, 2  # training samples
_FAR, _SMALL = 5.0, 0.02  # means and stds of inputs: pixels from 0 to 1 pass, from 0 to 255 do not
_WIDE = 20.0  # of the mean or std of a single column, in other units than the rest
_UNEVEN = 20  # the largest class by the smallest: then the smallest hardly moves the loss


def data(context: CheckContext, samples: Mapping[str, SampleRows]) -> CheckSection:
    """Classes and values, of up to some thousand samples of each split."""
    info = context.parts.info
    section = CheckSection("data", [("classes", _classes(info))] if info.class_counts else [])
    _too_few(section, context)
    _classes_off(section, context)
    for split, rows in samples.items():
        section.lines.append((split, _describe(info, rows, split)))
        _not_finite(section, split, rows, info)
    if "train" in samples:
        _scale(section, samples["train"], info)
    section.values = {
        split: {"mean": float(rows.inputs.mean()), "std": float(rows.inputs.std())}
        for split, rows in samples.items()
    }
    return section


def _describe(info: DataInfo, rows: SampleRows, split: str) -> str:
    x, y = rows.inputs, rows.targets
    text = f"inputs of mean {round(float(x.mean()), 6) + 0.0:.3g}, std {float(x.std(correction=0)):.3g}, "
    text += f"from {float(x.min()):.3g} to {float(x.max()):.3g}"
    if info.kind == "classes" and y.ndim == 1:
        text += f"; classes {int(y.min())} to {int(y.max())}"
    elif y.is_floating_point():
        text += f"; targets of mean {float(y.mean()):.4g}, std {float(y.std(correction=0)):.4g}"
    return text if info.sizes.get(split) == len(rows) else f"{text} ({len(rows)} samples)"


def _classes(info: DataInfo) -> str:
    counts = info.class_counts
    text = f"{len(counts)}, of {min(counts)} to {max(counts)} training samples"
    if len(counts) > 20:
        return text
    names = info.class_names if len(info.class_names) == len(counts) else range(len(counts))
    return f"{text}: " + ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


def _too_few(section: CheckSection, context: CheckContext) -> None:
    """Fewer training samples than anything can be learned from."""
    info = context.parts.info
    size, has_classes = info.sizes["train"], info.kind == "classes"
    least = max(FEW, _PER_CLASS * info.num_targets if has_classes else 0)
    if size is None or size >= least:
        return
    measured = f"{size} training samples{f' for {info.num_targets} classes' if has_classes else ''}"
    is_limited = context.setting("data.limit") is not None
    fix, advice = (["data.limit=null"], "") if is_limited else ([], "gather more samples")
    section.add("too few training samples", measured, f"at least {least}", *fix, advice=advice)


def _classes_off(section: CheckSection, context: CheckContext) -> None:
    info, counts = context.parts.info, context.parts.info.class_counts
    if not counts or sum(counts) < _PER_CLASS * len(counts):
        return
    empty = [number for number, count in enumerate(counts) if not count]
    if empty == [0] and len(counts) > 2:
        others = f"classes 1 to {len(counts) - 1} have {min(counts[1:])} or more"
        measured = f"class 0 has no training sample, {others}"
        advice = "the labels seem to count from 1: subtract 1 in the data set"
        section.add("labels off by one class", measured, "classes from 0", advice=advice)
    elif empty:
        names = ", ".join(info.class_names[n] if n < len(info.class_names) else str(n) for n in empty[:5])
        measured = f"{len(empty)} of {len(counts)} classes have no training sample: {names}"
        section.add("empty classes", measured, "samples of every class", advice="leave these classes out")
    elif max(counts) >= _UNEVEN * min(counts):
        measured = f"the largest class has {max(counts)} training samples, the smallest {min(counts)}"
        if not (context.setting("data.balanced") or context.setting("loss.class_weights")):
            section.add("uneven classes", measured, f"less than {_UNEVEN} to 1", "data.balanced=true")


def _not_finite(section: CheckSection, split: str, rows: SampleRows, info: DataInfo) -> None:
    for what, values in (("inputs", rows.inputs), ("targets", rows.targets)):
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            bad = (~torch.isfinite(values.reshape(len(values), -1))).any(1)
            count = f"{int(bad.sum())} of {len(rows)} samples of {split}"
            measured = f"{count} have {what} that are no finite numbers"
            advice = f"look at sample {int(rows.indices[bad][0])} of {info.name}"
            section.add("values not finite", measured, "finite numbers", advice=advice)


def _scale(section: CheckSection, rows: SampleRows, info: DataInfo) -> None:
    """Inputs far from mean 0 and std 1, all together or column by column."""
    x = rows.inputs[torch.isfinite(rows.inputs).all(1)]
    if len(x) < 2:
        return
    mean, std = float(x.mean()), float(x.std(correction=0))
    sizes = torch.maximum(x.mean(0).abs(), x.std(0, correction=0))
    worst = int(sizes.argmax())
    if abs(mean) > _FAR or std > _FAR or 0 < std < _SMALL:
        what = "inputs have"
        advice = f"give (x - {mean:.4g}) / {std:.4g} in the data set, with the figures of the training split"
    elif len(info.input_shape) == 1 and float(sizes[worst]) > _WIDE:
        what = f"column {worst} has"
        mean, std = float(x[:, worst].mean()), float(x[:, worst].std(correction=0))
        advice = "standardise every column by the mean and std of the training split"
    else:
        return
    measured = f"{what} mean {mean:.4g} and std {std:.4g}"
    section.add("inputs not standardised", measured, "mean about 0, std about 1", advice=advice)


def standardized(x: Tensor, by: Tensor) -> Tensor:
    """Columns of x by the mean and std of those of `by`; constant ones become 0."""
    std = by.std(0, correction=0)
    return (x - by.mean(0)) / torch.where(std > 0, std, torch.ones_like(std))
