"""Data leaks: samples of the validation or test split that are in the training split as well."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from torch import Tensor

from trainrun.check.context import CheckContext, Patience
from trainrun.check.finding import CheckResult, CheckSection, setting
from trainrun.protocols import Batch

_MOST_S = 4.0  # of reading, for each split
_SHARE, _FEWEST = 0.01, 2  # of a split that may be in training: public data sets hold a few duplicates
_SPREADS = 3  # standard deviations of a count of repeats: 1 in 700 by chance


def splits(context: CheckContext) -> CheckSection:
    """Samples are the same where all bytes of their inputs, as the model sees them, are."""
    parts = context.parts
    sizes = parts.info.sizes
    if parts.info.kind == "tokens" or sizes["train"] is None:
        return CheckSection(
            "splits", (("shared", "not compared: no two samples of a text or stream need to differ"),)
        )
    names = [split for split in ("train", "val", "test") if sizes.get(split)]
    hashes = {split: hashes_of(parts.data.eval_batches(split)) for split in names}
    if any(counter is None for counter in hashes.values()):
        return CheckSection("splits", (("shared", "not compared: inputs are no tensors"),))
    counts = {split: counter for split, counter in hashes.items() if counter is not None}
    lines, findings, values = [], [], {}
    pairs = [(a, b) for a in names for b in names[names.index(a) + 1 :]]
    for first, second in pairs:
        common = sum(count for digest, count in counts[second].items() if digest in counts[first])
        total = counts[second].total()
        parts_read = [f"{counts[split].total()} of {sizes[split]} of {split}" for split in (first, second)]
        is_whole = all(counts[split].total() == sizes[split] for split in (first, second))
        text = f"{common} of {total} samples of {second} are also in {first}"
        text += "" if is_whole else f" (compared in the time there is: {', '.join(parts_read)})"
        lines.append((f"{first}, {second}", text))
        values[f"{second} in {first}"] = common
        if is_leak(counts[first], counts[second], common):
            findings.append(_leak(context, first, second, text, common == total))
    total = counts["train"].total()
    lines.append(("train", f"{total - len(counts['train'])} of {total} samples repeat another one"))
    return CheckSection("splits", tuple(lines), tuple(findings), values)


def hashes_of(batches: Iterable[Batch]) -> Counter[int] | None:
    """How often each input occurs, of those that there is time to read; None where they are no tensors."""
    counts, patience = Counter[int](), Patience(_MOST_S, 4 * _MOST_S)
    for batch in batches:
        if not isinstance(batch.inputs, Tensor):
            return None
        array = batch.inputs.cpu().contiguous().flatten(1).numpy()
        counts.update(hash(row.tobytes()) for row in array)
        if patience.is_over:
            break
    return counts


def is_leak(first: Counter[int], second: Counter[int], common: int) -> bool:
    """Whether more samples of `second` are in `first` than the samples of `first` repeat each other.

    In tables of few values they do.
    """
    total = second.total()
    usual = sum(count for count in first.values() if count > 1) / first.total() * total
    allowed = usual + _SPREADS * math.sqrt(usual)
    return common >= max(_FEWEST, _SHARE * total) and (common > allowed or first == second)


def _leak(context: CheckContext, first: str, second: str, measured: str, is_all: bool) -> CheckResult:
    """The whole split is the same, or some of its samples are."""
    is_own = isinstance(setting(context.parts.settings, f"data.{second}"), dict)
    fix = (f"data.{second}=null",) if is_own and is_all else ()
    advice = f"take them out of {first}" if not fix else "a share of train is then held out"
    return CheckResult("data leak between splits", measured, "no sample in two splits", fix, advice)
