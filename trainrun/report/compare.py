"""Stored runs side by side: the settings and results that differ, and their curves overlaid."""

from __future__ import annotations

import statistics
import string
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.config.stored import load_stored
from trainrun.config.task_facts import metric_modes
from trainrun.logger.settings import flat
from trainrun.report.values import text_of
from trainrun.run.files import read_json
from trainrun.run.history import Curves, curves_of, epochs_of
from trainrun.run.listing import printable, state_in
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, cut, row_of

MOST = len(string.ascii_uppercase)
_OWN = {"name", "run_dir", "resume"}  # what a run is called, not what it does
_CELL = 18  # columns for a value
_LABEL = 38  # columns for a key
_ABSENT = object()


@dataclass(frozen=True)
class ComparedRun:
    """What a run's folder says of it; `mark` is its letter in tables and pictures."""

    mark: str
    path: Path
    name: str | None  # as given by name=
    state: str
    monitor: str  # "val/accuracy"; empty where nothing is
    settings: Mapping[str, Any]  # "optimizer.lr" -> 0.1
    results: Mapping[str, float | str]  # of val at the best step, of train at the last log
    curves: Curves

    @property
    def title(self) -> str:
        """`A  demo, outputs/2026-11-21/11-28-46`, and how it ended where it did not complete."""
        called = f"{self.name}, {self.path}" if self.name else str(self.path)
        return called if self.state == "completed" else f"{called}, {self.state}"


def stored(paths: Sequence[Path]) -> list[ComparedRun]:
    """The runs of these folders, lettered in their order. Raises ResumeError for a config of none."""
    return [_stored(mark, path) for mark, path in zip(string.ascii_uppercase, paths, strict=False)]


def _stored(mark: str, path: Path) -> ComparedRun:
    status, result, curves = read_json(path / "status.json"), read_json(path / "result.json"), curves_of(path)
    monitor, name = printable(status.get("monitor")), printable(status.get("name"))
    return ComparedRun(
        mark=mark,
        path=path,
        name=name if name and name != path.name else None,
        state=state_in(path, status),
        monitor=monitor,
        settings={
            key: value for key, value in flat(load_stored(path / "config.yaml")).items() if key not in _OWN
        },
        results=_surroundings(path) | _results(status, result, curves, monitor, epochs_of(path)),
        curves=curves,
    )


def _surroundings(path: Path) -> dict[str, str]:
    """Where it ran and on what: commit, versions, device, the data's fingerprint."""
    content = read_json(path / "environment.json")
    parts = {key: content.get(key) for key in ("git", "packages", "data")}
    git, packages, data = (part if isinstance(part, dict) else {} for part in parts.values())
    values = {"commit": str(git.get("commit", ""))[:10], "torch": packages.get("torch")}
    values |= {"device": content.get("device"), "data_fingerprint": str(data.get("fingerprint", ""))[:10]}
    return {key: printable(value) for key, value in values.items() if value}


