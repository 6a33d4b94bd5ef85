"""Runs that were trained once, broken in known ways or well: the verdicts that they must get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainrun.doctor import diagnose
from trainrun.doctor.curves import read

RUNS = sorted((Path(__file__).parent / "runs").glob("*.jsonl"))
# What was done to them; the others are well.
DONE = {
    "2_samples": "validation at chance",
    "30_sigmoid_layers": "vanishing gradient",
    "batch_of_1_with_batch_norm": "batch norm on tiny batches",
    "clipping_binds": "clipping always binding",
    "dead_relu": "dead units",
    "fp16_overflow": "fp16 overflow",
    "lr_x0.001": "learning rate too low",
    "lr_x1000": "learning rate too high",
    "lr_x1000_mlp": "learning rate too high",
    "memorised_noise": "overfitting",
    "NaN": "NaN",
    "no_normalisation": "learning rate too high",
    "shuffled_labels": "validation at chance",
    "zeros_init": "dead units",
    "zeros_init_mlp": "dead units",
}


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_a_trained_run_gets_its_verdict(file: Path, tmp_path: Path) -> None:
    head, *lines = file.read_text().splitlines()
    about = json.loads(head)
    (tmp_path / "config.yaml").write_text(about["config"])
    (tmp_path / "status.json").write_text(json.dumps(about["status"]))
    (tmp_path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    named = [found.symptom.name for found in diagnose(read(tmp_path))]
    assert named[:1] == ([DONE[file.stem]] if file.stem in DONE else [])


def test_every_broken_run_is_kept() -> None:
    assert {*DONE} < {file.stem for file in RUNS}
