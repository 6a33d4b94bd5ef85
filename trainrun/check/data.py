"""The data as the model sees them: counts, ranges, NaN; baselines: whether targets follow from inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

from trainrun.check.context import CheckContext
from trainrun.check.finding import CheckSection
from trainrun.check.splits import FEWEST, SampleRows
from trainrun.protocols import DataInfo

FEW, _PER_CLASS = 10, 2  # training samples
_FAR, _SMALL = 5.0, 0.02  # means and stds of inputs: pixels from 0 to 1 pass, from 0 to 255 do not
_WIDE = 20.0  # of the mean or std of a single column, in other units than the rest
_UNEVEN = 20  # the largest class by the smallest: then the smallest hardly moves the loss
_ROWS = 1024  # of a split: the ridge solves a system of this size
_NEIGHBOURS = 5  # few enough for small classes, and one odd neighbour does not decide
_CHANCE = 2.0  # standard deviations: 1 in 44 unrelated data sets passes for related, by each method
_RARE = 20  # samples below which nothing can be said of a class
_BETTER = 0.2  # accuracy by which labels off by one must fit better: neighbouring classes are alike too


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


def probe(context: CheckContext, samples: Mapping[str, SampleRows]) -> CheckSection:
    """Predict each sample from the others, by nearest neighbours and by ridge regression."""
    info, train, section = context.parts.info, samples.get("train"), CheckSection("probe")
    if train is None or len(train) < FEWEST or info.kind not in ("classes", "labels", "values"):
        return section
    train = train[:_ROWS]
    if not bool(torch.isfinite(train.inputs).all()):
        return section
    x = standardized(train.inputs, train.inputs)
    y = _wide(train.targets, info.num_targets)
    guesses = {"nearest neighbours": _by_neighbours(x, y), "ridge regression": _by_ridge(x, y)}
    are_classes = info.kind == "classes"
    what, figure, chance = "correlation", _correlation, "0 is chance"
    if are_classes:
        chance = f"the largest class alone has {float(y.mean(0).max()):.2f}"
        what, figure = "accuracy", _accuracy
    section.values = {name: figure(guess, y) for name, guess in guesses.items()}
    figures = ", ".join(f"{name} {value:.2f}" for name, value in section.values.items())
    section.lines.append(("from inputs", f"{what} of {figures}; {chance}"))
    if not any(_is_better(guess, y, are_classes) for guess in guesses.values()):
        measured = f"{what} of {figures} over {len(train)} training samples: no better than chance ({chance})"
        advice = "are labels and inputs paired in the wrong order? "
        advice += "or it is a relation that neither method sees"
        section.add("targets unrelated to inputs", measured, "better than chance", advice=advice)
    elif are_classes:
        for split, rows in samples.items():
            if split != "train" and len(rows):
                _off_by_one(section, split, rows[:_ROWS], train)
    return section


def _wide(targets: Tensor, num_classes: int) -> Tensor:
    """(n, K) float32: one column per class, label or value."""
    if targets.ndim == 1 and not targets.is_floating_point():
        return F.one_hot(targets, num_classes).float()
    return targets.float().reshape(len(targets), -1)


def _by_neighbours(x: Tensor, y: Tensor) -> Tensor:
    """Every sample's target as the mean of its nearest ones, itself left out. (n, K)"""
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(math.inf)
    means: Tensor = y[distances.topk(_NEIGHBOURS, largest=False).indices].mean(1)
    return means


def _by_ridge(x: Tensor, y: Tensor) -> Tensor:
    """Every sample's target as ridge regression on the others gives it, in closed form. (n, K)

    With H the matrix that maps targets to fitted values, the prediction without sample i is
    (fitted - h_ii y_i) / (1 - h_ii) (Allen, 1974).
    """
    count = len(x)
    kernel = (x.double() @ x.double().T) / x.shape[1] + 1.0  # with a constant
    hat = torch.linalg.solve(kernel + 0.01 * count * torch.eye(count, dtype=torch.float64), kernel)
    leverage = hat.diagonal()[:, None]
    guess: Tensor = (hat @ y.double() - leverage * y.double()) / (1 - leverage)
    return guess.float()


def _accuracy(guess: Tensor, y: Tensor) -> float:
    return float((guess.argmax(1) == y.argmax(1)).float().mean())


def _correlation(guess: Tensor, y: Tensor) -> float:
    """Of the column where it is largest."""
    a, b = guess - guess.mean(0), y - y.mean(0)
    norms = (a.norm(dim=0) * b.norm(dim=0)).clamp(min=1e-12)
    return float(((a * b).sum(0) / norms).max())


def _is_better(guess: Tensor, y: Tensor, are_classes: bool) -> bool:
    """Whether a guess is better than by chance.

    Of classes also where one is told from the others: of rare ones the best guess is always the largest.
    """
    count = len(y)
    if are_classes:
        chance = float(y.mean(0).max())
        if (1 - chance) * count < _RARE:
            return True  # too few of the others to tell
        if _accuracy(guess, y) > chance + _CHANCE * math.sqrt(chance * (1 - chance) / count):
            return True
        common = (y.sum(0) >= _RARE) & ((1 - y).sum(0) >= _RARE)
        guess, y = guess[:, common], y[:, common]
    if not y.shape[1]:
        return False
    # The best of several columns is further from 0 by chance.
    above = NormalDist().inv_cdf(1 - NormalDist().cdf(-_CHANCE) / y.shape[1])
    return _correlation(guess, y) > above / math.sqrt(count)


def _off_by_one(section: CheckSection, split: str, rows: SampleRows, train: SampleRows) -> None:
    """The classes of a split's neighbours in training, beside its own and beside those plus or minus 1."""
    x, other = standardized(train.inputs, train.inputs), standardized(rows.inputs, train.inputs)
    guess = train.targets[torch.cdist(other, x).argmin(1)]
    fits = {by: float((guess == rows.targets + by).float().mean()) for by in (0, -1, 1)}
    section.lines.append((split, f"its labels are those of its nearest neighbours in train: {fits[0]:.2f}"))
    best = max(fits, key=lambda by: fits[by])
    if best == 0 or fits[best] < fits[0] + _BETTER or len(rows) < 20:
        return
    measured = f"labels of {split} agree with their nearest neighbours in train in {fits[0]:.0%} of "
    verb = "added to" if best > 0 else "subtracted from"
    measured += f"{len(rows)} samples, with 1 {verb} them in {fits[best]:.0%}"
    advice = f"one of the two counts classes from another number: {split} or train"
    section.add("labels off by one class", measured, "the same classes in all splits", advice=advice)