def _results(
    status: Mapping[str, Any], result: Mapping[str, Any], curves: Curves, monitor: str, epochs: float | None
) -> dict[str, float | str]:
    """The final numbers, of a run that has not come to its end those there are."""
    best = status.get("best") if isinstance(status.get("best"), dict) else {}
    assert isinstance(best, dict)
    best_metrics = {f"val/{name}": value for name, value in _numbers(best.get("metrics")).items()}
    results: dict[str, float | str] = {monitor: best_metrics[monitor]} if monitor in best_metrics else {}
    results |= best_metrics | {f"test/{name}": value for name, value in _numbers(status.get("test")).items()}
    results |= _numbers({"best_step": best.get("step")})
    metric = monitor.partition("/")[2]
    for name in dict.fromkeys(("train/loss", f"train/{metric}")):
        if curve := curves.get(name):
            results[name] = curve[-1][1]
    results |= _numbers({"steps": status.get("step"), "epochs": epochs})
    results |= _numbers({key: result.get(key) for key in ("parameters", "skipped_steps", "spikes")})
    results |= _numbers({"seconds": status.get("seconds")})
    if speeds := [value for _, value in curves.get("speed/samples_per_s", ())]:
        results["samples_per_s"] = round(statistics.median(speeds), 1)
    return results


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, dict):
        return {}
    return {
        printable(name): value
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def differing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all have with one value, those of a group beside each other."""
    keys = list(dict.fromkeys(key for run in runs for key in run))
    heads = list(dict.fromkeys(key.split(".")[0] for key in keys))
    keys.sort(key=lambda key: heads.index(key.split(".")[0]))
    return [key for key in keys if any(run.get(key, _ABSENT) != runs[0].get(key, _ABSENT) for run in runs)]


def best_of(name: str, runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Those with the best value of a metric; none where no way is better, or all are equal."""
    split, _, metric = name.partition("/")
    values = [run.results[name] for run in runs if name in run.results]
    figures = [value for value in values if isinstance(value, (int, float))]
    sign = _better(name, metric, runs) if split in ("val", "test") else 0
    if not sign or len(set(figures)) < 2:
        return []
    top = max(sign * figure for figure in figures)
    return [run for run in runs if name in run.results and sign * float(run.results[name]) == top]


def _better(name: str, metric: str, runs: Sequence[ComparedRun]) -> int:
    """1 where larger is better, -1 where smaller is, 0 where that is not known."""
    modes = {str(run.settings.get("monitor_mode", "auto")) for run in runs if name == run.monitor} - {"auto"}
    if len(modes) == 1:
        return {"max": 1, "min": -1}.get(modes.pop(), 0)
    return {"max": 1, "min": -1}.get(metric_modes().get(metric, ""), 0)


def table(runs: Sequence[ComparedRun], width: int) -> list[Text]:
    """The legend, then what differs, a column per run, in as many blocks as `width` asks for."""
    settings, results = differing([run.settings for run in runs]), differing([run.results for run in runs])
    lines = [
        Text(f"{run.mark}  ", style="bold") + Text(cut(printable(run.title), max(20, width - 3)))
        for run in runs
    ]
    rows = {key: [_setting(key, run) for run in runs] for key in settings}
    figures = {key: [_figure(key, run, best_of(key, runs)) for run in runs] for key in results}
    labels = [printable(key) for key in (*rows, *figures)]
    left = min(_LABEL, max(map(cell_len, labels), default=0))
    widths = [
        min(
            _CELL,
            max(cell_len(row[index]) for row in [[run.mark] * len(runs), *rows.values(), *figures.values()]),
        )
        for index, run in enumerate(runs)
    ]
    for start, end in _blocks(widths, width - left - 2):
        sizes = [left, *widths[start:end]]
        heads = ["", *(run.mark + "  " for run in runs[start:end])]
        lines += [Text(), Text("  " + row_of(heads, sizes, (0,)), style="bold")]
        lines += _section("settings", rows, sizes, start, end)
        lines += _section("results: val at the best step, train at the last log", figures, sizes, start, end)
    same = _same(runs, settings, results)
    return [*lines, Text(), *(Text(line, style="dim") for line in textwrap.wrap(same, width))]


def _section(
    title: str, rows: Mapping[str, Sequence[str]], sizes: Sequence[int], start: int, end: int
) -> list[Text]:
    if not rows:
        return []
    lines = [Text(title, style="dim")]
    for label, cells in rows.items():
        line = Text("  " + row_of([printable(label), *cells[start:end]], sizes, (0,)))
        line.highlight_regex(r"\S+ \*", "bold green")
        lines.append(line)
    return lines


def _blocks(widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Which columns stand beside each other: at least one, and as many as have room."""
    blocks, start, taken = [], 0, 0
    for index, column_width in enumerate(widths):
        if index > start and taken + column_width + GAP > room:
            blocks.append((start, index))
            start, taken = index, 0
        taken += column_width + GAP
    return [*blocks, (start, len(widths))]


def _same(runs: Sequence[ComparedRun], settings: Sequence[str], results: Sequence[str]) -> str:
    """How much is equal, so that nobody looks for it."""
    count = len({key for run in runs for key in run.settings}) - len(settings)
    equal = [printable(key) for key in runs[0].results if key not in results and "/" in key]
    text = f"equal in all: {count} settings" + (f", {', '.join(equal)}" if equal else "")
    return text if settings else f"no setting differs; {text}"


def _figure(key: str, run: ComparedRun, best: Sequence[ComparedRun]) -> str:
    """A result as a cell; the two columns behind it are for the mark of the best."""
    value = run.results.get(key, _ABSENT)
    if isinstance(value, float):
        text = number(value) if "/" in key else f"{value:.4g}"
    else:
        text = _text(value)
    return f"{text} {'*' if run in best else ' '}"


def _setting(key: str, run: ComparedRun) -> str:
    return f"{cut(_text(run.settings.get(key, _ABSENT)), _CELL - 2)}  "


def _text(value: Any) -> str:
    """A setting as it is typed; `-` where the run has none of that name."""
    return "-" if value is _ABSENT else text_of(value)


def record(run: ComparedRun, runs: Sequence[ComparedRun]) -> dict[str, Any]:
    """A run as JSON writes it: the settings that differ, every result, and those it is best in."""
    keys = differing([run.settings for run in runs])
    return {
        "run": str(run.path),
        "name": run.name,
        "state": run.state,
        "settings": {key: run.settings[key] for key in keys if key in run.settings},
        "results": dict(run.results),
        "best_in": [name for name in run.results if run in best_of(name, runs)],
    }
