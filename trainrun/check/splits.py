"""Samples of each split: read as rows of numbers, and compared for data leaks between splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainrun.augment.pictures import unaugmented
from trainrun.check.context import CheckContext, time_limit
from trainrun.check.finding import CheckSection
from trainrun.loop.windows import Windows
from trainrun.protocols import Batch, BatchSpec

FEWEST, _ROWS = 100, 2048  # of a split, to be looked at closely; fewer have no verdict
_MOST_BYTES = 64 * 1024**2  # of a split, where that are not too few
_ROWS_S, _MOST_S = 3.0, 4.0  # of reading rows of a split, and of reading all of it
_SHARE, _FEWEST_LEAKS = 0.01, 2  # of a split that may be in training: public data hold a few duplicates
_SPREADS = 3  # standard deviations of a count of repeats: 1 in 700 by chance


@dataclass(frozen=True)
class SampleRows:
    """Samples of one split."""

    inputs: Tensor  # (n, F) float32
    targets: Tensor  # (n,) or (n, K), as they are
    indices: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, part: slice | Tensor) -> SampleRows:
        return SampleRows(self.inputs[part], self.targets[part], self.indices[part])


def read_splits(context: CheckContext) -> Mapping[str, SampleRows]:
    """The first samples of training, each once, and of the other splits; none where they are no numbers."""
    sizes, seed = context.parts.info.sizes, context.parts.settings["seed"]
    splits = {"train": rows(Windows(unaugmented(context.parts.data), BatchSpec(64, 1), seed).first_epoch())}
    for split in ("val", "test"):
        if sizes.get(split, 0) != 0:
            splits[split] = rows(context.parts.data.eval_batches(split))
    return {split: samples for split, samples in splits.items() if samples is not None and len(samples)}


def rows(batches: Iterable[Batch]) -> SampleRows | None:
    """The first samples, copied to the host; None where inputs or targets are no tensors, or are tokens."""
    is_over, parts, room = time_limit(_ROWS_S, 4), list[tuple[Tensor, Tensor, Tensor]](), _ROWS
    for batch in batches:
        inputs, targets = batch.inputs, batch.targets
        if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor) and inputs.is_floating_point()):
            return None
        if not parts:
            sample_bytes = 4 * max(1, inputs.numel() // max(1, len(batch)))  # in float32
            room = min(_ROWS, max(FEWEST, _MOST_BYTES // sample_bytes))
        copied = inputs[:room].cpu().float().flatten(1).clone()  # without what the samples were part of
        parts.append((copied, targets[:room].cpu(), torch.as_tensor(batch.indices)[:room].cpu()))
        room -= len(batch)
        if room <= 0 or is_over():
            break
    if not parts:
        return None
    whole = SampleRows(*map(torch.cat, zip(*parts, strict=True)))
    firsts = np.unique(whole.indices.numpy(), return_index=True)[1]  # a class drawn more often repeats them
    return whole[torch.from_numpy(np.sort(firsts))]


def splits(context: CheckContext) -> CheckSection:
    """Samples are the same where all bytes of their inputs, as the model sees them, are."""
    info, section = context.parts.info, CheckSection("splits")
    if info.kind == "tokens" or info.sizes["train"] is None:
        text = "not compared: no two samples of a text or stream need to differ"
        return CheckSection("splits", [("shared", text)])
    names = [split for split in ("train", "val", "test") if info.sizes.get(split)]
    counters = {split: hashes_of(context.parts.data.eval_batches(split)) for split in names}
    counts = {split: counter for split, counter in counters.items() if counter is not None}
    if len(counts) < len(names):
        return CheckSection("splits", [("shared", "not compared: inputs are no tensors")])
    pairs = [(a, b) for a in names for b in names[names.index(a) + 1 :]]
    section.values = {f"{b} in {a}": _compare(section, context, (a, b), counts) for a, b in pairs}
    total = counts["train"].total()
    section.lines.append(("train", f"{total - len(counts['train'])} of {total} samples repeat another one"))
    return section


def hashes_of(batches: Iterable[Batch]) -> Counter[int] | None:
    """How often each input occurs, of those that there is time to read; None where they are no tensors."""
    counts, is_over = Counter[int](), time_limit(_MOST_S, 4)
    for batch in batches:
        if not isinstance(batch.inputs, Tensor):
            return None
        array = batch.inputs.cpu().contiguous().flatten(1).numpy()
        counts.update(hash(row.tobytes()) for row in array)
        if is_over():
            break
    return counts


def _compare(
    section: CheckSection, context: CheckContext, pair: tuple[str, str], counts: Mapping[str, Counter[int]]
) -> int:
    """How many samples of the second split are in the first.

    They are a leak where those of the first repeat each other less, which in tables of few values they do.
    """
    (first, second), sizes = pair, context.parts.info.sizes
    ours, theirs = counts[first], counts[second]
    common, total = sum(theirs[digest] for digest in theirs.keys() & ours.keys()), theirs.total()
    text = f"{common} of {total} samples of {second} are also in {first}"
    read = ", ".join(f"{counts[split].total()} of {sizes[split]} of {split}" for split in pair)
    is_whole = all(counts[split].total() == sizes[split] for split in pair)
    text += "" if is_whole else f" (compared in the time there is: {read})"
    section.lines.append((f"{first}, {second}", text))
    usual = sum(count for count in ours.values() if count > 1) / ours.total() * total
    allowed = usual + _SPREADS * math.sqrt(usual)
    if common < max(_FEWEST_LEAKS, _SHARE * total) or not (common > allowed or ours == theirs):
        return common
    if common == total and isinstance(context.setting(f"data.{second}"), dict):
        fix, advice = [f"data.{second}=null"], "a share of train is then held out"
    else:
        fix, advice = [], f"take them out of {first}"
    section.add("data leak between splits", text, "no sample in two splits", *fix, advice=advice)
    return common
