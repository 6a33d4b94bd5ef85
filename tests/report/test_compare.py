"""What differs between runs stored by hand, and which is best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.task_facts import metric_modes
from trainrun.report.compare import ComparedRun, best_of, differing, record, stored, table
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.gan import Adversarial
from trainrun.task.language_model import LanguageModel
from trainrun.task.masked_lm import MaskedLM
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression


def store(folder: Path, lr: float, accuracy: float, name: str | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True)
    settings = (
        f"seed: 0\nname: {name or 'null'}\noptimizer:\n  _target_: trainrun.optimizer.adamw\n  lr: {lr}\n"
    )
    (folder / "config.yaml").write_text(settings + more.pop("settings", "monitor_mode: auto\n"))
    status = {"state": "completed", "name": name or folder.name, "monitor": "val/accuracy", "step": 20}
    status |= {
        "best": {"step": 10, "metrics": {"loss": 0.5, "accuracy": accuracy}},
        "test": {"accuracy": 0.5},
    }
    (folder / "status.json").write_text(json.dumps(status | more))
    (folder / "result.json").write_text(json.dumps({"parameters": 12, "skipped_steps": 0, "spikes": 0}))
    lines = [
        {"event": "train", "step": 10, "epoch": 1.0, "loss": 1.0, "accuracy": 0.25, "lr": lr},
        {"event": "train", "step": 20, "epoch": 2.0, "loss": 1 - accuracy, "accuracy": 0.5, "lr": lr},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[ComparedRun]:
    paths = [store(tmp_path / "a", 0.1, 0.75, "demo"), store(tmp_path / "b", 0.01, 0.875)]
    return stored([*paths, store(tmp_path / "c", 0.1, 0.875, state="interrupted")])


def text(runs: list[ComparedRun], width: int) -> list[str]:
    return [line.plain for line in table(runs, width)]


def test_only_what_differs_is_shown_with_the_best_marked(runs: list[ComparedRun], tmp_path: Path) -> None:
    lines = text(runs, 400)  # wide enough for any temporary folder's path
    assert lines[0] == f"A  demo, {tmp_path}/a"
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ") and line.strip()}
    assert rows == {
        "A": ["B", "C"],
        "optimizer.lr": ["0.1", "0.01", "0.1"],
        "val/accuracy": ["0.7500", "0.8750", "*", "0.8750", "*"],
        "train/loss": ["0.2500", "0.1250", "0.1250"],
    }
    assert text(runs, 200)[-1] == "equal in all: 3 settings, val/loss, test/accuracy, train/accuracy"
    assert lines[2].endswith("c, interrupted")


def test_a_setting_that_one_run_lacks_differs(tmp_path: Path) -> None:
    more = "monitor_mode: auto\nregularization:\n  ema:\n    decay: 0.9\n"
    first, other = store(tmp_path / "a", 0.1, 0.5), store(tmp_path / "b", 0.1, 0.5, settings=more)
    lines = text(stored([first, other]), 80)
    assert "  regularization.ema.decay  -    0.9" in lines
    same = stored([first, store(tmp_path / "c", 0.1, 0.5)])
    assert text(same, 200)[-1].startswith("no setting differs; equal in all: 4 settings, val/accuracy")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_many_runs_stand_in_blocks_that_fit(width: int, tmp_path: Path) -> None:
    runs = stored([store(tmp_path / f"{n:02}", 0.001 * n, 0.01 * n) for n in range(1, 13)])
    lines = text(runs, width)
    assert max(map(len, lines)) <= width
    heads = [
        line.split() for line in lines if line.startswith("  ") and set(line.split()) <= set("ABCDEFGHIJKL")
    ]
    assert [letter for line in heads for letter in line] == list("ABCDEFGHIJKL")
    rates = [word for line in lines if "optimizer.lr" in line for word in line.split()[1:]]
    assert rates == [f"{0.001 * n:g}" for n in range(1, 13)]
    assert sum(line.count("*") for line in lines) == 1


def test_which_way_is_better_is_what_the_tasks_say() -> None:
    modes: dict[str, str] = {}
    for task in (Adversarial, Binary, Classification, LanguageModel, MaskedLM, Multilabel, Regression):
        modes |= task.metric_modes
    modes |= {"top5": "max", "mean_iou": "max"}  # of more than five classes, of those of pixels
    modes |= {"frechet": "min"}  # of generated pictures
    assert modes == metric_modes()


def test_an_own_metric_goes_the_way_that_the_run_says(tmp_path: Path) -> None:
    def best_run(mode: str) -> list[str]:
        values = {"monitor": "val/mine", "settings": f"monitor_mode: {mode}\n"}
        best = [{"step": 10, "metrics": {"mine": value}} for value in (1.0, 2.0)]
        paths = [
            store(tmp_path / mode / str(n), 0.1, 0.5, best=index, **values) for n, index in enumerate(best)
        ]
        return [run.mark for run in best_of("val/mine", stored(paths))]

    assert (best_run("max"), best_run("min"), best_run("auto")) == (["B"], ["A"], [])


def test_times_and_training_have_no_best(runs: list[ComparedRun]) -> None:
    assert not best_of("train/loss", runs) and not best_of("steps", runs) and not best_of("val/loss", runs)


def test_keys_of_a_group_stand_together() -> None:
    assert differing([{"a.x": 1, "b": 1, "c": 1}, {"a.x": 2, "b": 2, "a.y": 1, "c": 1}]) == [
        "a.x",
        "a.y",
        "b",
    ]


def test_a_record_holds_all_results_and_what_differs(runs: list[ComparedRun], tmp_path: Path) -> None:
    recorded = record(runs[1], runs)
    assert recorded["settings"] == {"optimizer.lr": 0.01}
    assert recorded["best_in"] == ["val/accuracy"]
    expected = {"val/accuracy": 0.875, "val/loss": 0.5, "test/accuracy": 0.5, "best_step": 10, "steps": 20}
    expected |= {"train/loss": 0.125, "train/accuracy": 0.5, "epochs": 2.0, "parameters": 12}
    assert recorded["results"] == expected | {"skipped_steps": 0, "spikes": 0}
    assert (recorded["run"], recorded["name"], record(runs[0], runs)["name"]) == (
        str(tmp_path / "b"),
        None,
        "demo",
    )


def test_a_run_that_has_only_begun_can_be_compared(tmp_path: Path) -> None:
    first = store(tmp_path / "a", 0.1, 0.5)
    new = store(tmp_path / "b", 0.2, 0.5, state="running", best=None, test=None, step=0)
    (new / "metrics.jsonl").unlink()
    (new / "result.json").unlink()
    lines = text(stored([first, new]), 400)
    assert any(line.endswith("b, died") for line in lines)
    assert any(line.split() == ["val/accuracy", "0.5000", "-"] for line in lines)
