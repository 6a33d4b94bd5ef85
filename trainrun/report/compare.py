"""Stored runs side by side: the settings and results that differ, and their curves overlaid."""

from __future__ import annotations

import statistics
import string
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from trainrun.config.stored import load_stored
from trainrun.config.task_facts import metric_modes
from trainrun.logger.settings import flat
from trainrun.report.values import text_of
from trainrun.run.files import object_in, read_json
from trainrun.run.history import Curves, curves_of, epochs_of
from trainrun.run.listing import printable, state_in
from trainrun.terminal.chart import Points, thinned
from trainrun.terminal.numbers import number
from trainrun.terminal.table import cut, side_by_side

MOST = len(string.ascii_uppercase)
_OWN = {"name", "run_dir", "resume"}  # what a run is called, not what it does
_CELL = 18  # columns for a value
_LABEL = 38  # columns for a key
_RESULTS = "results: val at the best step, train at the last log"
_COLUMNS = 600  # of a picture, more than any has pixels for a curve
_NOT_SHOWN = ("update_ratio", "dead_units")  # in no table and no panel, and much of a long record
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
    curves: Mapping[str, Points]  # thinned to what can be drawn

    @property
    def title(self) -> str:
        """`A  demo, outputs/2026-11-21/11-28-46`, and how it ended where it did not complete."""
        called = f"{self.name}, {self.path}" if self.name else str(self.path)
        return called if self.state == "completed" else f"{called}, {self.state}"


def stored(paths: Sequence[Path]) -> list[ComparedRun]:
    """The runs of these folders, lettered in their order. Raises ResumeError for a config of none."""
    return [_stored(mark, path) for mark, path in zip(string.ascii_uppercase, paths, strict=False)]


def _stored(mark: str, path: Path) -> ComparedRun:
    status, curves = read_json(path / "status.json"), curves_of(path, _NOT_SHOWN)
    monitor, name = printable(status.get("monitor")), printable(status.get("name"))
    settings = flat(load_stored(path / "config.yaml"))
    return ComparedRun(
        mark=mark,
        path=path,
        name=name if name and name != path.name else None,
        state=state_in(path, status),
        monitor=monitor,
        settings={key: value for key, value in settings.items() if key not in _OWN},
        results=_surroundings(path) | _results(path, status, curves, monitor),
        curves={curve: thinned(points, _COLUMNS) for curve, points in curves.items()},
    )


def _surroundings(path: Path) -> dict[str, str]:
    """Where it ran and on what: commit, versions, device, the data's fingerprint."""
    content = read_json(path / "environment.json")
    git, packages, data = (object_in(content, key) for key in ("git", "packages", "data"))
    values = {"commit": str(git.get("commit", ""))[:10], "torch": packages.get("torch")}
    values |= {"device": content.get("device"), "data_fingerprint": str(data.get("fingerprint", ""))[:10]}
    return {key: printable(value) for key, value in values.items() if value}


def _results(path: Path, status: dict[str, Any], curves: Curves, monitor: str) -> dict[str, float | str]:
    """The final numbers, the monitored one first; of a run that has not come to its end those there are."""
    best, result = object_in(status, "best"), read_json(path / "result.json")
    train_metric = f"train/{monitor.partition('/')[2]}"
    metrics = {f"val/{name}": value for name, value in _numbers(object_in(best, "metrics")).items()}
    results: dict[str, float | str] = {monitor: metrics[monitor]} if monitor in metrics else {}
    results |= metrics | {
        f"test/{name}": value for name, value in _numbers(object_in(status, "test")).items()
    }
    results |= _numbers({"best_step": best.get("step")})
    results |= {name: curves[name][-1][1] for name in ("train/loss", train_metric) if curves.get(name)}
    figures = {"steps": status.get("step"), "epochs": epochs_of(path)}
    figures |= {key: result.get(key) for key in ("parameters", "skipped_steps", "spikes")}
    results |= _numbers(figures | {"seconds": status.get("seconds")})
    if speeds := [value for _, value in curves.get("speed/samples_per_s", ())]:
        results["samples_per_s"] = round(statistics.median(speeds), 1)
    return results


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {printable(name): value for name, value in values.items() if type(value) in (int, float)}


def differing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that not all have with one value, those of a group beside each other."""
    keys = list(dict.fromkeys(key for run in runs for key in run))
    heads = list(dict.fromkeys(key.split(".")[0] for key in keys))
    keys.sort(key=lambda key: heads.index(key.split(".")[0]))
    return [key for key in keys if any(run.get(key, _ABSENT) != runs[0].get(key, _ABSENT) for run in runs)]


def best_of(name: str, runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Those with the best value of a metric; none where no way is better, or all are equal."""
    split, _, metric = name.partition("/")
    modes = {str(run.settings.get("monitor_mode", "auto")) for run in runs if name == run.monitor} - {"auto"}
    mode = modes.pop() if len(modes) == 1 else metric_modes().get(metric)
    having = [run for run in runs if name in run.results]
    if split not in ("val", "test") or mode not in ("max", "min"):
        return []
    values = {float(run.results[name]) for run in having}
    top = max(values, default=None) if mode == "max" else min(values, default=None)
    return [run for run in having if run.results[name] == top] if len(values) > 1 else []


def table(runs: Sequence[ComparedRun], width: int) -> list[Text]:
    """The legend, then what differs, a column per run, in as many blocks as `width` asks for."""
    settings, results = differing([run.settings for run in runs]), differing([run.results for run in runs])
    titles = [cut(printable(run.title), max(20, width - 3)) for run in runs]
    lines = [Text(f"{run.mark}  ", "bold") + Text(title) for run, title in zip(runs, titles, strict=True)]
    first = ["", *(cut(printable(key), _LABEL) for key in (*settings, *results))]
    rows = [[f"{cut(_cell(run.settings, key), _CELL - 2)}  " for run in runs] for key in settings]
    rows += [_figures(key, runs) for key in results]
    columns = [*zip([f"{run.mark}  " for run in runs], *rows, strict=True)]
    for head, *body in side_by_side(first, columns, width):
        for line in body:
            line.highlight_regex(r"\S+ \*", "bold green")
        lines += [Text(), Text(head.plain, style="bold")]
        for title, section in (("settings", body[: len(settings)]), (_RESULTS, body[len(settings) :])):
            lines += [Text(title, style="dim"), *section] if section else []
    same = _same(runs, settings, results)
    return [*lines, Text(), *(Text(line, style="dim") for line in textwrap.wrap(same, width))]


def _same(runs: Sequence[ComparedRun], settings: Sequence[str], results: Sequence[str]) -> str:
    """How much is equal, so that nobody looks for it."""
    count = len({key for run in runs for key in run.settings}) - len(settings)
    equal = [printable(key) for key in runs[0].results if key not in results and "/" in key]
    text = f"equal in all: {count} settings" + (f", {', '.join(equal)}" if equal else "")
    return text if settings else f"no setting differs; {text}"


def _figures(key: str, runs: Sequence[ComparedRun]) -> list[str]:
    """A result of each run as a cell; the two columns behind it are for the mark of the best."""
    best, cells = best_of(key, runs), []
    for run in runs:
        value = run.results.get(key)
        if isinstance(value, float):
            text = number(value) if "/" in key else f"{value:.4g}"
        else:
            text = _cell(run.results, key)
        cells.append(cut(f"{text} {'*' if run in best else ' '}", _CELL))
    return cells


def _cell(values: Mapping[str, Any], key: str) -> str:
    """A value as it is typed; `-` where the run has none of that name."""
    return text_of(values[key]) if key in values else "-"


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
