"""What a search for the batch size came to: tables, small curves and a picture of throughput and memory."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from trainrun.assembly.costs import megabytes
from trainrun.terminal.braille import BLANK, path
from trainrun.terminal.chart import at_ends, framed, inner_width, span
from trainrun.terminal.table import cut, laid_out
from trainrun.tune.batch import BatchSearchResult, TriedSize, are_alike
from trainrun.tune.batch_search import BatchSearch

_HEIGHT, _WIDEST = 5, 60


def lines(search: BatchSearch, width: int) -> list[Text]:
    """For people; the command at the end is never broken."""
    survey, training, evaluation = search.survey, search.train, search.evaluation
    taken = "" if survey.on_gpu else f"; {_megabytes(survey.built_bytes)} are taken before the first step"
    out = _paragraph(f"on {survey.device}, limit: {search.limit}{taken}", width)
    window = f"{survey.window} samples a step, cut into micro-batches; the product stays"
    out += [Text(), *_paragraph(f"training: {window}", width, "bold")]
    out += [*_table(("batch_size", "loop.accumulate"), training, width), *_curve(training, width)]
    if any(trial.is_beyond for trial in training.tried):
        beyond = f"  more than {survey.window} would be another run: for the throughput alone"
        out += _paragraph(beyond, width)
    largest = f"the largest that fit: {' '.join(search.overrides)}"
    if evaluation is None:
        out += [Text(), *_paragraph(f"evaluation: {search.no_evaluation}", width)]
    else:
        samples = f"{survey.split_size} samples" if survey.split_size else "a stream without length"
        out += [Text(), Text(f"evaluation: {survey.split}, {samples}", "bold")]
        out += [*_table(("data.eval_batch_size",), evaluation, width), *_curve(evaluation, width)]
        largest += f"; steps and an evaluation with them take {_memory(search.whole)}"
    notes = [f"{label}: {text}" if label else text for label, text in search.notes]
    out.append(Text())
    for text in (largest, *rivals(search), *notes):
        out += _paragraph(text, width)
    return [*out, Text(), Text(f"  {search.command}")]


def rivals(search: BatchSearch) -> list[str]:
    """Of each search the smaller size that is as fast, or faster, if there is one."""
    texts = []
    for search_result, is_training in ((search.train, True), (search.evaluation, False)):
        if search_result is None or (rival := search_result.rival) is None:
            continue
        words = f"batch_size={rival.size} loop.accumulate={rival.pieces}"
        words = words if is_training else f"data.eval_batch_size={rival.size}"
        top = search_result.largest
        how = "as fast, within noise" if are_alike(rival, top) else "faster"
        rates = f"{_rate(rival)} to {_rate(top)} samples/s"
        texts.append(f"{words} is {how}: {rates}, with {_memory(rival)} to {_memory(top)}")
    return texts


def _table(heads: Sequence[str], tried_sizes: BatchSearchResult, width: int) -> list[Text]:
    """Figures to the right, what is said of each behind them."""
    on_gpu = any(trial.reserved_bytes is not None for trial in tried_sizes.tried)
    rows, remarks = [[*heads, "samples/s", "memory", *(["reserved"] if on_gpu else [])]], [""]
    for trial in tried_sizes.tried:
        sizes = [str(trial.size), str(trial.pieces)][: len(heads)]
        reserved = [_megabytes(trial.reserved_bytes)] if on_gpu else []
        rows.append([*sizes, _rate(trial), _memory(trial), *reserved])
        remark = "the largest that fits" if trial is tried_sizes.largest else trial.why
        remarks.append(remark or ("beyond the window" if trial.is_beyond else ""))
    lines = laid_out(rows, left=0)
    for line, remark in zip(lines, remarks, strict=True):
        if remark:
            style = "green" if remark.startswith("the largest") else "dim"
            line.append(f"  {cut(remark, max(24, width - line.cell_len - 2))}", style)
    return lines


def _curve(tried_sizes: BatchSearchResult, width: int) -> list[Text]:
    """Samples per second over the size, which doubles at even distances; nothing of a single size."""
    ran = [trial for trial in tried_sizes.tried if trial.samples_per_s]
    points = [(math.log2(trial.size), trial.samples_per_s) for trial in ran]
    if len(points) < 2:
        return []
    inner, top = inner_width(width, _WIDEST), max(rate for _, rate in points)
    drawn = path(points, inner, _HEIGHT, span([x for x, _ in points]), (0.0, top))
    rows = [Text(row.replace(BLANK, " ")) for row in drawn]
    return framed(rows, f"{top:,.0f}", "0", at_ends(str(ran[0].size), str(ran[-1].size), inner))


def _paragraph(text: str, width: int, style: str = "") -> list[Text]:
    indent = text[: len(text) - len(text.lstrip())]
    wrapped = textwrap.wrap(text, width, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
    return [Text(line, style) for line in wrapped]


def _rate(trial: TriedSize) -> str:
    rate = trial.samples_per_s
    return "-" if not rate else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _memory(trial: TriedSize) -> str:
    return _megabytes(trial.peak_bytes or None)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{megabytes(size)} MB"


def record(search: BatchSearch) -> dict[str, Any]:
    """The search as one JSON object."""
    evaluation = [asdict(trial) for trial in search.evaluation.tried] if search.evaluation else []
    return {
        "device": search.survey.device,
        "limit": search.limit,
        "window": search.survey.window,
        "built_bytes": search.survey.built_bytes,
        "train": [asdict(trial) for trial in search.train.tried],
        "eval": evaluation,
        "batch_size": search.train.largest.size,
        "accumulate": search.train.largest.pieces,
        "eval_batch_size": search.evaluation.largest.size if search.evaluation else None,
        "run": asdict(search.whole),
        "overrides": list(search.overrides),
        "as_fast": rivals(search),
        "notes": [list(note) for note in search.notes],
        "command": search.command,
    }


def picture(search: BatchSearch, file: Path) -> None:
    """Write throughput and memory over the size into one picture, a column for each search."""
    from matplotlib.figure import Figure

    searches = {"training, batch_size": search.train}
    if search.evaluation is not None:
        searches["evaluation, data.eval_batch_size"] = search.evaluation
    figure = Figure(figsize=(4.8 * len(searches), 6), layout="constrained")
    grid = figure.subplots(2, len(searches), squeeze=False, sharex="col")
    for column, (title, search_result) in enumerate(searches.items()):
        ran = [trial for trial in search_result.tried if trial.samples_per_s]
        _draw(grid[0][column], search_result, {t.size: t.samples_per_s for t in ran}, "samples/s")
        _draw(grid[1][column], search_result, {t.size: t.peak_bytes / 1e6 for t in ran}, "memory, MB")
        grid[1][column].set_xlabel(title)
    grid[0][0].legend(fontsize="small")
    figure.savefig(file, dpi=130)


def _draw(axes: Any, tried_sizes: BatchSearchResult, values: Mapping[int, float], unit: str) -> None:
    axes.plot([*values], [*values.values()], marker="o", linewidth=1.5)
    axes.axvline(tried_sizes.largest.size, color="C2", linestyle="--", label="the largest that fits")
    for index, trial in enumerate([trial for trial in tried_sizes.tried if trial.fits is False]):
        axes.axvline(trial.size, color="C3", linestyle=":", label="" if index else "does not fit")
    axes.set_xscale("log", base=2)
    ticks = sorted({trial.size for trial in tried_sizes.tried})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45, fontsize="small")
    axes.minorticks_off()
    axes.set(ylim=(0, 1.08 * max(values.values())), ylabel=unit)
    axes.grid(alpha=0.3)
