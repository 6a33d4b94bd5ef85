"""Runs that were trained once, broken in known ways or well: the verdicts that they must get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainrun.doctor.curves import read
from trainrun.doctor.diagnosis import _reckoned, diagnose

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
    named = [diagnosis.symptom.name for diagnosis in diagnose(read(tmp_path))]
    assert named[:1] == ([DONE[file.stem]] if file.stem in DONE else [])


def test_every_broken_run_is_kept() -> None:
    assert {*DONE} < {file.stem for file in RUNS}


@pytest.mark.parametrize("in_memory", [True, False])
def test_more_loader_processes_are_for_data_that_need_some(in_memory: bool, tmp_path: Path) -> None:
    config = "batch_size: 32\ndata: {_target_: trainrun.data.digits, num_workers: 0}\n"
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "environment.json").write_text(json.dumps({"in_memory": in_memory}))
    lines = [{"event": "train", "step": index, "time": 4.0 * index, "data_wait": 0.6} for index in range(9)]
    (tmp_path / "timing.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (diagnosis,) = diagnose(read(tmp_path))
    assert diagnosis.symptom.name == "data-starved"
    overrides = [override for remedy in diagnosis.remedies for override in remedy.overrides]
    assert overrides == [*([] if in_memory else ["data.num_workers=4"]), "batch_size=128"]


@pytest.mark.parametrize(
    ("budget", "twice"),
    [("20ep", "40ep"), ("1.5h", "3h"), ("1h30min", "1h30min"), ("many", "many"), ("1.2.3ep", "1.2.3ep")],
)
def test_a_budget_is_doubled_where_it_has_one_unit(budget: str, twice: str) -> None:
    assert _reckoned(0.1, 8, 1.0, budget, "group")["budget*2"] == twice


HOSTILE = (None, True, -1, 10**400, 1e999, "x", "\x1b[2J", [], [1], {}, {"a": {"b": {"a": 1}}}, {"a": "b"})


@pytest.mark.parametrize(
    "key", ["step", "to", "loss", "accuracy", "epoch", "update_ratio", "skipped", "where"]
)
def test_values_that_no_run_wrote_do_not_stop_it(key: str, tmp_path: Path) -> None:
    """Neither an error nor a control code, whatever stands in one place of every record."""
    (tmp_path / "config.yaml").write_text("precision: {_target_: trainrun.precision.fp16}\nbatch_size: 2\n")
    for value in HOSTILE:
        records: list[dict[str, object]] = []
        for step in range(0, 500, 50):
            records.append(
                {"event": "train", "step": step, "loss": 2.0, "skipped": step, "update_ratio": 1.0}
            )
            records.append(
                {"event": "eval", "split": "val", "step": step, "loss": 2.0 + step, "accuracy": 0.1}
            )
            records.append({"event": "nonfinite", "step": step} if step == 100 else {"event": "other"})
        records.append({"event": "rollback", "step": 500, "to": 480})
        lines = [json.dumps(record | {key: value}) for record in records]
        for name in ("metrics.jsonl", "timing.jsonl"):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / "status.json").write_text(json.dumps({"state": value, "monitor": value, "reason": value}))
        for diagnosis in diagnose(read(tmp_path)):
            assert diagnosis.evidence.isprintable()
