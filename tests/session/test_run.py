"""trainrun.Run and trainrun.history: a stored run as Python values."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import trainrun
from trainrun.vocabulary.errors import ResumeError

SHORT = ["model=mlp", "model.width=8", "budget=4step", "data.limit=60", "logger=none", "runtime.threads=1"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_is_its_records_and_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = trainrun.train([*SHORT, "name=mine", "loop.log_every=2step", "loop.eval_every=2step"])
    run = trainrun.Run("mine")
    assert (
        run == trainrun.Run("last") == trainrun.Run(result.run_dir) == trainrun.Run(str(result.run_dir)[:-1])
    )
    assert run.path == result.run_dir.absolute()
    assert (run.status["state"], run.status["step"], run.status["name"]) == ("completed", 4, "mine")
    assert run.config == run.settings and run.config["model"]["width"] == 8
    assert run.metrics == {split: dict(metrics) for split, metrics in result.metrics.items()}
    assert run.history() == trainrun.history("mine") == result.history()
    assert [step for step, _ in run.history()["train/loss"]] == [2, 4]
    assert run.history()["val/accuracy"][-1] == (4, run.metrics["val"]["accuracy"])
    monkeypatch.chdir(tmp_path.parent)  # it stays the same run
    assert isinstance(run.load("last"), nn.Module) and isinstance(run.model(), nn.Module)
    assert run.evaluate("test", "last").keys() == run.metrics["test"].keys()
    rows = run.predictions("val", "last")
    hits = sum(row["predicted"] == row["target"] for row in rows)
    assert hits / len(rows) == pytest.approx(run.evaluate("val", "last")["accuracy"])


def test_a_history_is_a_table_of_pandas_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("outputs/a")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    lines = [
        {"event": "train", "step": 2, "loss": 0.5},
        {"event": "train", "step": 4, "loss": 0.25},
        {"event": "eval", "split": "val", "step": 3, "accuracy": 0.75},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(trainrun.ConfigError, match=r"frame: a table needs pandas.*pip install pandas"):
            trainrun.history("a", frame=True)
    pandas = pytest.importorskip("pandas", reason="needs pip install pandas")
    table = trainrun.history("a", frame=True)
    assert isinstance(table, pandas.DataFrame)
    assert (table.index.name, list(table.index)) == ("step", [2, 3, 4])
    assert table["train/loss"].dropna().to_dict() == {2: 0.5, 4: 0.25}
    assert table["val/accuracy"].dropna().to_dict() == {3: 0.75}


def test_a_run_is_frozen_and_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(ResumeError, match="there is no run"):
        trainrun.Run("last")
    with pytest.raises(ResumeError, match="no run is called"):
        trainrun.history("nothing")
    folder = Path("outputs/a")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    run = trainrun.Run("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.path = folder  # type: ignore[misc]
    assert (run.metrics, run.history(), run.settings) == ({}, {}, {"seed": 0})
    (folder / "status.json").write_text(json.dumps({"state": "running"}))
    assert run.status == {"state": "died"}


def test_records_are_read_without_torch() -> None:
    folder = Path("outputs/a")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "metrics.jsonl").write_text('{"event": "train", "step": 3, "loss": 0.5}\n')
    code = """
import sys, trainrun
from trainrun import Run, history
assert "omegaconf" not in sys.modules
run = Run("a")
print(history("a"), run.history(), run.status, run.metrics, run.settings, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    curves = {"train/loss": [(3, 0.5)]}
    assert done.stdout.strip() == f"{curves} {curves} {{'state': 'running'}} {{}} {{'seed': 0}} False", done
