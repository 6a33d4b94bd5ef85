"""What is read from a folder, whoever wrote it; and figures of curves against their formulas."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from trainrun.doctor.curves import Curve, read
from trainrun.vocabulary.errors import ResumeError


def curve(*values: float) -> Curve:
    return Curve(tuple(range(len(values))), values)


def written(folder: Path, *records: object, config: str = "batch_size: 8\n") -> Path:
    (folder / "config.yaml").write_text(config)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_the_end_of_a_curve_is_a_median_and_one_leap_is_none() -> None:
    assert curve(5, 4, 1, 1, 9).last == 1
    assert curve(3.0).last == 3.0
    assert curve(*range(40)).last == 34.5  # of the last ten
    assert curve(3, 9, 2, 1, 1).smooth.values == (3, 3, 2, 1, 1)
    assert curve(3, 9).smooth.values == (3, 9)


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_noise_is_that_of_neighbours_whatever_the_trend(slope: float) -> None:
    draw = random.Random(0)
    values = [slope * index + draw.gauss(0, 0.5) + (100 if index % 50 == 0 else 0) for index in range(8000)]
    assert curve(*values).noise == pytest.approx(0.5, rel=0.1)


def test_events_are_told_apart_and_what_a_rollback_gave_up_is_forgotten(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        *({"event": "train", "step": step, "loss": step / 10} for step in (10, 20, 30)),
        {"event": "eval", "split": "val", "step": 30, "loss": 7.0},
        {"event": "nonfinite", "step": 31, "where": "the loss", "answer": "rollback"},
        {"event": "rollback", "step": 31, "to": 20, "lr_factor": 0.5},
        {"event": "train", "step": 30, "loss": 5.0},
        {"event": "eval", "split": "test", "step": 30, "loss": 8.0},
    )
    run = read(folder)
    assert run.curve("train", "loss") == Curve((10, 20, 30), (1.0, 2.0, 5.0))
    assert not run.curve("val", "loss")
    assert (run.step, len(run.nonfinite), run.number("batch_size")) == (30, 1, 8)


def test_what_is_no_number_is_no_point_and_of_groups_the_smallest_counts(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        {"event": "train", "step": 1, "loss": None, "nonfinite": True, "update_ratio": {"a": 0.5, "b": 0.25}},
        {"event": "train", "step": 2, "loss": 1.0, "update_ratio": {"a": None, "b": 0.125}},
    )
    assert read(folder).curve("train", "loss").values == (1.0,)
    assert read(folder).curve("train", "update_ratio").values == (0.25, 0.125)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", '"text"', "null", '{"event": "train", "step": "x", "loss": 1}', "[" * 100_000]
    + [
        '{"event": "train", "step": 3, "loss": "x"}',
        '{"event": "train", "step": 3, "loss": 1e999}',
        "\x00\x1b",
    ],
    ids=["half", "list", "number", "text", "null", "no step", "deep", "no loss", "infinite", "codes"],
)
def test_lines_that_no_run_wrote_are_left_out(line: str, tmp_path: Path) -> None:
    good = {"event": "train", "step": 5, "loss": 1.0}
    assert read(written(tmp_path, line, good)).curve("train", "loss").values == (1.0,)


def test_a_config_that_no_run_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError):
        read(written(tmp_path, config="a: &x [1]\nb: *x\n"))


@pytest.mark.parametrize(
    ("monitor", "names", "metric"),
    [
        ("val/accuracy", ("loss", "accuracy"), "accuracy"),
        ("val/loss", ("loss", "accuracy"), "accuracy"),
        ("val/loss", ("loss", "r2", "mae"), "r2"),
        ("val/perplexity", ("loss", "perplexity"), "loss"),
        ("val/loss", ("loss", "perplexity", "accuracy"), "loss"),
        ("val/my_score", ("loss", "accuracy", "my_score"), "my_score"),
        ("", (), "loss"),
    ],
)
def test_the_metric_is_one_that_tells_how_good(
    monitor: str, names: tuple[str, ...], metric: str, tmp_path: Path
) -> None:
    records = [{"event": "eval", "split": "val", "step": 1, **dict.fromkeys(names, 1.0)}] if names else []
    folder = written(tmp_path, *records)
    (folder / "status.json").write_text(json.dumps({"monitor": monitor}))
    assert read(folder).metric == metric


def test_a_metric_of_which_less_is_better_does_not_tell(tmp_path: Path) -> None:
    record = {"event": "eval", "split": "val", "step": 1, "loss": 1.0, "error_rate": 0.1}
    folder = written(tmp_path, record, config="monitor_mode: min\n")
    (folder / "status.json").write_text('{"monitor": "val/error_rate"}')
    assert read(folder).metric == "loss"


def test_each_record_is_parsed_once_and_each_curve_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"event": "train", "step": step, "loss": 0.5} for step in range(1, 5001)]
    folder, parsed, loads = written(tmp_path, *rows, "{broken"), list[int](), json.loads

    def counted(text: str) -> object:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    run = read(folder)
    assert sum(parsed) < 1.2 * (folder / "metrics.jsonl").stat().st_size  # the last lines twice
    assert run.unread == 1 and len(run.curve("train", "loss")) == 5000
    assert run.curve("train", "loss") is run.curve("train", "loss")
