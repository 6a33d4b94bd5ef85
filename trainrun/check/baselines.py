"""Baselines on the inputs: whether targets follow from them at all; shuffled labels, labels off by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

from trainrun.check.context import CheckContext
from trainrun.check.data import standardized
from trainrun.check.finding import CheckSection
from trainrun.check.splits import FEWEST, SampleRows

_ROWS = 1024  # of a split: the ridge solves a system of this size
_NEIGHBOURS = 5  # few enough for small classes, and one odd neighbour does not decide
_CHANCE = 2.0  # standard deviations: 1 in 44 unrelated data sets passes for related, by each method
_RARE = 20  # samples below which nothing can be said of a class
_BETTER = 0.2  # accuracy by which labels off by one must fit better: neighbouring classes are alike too


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
