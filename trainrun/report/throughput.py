"""What a search for the batch size came to: tables, small curves and a picture of throughput and memory."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from trainrun.assembly.costs import megabytes
from trainrun.terminal.braille import path
from trainrun.terminal.chart import span
from trainrun.terminal.table import cut, laid_out
from trainrun.tune.batch import Found, TriedSize, are_alike
from trainrun.tune.trial import Survey

_BLANK = "\N{BRAILLE PATTERN BLANK}"
_AXIS, _HEIGHT, _WIDEST = 9, 5, 60


@dataclass(frozen=True)
class BatchSearch:
    """Both searches, and the command that trains with what they found."""

    survey: Survey
    limit: str  # in words
    train: Found
    judged: Found | None
    not_judged: str  # why there is none
    whole: TriedSize  # a run that trains and evaluates with what was found
    overrides: Sequence[str]
    command: str
    notes: Sequence[tuple[str, str]]


def lines(search: BatchSearch, width: int) -> list[Text]:
    """For people; the command at the end is never broken."""
    survey, found = search.survey, search.train
    taken = "" if survey.on_gpu else f"; {_megabytes(survey.built_bytes)} are taken before the first step"
    out = _paragraph(f"on {survey.device}, limit: {search.limit}{taken}", width)
    kept = f"{survey.window} samples a step, cut into micro-batches; the product stays"
    out += [Text(), *_paragraph(f"training: {kept}", width, "bold")]
    out += [*_table(("batch_size", "loop.accumulate"), found, width), *_curve(found, width)]
    if any(one.is_beyond for one in found.tried):
        out += _paragraph(
            f"  more than {survey.window} would be another run: for the throughput alone", width
        )
    if search.judged is None:
        out += [Text(), *_paragraph(f"evaluation: {search.not_judged}", width)]
    else:
        samples = f"{survey.split_size} samples" if survey.split_size else "a stream without length"
        out += [Text(), Text(f"evaluation: {survey.split}, {samples}", "bold")]
        out += [*_table(("data.eval_batch_size",), search.judged, width), *_curve(search.judged, width)]
    together = f"; steps and an evaluation with them take {_memory(search.whole)}" if search.judged else ""
    out += [Text(), *_paragraph(f"the largest that fit: {' '.join(search.overrides)}{together}", width)]
    for text in rivals(search):
        out += _paragraph(text, width)
    for label, text in search.notes:
        out += _paragraph(f"{label}: {text}" if label else text, width)
    return [*out, Text(), Text(f"  {search.command}")]


def rivals(search: BatchSearch) -> list[str]:
    """Of each search the smaller size that is as fast, or faster, if there is one."""
    told = []
    for found, is_training in ((search.train, True), (search.judged, False)):
        if found is None or (one := found.rival) is None:
            continue
        words = f"batch_size={one.size} loop.accumulate={one.pieces}"
        words = words if is_training else f"data.eval_batch_size={one.size}"
        top = found.largest
        how = "as fast, within noise" if are_alike(one, top) else "faster"
        rates = f"{_rate(one)} to {_rate(top)} samples/s"
        told.append(f"{words} is {how}: {rates}, with {_memory(one)} to {_memory(top)}")
    return told


def _table(heads: Sequence[str], found: Found, width: int) -> list[Text]:
    gpu = any(one.reserved_bytes is not None for one in found.tried)
    rows = [[*heads, "samples/s", "memory", *(["reserved"] if gpu else []), ""]]
    for one in found.tried:
        sizes = [str(one.size), str(one.pieces)][: len(heads)]
        told = "the largest that fits" if one is found.largest else one.why
        told = "beyond the window" if one.is_beyond and not told else told
        reserved = [_megabytes(one.reserved_bytes)] if gpu else []
        rows.append([*sizes, _rate(one), _memory(one), *reserved, told])
    return _with_words(rows, width)


def _with_words(rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """Figures to the right, what is said of each behind them."""
    lines = laid_out([row[:-1] for row in rows], left=0)
    for line, row in zip(lines, rows, strict=True):
        if row[-1]:
            told = cut(row[-1], max(24, width - line.cell_len - 2))
            line.append(f"  {told}", "green" if row[-1].startswith("the largest") else "dim")
    return lines


def _curve(found: Found, width: int) -> list[Text]:
    """Samples per second over the size, which doubles at even distances; nothing of a single size."""
    points = [(math.log2(one.size), one.samples_per_s) for one in found.tried if one.samples_per_s]
    if len(points) < 2:
        return []
    inner = max(10, min(width, _WIDEST) - _AXIS - 1)
    top = max(rate for _, rate in points)
    drawn = path(points, inner, _HEIGHT, span([at for at, _ in points]), (0.0, top))
    ends = {0: f"{top:,.0f}", _HEIGHT - 1: "0"}
    rows = [row.replace(_BLANK, " ") for row in drawn]
    out = [Text(f"{ends.get(at, ''):>{_AXIS}} {row}".rstrip()) for at, row in enumerate(rows)]
    first, last = (f"{2**at:.0f}" for at in (points[0][0], points[-1][0]))
    return [*out, Text(f"{'':{_AXIS}} {first}{last:>{max(1, inner - len(first))}}", style="dim")]


def _paragraph(text: str, width: int, style: str = "") -> list[Text]:
    indent = text[: len(text) - len(text.lstrip())]
    wrapped = textwrap.wrap(text, width, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
    return [Text(one, style) for one in wrapped]


def _rate(one: TriedSize) -> str:
    rate = one.samples_per_s
    return "-" if not rate else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _memory(one: TriedSize) -> str:
    return _megabytes(one.peak_bytes or None)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{megabytes(size)} MB"


def record(search: BatchSearch) -> dict[str, Any]:
    """The search as one JSON object."""
    judged = [asdict(one) for one in search.judged.tried] if search.judged else []
    return {
        "device": search.survey.device,
        "limit": search.limit,
        "window": search.survey.window,
        "built_bytes": search.survey.built_bytes,
        "train": [asdict(one) for one in search.train.tried],
        "eval": judged,
        "batch_size": search.train.largest.size,
        "accumulate": search.train.largest.pieces,
        "eval_batch_size": search.judged.largest.size if search.judged else None,
        "run": asdict(search.whole),
        "overrides": list(search.overrides),
        "as_fast": rivals(search),
        "notes": [list(one) for one in search.notes],
        "command": search.command,
    }


def picture(search: BatchSearch, file: Path) -> None:
    """Write throughput and memory over the size into one picture, a column for each search."""
    from matplotlib.figure import Figure

    found = {"training, batch_size": search.train}
    if search.judged is not None:
        found["evaluation, data.eval_batch_size"] = search.judged
    figure = Figure(figsize=(4.8 * len(found), 6), layout="constrained")
    grid = figure.subplots(2, len(found), squeeze=False, sharex="col")
    for column, (title, one) in enumerate(found.items()):
        _draw(grid[0][column], one, [t.samples_per_s for t in one.tried if t.samples_per_s], "samples/s")
        _draw(grid[1][column], one, [t.peak_bytes / 1e6 for t in one.tried if t.samples_per_s], "memory, MB")
        grid[1][column].set_xlabel(title)
    grid[0][0].legend(fontsize="small")
    figure.savefig(file, dpi=130)


def _draw(axes: Any, found: Found, values: Sequence[float], unit: str) -> None:
    ran = [one for one in found.tried if one.samples_per_s]
    axes.plot([one.size for one in ran], values, marker="o", linewidth=1.5)
    axes.axvline(found.largest.size, color="C2", linestyle="--", label="the largest that fits")
    for at, one in enumerate([one for one in found.tried if one.fits is False]):
        axes.axvline(one.size, color="C3", linestyle=":", label="" if at else "does not fit")
    axes.set_xscale("log", base=2)
    ticks = sorted({one.size for one in found.tried})
    axes.set_xticks(ticks, [str(one) for one in ticks], rotation=45, fontsize="small")
    axes.minorticks_off()
    axes.set_ylim(0, 1.08 * max(values))
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
