"""Whether samples of the validation or test split are in the training split, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from torch import Tensor

from trainrun.check.bench import Bench, Patience
from trainrun.check.finding import Finding, Section, setting
from trainrun.protocols import Batch

_MOST_S = 4.0  # of reading, for each split
_SHARE, _FEWEST = 0.01, 2  # of a split that may be in training by chance


def splits(bench: Bench) -> Section:
    """Samples are the same where all bytes of their inputs, as the model sees them, are."""
    parts = bench.parts
    sizes = parts.info.sizes
    if parts.info.kind == "tokens" or sizes["train"] is None:
        return Section(
            "splits", (("shared", "not compared: no two samples of a text or stream need to differ"),)
        )
    names = [split for split in ("train", "val", "test") if sizes.get(split)]
    hashes = {split: hashes_of(parts.data.eval_batches(split)) for split in names}
    if any(one is None for one in hashes.values()):
        return Section("splits", (("shared", "not compared: inputs are no tensors"),))
    known = {split: one for split, one in hashes.items() if one is not None}
    lines, findings, values = [], [], {}
    pairs = [(a, b) for a in names for b in names[names.index(a) + 1 :]]
    for first, second in pairs:
        common = sum(count for digest, count in known[second].items() if digest in known[first])
        total = known[second].total()
        lines.append((f"{first}, {second}", f"{common} of {total} samples of {second} are in {first}, too"))
        values[f"{second} in {first}"] = common
        if common >= max(_FEWEST, _SHARE * total):
            findings.append(_leak(bench, first, second, common, total))
    inside = known["train"].total() - len(known["train"])
    lines.append(("train", f"{inside} of {known['train'].total()} samples repeat another one"))
    return Section("splits", tuple(lines), tuple(findings), values)


def hashes_of(batches: Iterable[Batch]) -> Counter[int] | None:
    """How often each input occurs, of those that there is time to read; None where they are no tensors."""
    found, patience = Counter[int](), Patience(_MOST_S, 4 * _MOST_S)
    for batch in batches:
        if not isinstance(batch.inputs, Tensor):
            return None
        array = batch.inputs.cpu().contiguous().flatten(1).numpy()
        found.update(hash(row.tobytes()) for row in array)
        if patience.is_over:
            break
    return found


def _leak(bench: Bench, first: str, second: str, common: int, total: int) -> Finding:
    """The whole split is the same, or some of its samples are."""
    measured = f"{common} of {total} samples of {second} are in {first}, too"
    is_own = isinstance(setting(bench.parts.settings, f"data.{second}"), dict)
    mend = (f"data.{second}=null",) if is_own and common == total else ()
    advice = f"take them out of {first}" if not mend else "a share of train is then held out"
    return Finding("data leak between splits", measured, "no sample in two splits", mend, advice)
