"""Importance of a sweep's settings: rank correlation with the metric, and share of the ranking explained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from trainrun.report.values import text_of
from trainrun.run.history import is_number
from trainrun.sweep.folder import StoredSweep, SweptJob

ENOUGH = 8  # completed jobs; of fewer a rank correlation of 0.7 is still chance
_PARTS, _IN_EACH = 5, 4  # parts of a range of numbers, and how many jobs each is to have at least
_BY_CHANCE = 0.05  # share of sweeps in which nothing matters that name a setting all the same
_MAINLY = 0.75  # of what a setting explains is explained by one direction


@dataclass(frozen=True)
class SettingImportance:
    """What one setting explains, over `count` jobs."""

    key: str
    count: int
    share: float  # of the differences in rank, 0 to 1
    correlation: float | None  # -1 to 1; None where not all values are numbers
    is_felt: bool  # it explains more than chance would
    is_steady: bool  # the metric goes one way with it
    best: Any  # its value in the best job


def keys_of(sweep: StoredSweep) -> list[str]:
    """The swept settings with more than one value, in their order, without seed and fold."""
    return _varied([setting.swept for setting in sweep.settings])


def repeats_of(sweep: StoredSweep) -> list[str]:
    """What the jobs differ in besides: seed and fold."""
    keys = {key for setting in sweep.settings for key in setting.swept}
    return [key for key in _varied([job.swept for job in sweep.jobs]) if key not in keys]


def _varied(swept: Sequence[Any]) -> list[str]:
    """Keys that not all jobs have with one value."""
    keys = dict.fromkeys(key for values in swept for key in values)
    texts = {key: {text_of(values[key]) if key in values else None for values in swept} for key in keys}
    return [key for key in keys if len(texts[key]) > 1]


def importances(sweep: StoredSweep) -> list[SettingImportance]:
    """Each swept setting's importance, the largest first.

    Empty for too few completed jobs, or jobs that all came to the same.
    """
    jobs = [job for job in sweep.jobs if job.is_completed and job.value is not None]
    keys = keys_of(sweep)
    # With several settings each must be less likely by chance (Bonferroni).
    level = statistics.NormalDist().inv_cdf(1 - _BY_CHANCE / 2 / max(1, len(keys)))
    rows = [_importance(key, [job for job in jobs if key in job.swept], sweep.mode, level) for key in keys]
    return sorted(filter(None, rows), key=lambda row: -row.share)


def _importance(key: str, jobs: Sequence[SweptJob], mode: str, level: float) -> SettingImportance | None:
    """`level`: how many standard deviations are more than chance.

    Without any relation the rank correlation has 1 / sqrt(count - 1) of them. H of Kruskal and Wallis,
    of which the share is made, has 2 (groups - 1) as its variance.
    """
    values = [job.value for job in jobs if job.value is not None]
    swept = [job.swept[key] for job in jobs]
    texts = [text_of(value) for value in swept]
    if len(values) < ENOUGH or len(set(values)) < 2 or len(set(texts)) < 2:
        return None
    from scipy.stats import spearmanr

    numbers = list(map(float, swept)) if all(map(is_number, swept)) else None
    groups: Sequence[Hashable] = _parts(numbers) if numbers else texts
    count, share = len(set(groups)), explained(groups, values)
    correlation = float(spearmanr(numbers, values).statistic) if numbers else None
    is_correlated = abs(correlation or 0.0) * math.sqrt(len(values) - 1) > level
    return SettingImportance(
        key=key,
        count=len(values),
        share=share,
        correlation=correlation,
        is_felt=is_correlated or share * (len(values) - count) > level * math.sqrt(2 * (count - 1)),
        is_steady=is_correlated and (correlation or 0.0) ** 2 > _MAINLY * share,
        best=swept[values.index((max if mode == "max" else min)(values))],
    )


def explained(groups: Sequence[Hashable], ys: Sequence[float]) -> float:
    """The share of the variance of the ranks of `ys` between the groups, less what chance puts there.

    It is (H - k + 1) / (n - k), with H of Kruskal and Wallis for k groups of n; 0 to 1.
    """
    from scipy.stats import kruskal

    inside: dict[Hashable, list[float]] = {}
    for group, y in zip(groups, ys, strict=True):
        inside.setdefault(group, []).append(y)
    k, n = len(inside), len(ys)
    share = (float(kruskal(*inside.values()).statistic) - k + 1) / (n - k) if k < n else 0.0
    return min(1.0, max(0.0, share))


def _parts(values: Sequence[float]) -> list[float]:
    """Each value itself, where they are few; else which fifth it belongs to, of few jobs which half."""
    from scipy.stats import rankdata

    parts = min(_PARTS, len(values) // _IN_EACH)
    if len(set(values)) <= parts:
        return list(values)
    return [math.ceil(rank / len(values) * parts) for rank in rankdata(values)]
