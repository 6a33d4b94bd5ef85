"""The data as the model sees them: counts, ranges, NaN, what was not standardised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainrun.check.context import CheckContext
from trainrun.check.finding import CheckResult, CheckSection, setting
from trainrun.check.sample_rows import SampleRows
from trainrun.protocols import DataInfo

FEW, _PER_CLASS = 10, 2  # training samples
_FAR, _SMALL = 5.0, 0.02  # means and stds of inputs: pixels from 0 to 1 pass, from 0 to 255 do not
_WIDE = 20.0  # of the mean or std of a single column, in other units than the rest
_UNEVEN = 20  # the largest class by the smallest: then the smallest hardly moves the loss


def data(context: CheckContext, samples: Mapping[str, SampleRows]) -> CheckSection:
    """Classes and values, of up to some thousand samples of each split."""
    info = context.parts.info
    lines = [(split, _describe(info, rows, split)) for split, rows in samples.items()]
    if info.class_counts:
        lines.insert(0, ("classes", _classes(info)))
    findings = [*_too_few(context), *_classes_off(context)]
    for split, rows in samples.items():
        findings += _not_finite(split, rows, info)
    if "train" in samples:
        findings += _scale(samples["train"], info)
    values = {
        split: {"mean": float(rows.inputs.mean()), "std": float(rows.inputs.std())}
        for split, rows in samples.items()
    }
    return CheckSection("data", tuple(lines), tuple(findings), values)


def _describe(info: DataInfo, rows: SampleRows, split: str) -> str:
    x = rows.inputs
    text = f"inputs of mean {round(float(x.mean()), 6) + 0.0:.3g}, std {float(x.std(correction=0)):.3g}, "
    text += f"from {float(x.min()):.3g} to {float(x.max()):.3g}"
    y = rows.targets
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
    names = info.class_names if len(info.class_names) == len(counts) else tuple(map(str, range(len(counts))))
    return f"{text}: " + ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


def _too_few(context: CheckContext) -> Iterator[CheckResult]:
    """Fewer training samples than anything can be learned from."""
    info = context.parts.info
    size = info.sizes["train"]
    least = max(FEW, _PER_CLASS * info.num_targets if info.kind == "classes" else 0)
    if size is None or size >= least:
        return
    is_limited = setting(context.parts.settings, "data.limit") is not None
    fix, advice = (("data.limit=null",), "") if is_limited else ((), "gather more samples")
    classes = f" for {info.num_targets} classes" if info.kind == "classes" else ""
    yield CheckResult(
        "too few training samples", f"{size} training samples{classes}", f"at least {least}", fix, advice
    )


def _classes_off(context: CheckContext) -> Iterator[CheckResult]:
    info, counts = context.parts.info, context.parts.info.class_counts
    if not counts or sum(counts) < _PER_CLASS * len(counts):
        return
    empty = [number for number, count in enumerate(counts) if not count]
    if empty == [0] and len(counts) > 2:
        measured = (
            f"class 0 has no training sample, classes 1 to {len(counts) - 1} have {min(counts[1:])} or more"
        )
        advice = "the labels seem to count from 1: subtract 1 in the data set"
        yield CheckResult("labels off by one class", measured, "classes from 0", (), advice)
    elif empty:
        names = ", ".join(info.class_names[n] if n < len(info.class_names) else str(n) for n in empty[:5])
        measured = f"{len(empty)} of {len(counts)} classes have no training sample: {names}"
        yield CheckResult("empty classes", measured, "samples of every class", (), "leave these classes out")
    elif max(counts) >= _UNEVEN * min(counts):
        measured = f"the largest class has {max(counts)} training samples, the smallest {min(counts)}"
        is_answered = context.parts.settings["data"].get("balanced") or setting(
            context.parts.settings, "loss.class_weights"
        )
        if not is_answered:
            yield CheckResult(
                "uneven classes", measured, f"less than {_UNEVEN} to 1", ("data.balanced=true",)
            )


def _not_finite(split: str, rows: SampleRows, info: DataInfo) -> Iterator[CheckResult]:
    for what, values in (("inputs", rows.inputs), ("targets", rows.targets)):
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            bad = (~torch.isfinite(values.flatten(1) if values.ndim > 1 else values[:, None])).any(1)
            first = int(rows.indices[bad][0])
            measured = (
                f"{int(bad.sum())} of {len(rows)} samples of {split} have {what} that are no finite numbers"
            )
            advice = f"look at sample {first} of {info.name}"
            yield CheckResult("values not finite", measured, "finite numbers", (), advice)


def _scale(rows: SampleRows, info: DataInfo) -> Iterator[CheckResult]:
    """Inputs far from mean 0 and std 1, all together or column by column."""
    x = rows.inputs[torch.isfinite(rows.inputs).all(1)]
    if len(x) < 2:
        return
    mean, std = float(x.mean()), float(x.std(correction=0))
    advice = f"give (x - {mean:.4g}) / {std:.4g} in the data set, with the figures of the training split"
    if abs(mean) > _FAR or std > _FAR or 0 < std < _SMALL:
        measured = f"inputs have mean {mean:.4g} and std {std:.4g}"
        yield CheckResult("inputs not standardised", measured, "mean about 0, std about 1", (), advice)
        return
    if len(info.input_shape) != 1:
        return
    sizes = torch.maximum(x.mean(0).abs(), x.std(0, correction=0))
    worst = int(sizes.argmax())
    if float(sizes[worst]) > _WIDE:
        mean, std = float(x[:, worst].mean()), float(x[:, worst].std(correction=0))
        measured = f"column {worst} has mean {mean:.4g} and std {std:.4g}"
        advice = "standardise every column by the mean and std of the training split"
        yield CheckResult("inputs not standardised", measured, "mean about 0, std about 1", (), advice)


def standardized(x: Tensor, by: Tensor) -> Tensor:
    """Columns of x by the mean and std of those of `by`; constant ones become 0."""
    std = by.std(0, correction=0)
    return (x - by.mean(0)) / torch.where(std > 0, std, torch.ones_like(std))
