"""MLflow itself, in the run's folder: every step once, whatever was resumed, and training as without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_run_lies_in_its_folder_and_a_resume_goes_on_with_it(
    command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    from mlflow.tracking import MlflowClient

    code = "def probe(model, batches, step): return {'p': next(iter(batches)).inputs[0], 'double': 2 * step}"
    (tmp_path / "my_probe.py").write_text(code)
    short = ("model=linear", "budget=2ep", "data.limit=64")
    command(*short, "logger=none", "loop.probes=[my_probe.probe]", "run_dir=plain")
    command(*short, "logger=mlflow", "loop.probes=[my_probe.probe]", "run_dir=shown")
    plain, shown = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("plain", "shown"))
    assert plain == shown
    command("resume", "shown", "budget=3ep")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=(tmp_path / "shown" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("trainrun")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "adamw"
    history = client.get_metric_history(run.info.run_id, "probe/double")
    assert [(point.step, point.value) for point in history] == [(2, 4.0), (4, 8.0), (6, 12.0)]
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "probe/p")]
    assert pictures == [f"probe/p/step-{step:09d}.png" for step in (2, 4, 6)]
