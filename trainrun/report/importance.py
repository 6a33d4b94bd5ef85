"""Which swept settings tell what a job comes to: rank correlation, and the share of the ranking explained."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from trainrun.report.scale import is_number, text_of
from trainrun.sweep.folder import StoredSweep, SweptJob

ENOUGH = 8  # completed jobs
_PARTS, _IN_EACH = 5, 4  # parts of a range of numbers, and how many jobs each is to have at least
_BY_CHANCE = 0.05  # of sweeps in which nothing matters are told that something does
_MAINLY = 0.75  # of what a setting explains is explained by one direction


@dataclass(frozen=True)
class SettingImportance:
    """What one setting tells, over `count` jobs."""

    key: str
    count: int
    share: float  # of the differences in rank, 0 to 1
    correlation: float | None  # -1 to 1; None where not all values are numbers
    is_felt: bool  # it tells more than chance would
    is_steady: bool  # the metric goes one way with it
    best: Any  # its value in the best job


def keys_of(sweep: StoredSweep) -> list[str]:
    """The swept settings with more than one value, in their order; seed and fold are none of them."""
    return _varied([one.swept for one in sweep.settings])


def repeats_of(sweep: StoredSweep) -> list[str]:
    """What the jobs differ in besides: seed and fold."""
    own = {key for one in sweep.settings for key in one.swept}
    return [key for key in _varied([one.swept for one in sweep.jobs]) if key not in own]


def told(sweep: StoredSweep) -> list[SettingImportance]:
    """What each swept setting tells, the most telling first; nothing of too few completed jobs, or of
    jobs that all came to the same.
    """
    jobs = [one for one in sweep.jobs if one.is_completed and one.value is not None]
    keys = keys_of(sweep)
    level = statistics.NormalDist().inv_cdf(1 - _BY_CHANCE / 2 / max(1, len(keys)))
    found = [_told(key, [one for one in jobs if key in one.swept], sweep.mode, level) for key in keys]
    return sorted(filter(None, found), key=lambda one: -one.share)


def _told(key: str, jobs: Sequence[SweptJob], mode: str, level: float) -> SettingImportance | None:
    """`level`: how many standard deviations are more than chance.

    Without any relation the rank correlation has 1 / sqrt(count - 1), and H of Kruskal and Wallis, of
    which the share is made, 2 (groups - 1) as its variance.
    """
    values = [one.value for one in jobs if one.value is not None]
    swept = [one.swept[key] for one in jobs]
    if len(values) < ENOUGH or len(set(values)) < 2 or len({text_of(one) for one in swept}) < 2:
        return None
    are_numbers = all(map(is_number, swept))
    groups: list[Hashable] = [*_parts(swept)] if are_numbers else [text_of(one) for one in swept]
    kinds, share = len(set(groups)), explained(groups, values)
    is_felt = share * (len(values) - kinds) > level * math.sqrt(2 * (kinds - 1))
    correlation = rank_correlation(swept, values) if are_numbers else None
    is_correlated = correlation is not None and abs(correlation) * math.sqrt(len(values) - 1) > level
    pick = max if mode == "max" else min
    return SettingImportance(
        key=key,
        count=len(values),
        share=share,
        correlation=correlation,
        is_felt=is_felt or is_correlated,
        is_steady=is_correlated and (correlation or 0.0) ** 2 > _MAINLY * share,
        best=swept[values.index(pick(values))],
    )


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's: that of the ranks, equal values sharing their mean rank."""
    return statistics.correlation(ranks(xs), ranks(ys))


def explained(groups: Sequence[Hashable], ys: Sequence[float]) -> float:
    """The share of the variance of the ranks of `ys` that lies between the groups, less what chance puts
    there; 0 to 1. It is (H - k + 1) / (n - k), with H of Kruskal and Wallis for k groups of n.
    """
    ranked, inside = ranks(ys), dict[Hashable, list[float]]()
    for rank, group in zip(ranked, groups, strict=True):
        inside.setdefault(group, []).append(rank)
    if len(inside) >= len(ys):
        return 0.0
    mean = statistics.fmean(ranked)
    total = sum((one - mean) ** 2 for one in ranked)
    between = sum(len(some) * (statistics.fmean(some) - mean) ** 2 for some in inside.values())
    share = (between / total * (len(ys) - 1) - (len(inside) - 1)) / (len(ys) - len(inside))
    return min(1.0, max(0.0, share))


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the least; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    before = 0
    for _, same in itertools.groupby(order, key=values.__getitem__):
        places = list(same)
        for place in places:
            found[place] = before + (len(places) + 1) / 2
        before += len(places)
    return found


def _parts(values: Sequence[float]) -> list[float]:
    """Each value itself, where they are few; else which fifth it belongs to, of few jobs which half."""
    parts = min(_PARTS, len(values) // _IN_EACH)
    if len(set(values)) <= parts:
        return list(values)
    return [math.ceil(rank / len(values) * parts) for rank in ranks(values)]


def _varied(swept: Sequence[Any]) -> list[str]:
    keys = dict.fromkeys(key for one in swept for key in one)
    missing = object()
    return [
        key for key in keys if len({missing if key not in one else text_of(one[key]) for one in swept}) > 1
    ]
