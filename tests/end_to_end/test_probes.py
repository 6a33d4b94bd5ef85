"""Own numbers and pictures through the command: known values, in every logger, without effect on training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CODE = '''
import os
import random
import signal
import numpy as np
import torch
from matplotlib import pyplot


def look(model, batches, step):
    """The accuracy again, a picture, a figure, a text and a table; and as much disorder as it can."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    torch.set_grad_enabled(True)
    right = [(model(batch.inputs).argmax(1) == batch.targets).float() for batch in batches]
    model.train()
    first = next(iter(batches))
    torch.nn.functional.cross_entropy(model(first.inputs), first.targets).backward()
    figure, axes = pyplot.subplots(figsize=(1, 1))
    axes.plot([0, step])
    ramp = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    rows = [{"class": int(label), "step": step} for label in first.targets[:3]]
    again, note = torch.cat(right).mean(), f"step {step}"
    return {"again": again, "ramp": ramp, "line": figure, "note": note, "rows": rows}


def fails(model, batches, step):
    return {"x": [1][step]}


def trains(model, batches, step):
    with torch.no_grad():
        next(model.parameters()).mul_(0.5)
    return {}


def draws(model, batches, step, count):
    if step == 4 and os.path.exists("stop"):
        os.remove("stop")
        os.kill(os.getpid(), signal.SIGTERM)
    return {"draw": torch.rand(count).sum() * step, "spread": torch.rand(2).std()}
'''
SHORT = ("model=mlp", "model.width=8", "model.dropout=0.5", "data.limit=64", "budget=3ep", "logger=none")


@pytest.fixture(autouse=True)
def my_probes(tmp_path: Path) -> None:
    (tmp_path / "my_probes.py").write_text(CODE)


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_what_a_probe_returns_is_everywhere_and_training_is_the_same(
    command: Callable, tmp_path: Path
) -> None:
    command(*SHORT, "run_dir=plain")
    done = command(
        *SHORT, "loop.probes=[my_probes.look]", "logger=[console,tensorboard,csv]", "run_dir=probed"
    )
    plain, probed = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "probed"))
    assert "".join(line for line in probed.splitlines(True) if '"probe"' not in line) == plain
    run = tmp_path / "probed"
    evaluations = [record for record in records(run, "eval") if record["split"] == "val"]
    values = [record["again"] for record in records(run, "probe")]
    assert values == pytest.approx([record["accuracy"] for record in evaluations]) and len(values) == 3

    folder = run / "probes" / "step-000000006"
    ramp = np.asarray(Image.open(folder / "ramp.png"))
    assert np.array_equal(ramp, np.arange(256).reshape(16, 16))
    assert (folder / "note.txt").read_text() == "step 6"
    assert [row["step"] for row in csv.DictReader((folder / "rows.csv").read_text().splitlines())] == [
        "6"
    ] * 3
    assert {path.name for path in folder.iterdir()} == {"ramp.png", "line.png", "note.txt", "rows.csv"}

    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [point.value for point in board.Scalars("probe/again")] == pytest.approx(values)
    assert [image.step for image in board.Images("probe/ramp")] == [2, 4, 6]
    assert board.Images("probe/ramp")[0].encoded_image_string == (folder / "ramp.png").read_bytes()
    note, rows = (board.Tensors(f"probe/{name}/text_summary")[-1] for name in ("note", "rows"))
    assert note.tensor_proto.string_val[0] == b"    step 6"
    assert rows.tensor_proto.string_val[0].startswith(b"| class | step |\n| --- | --- |\n| ")
    spread = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [float(row["probe_again"]) for row in spread if row["split"] == "val"] == pytest.approx(values)
    assert "step 6 probe again" in done.err and "pictures and tables: ramp, line, rows" in done.err
    command("plot", "run", "probed", "--out", "p.png")
    command("doctor", "probed")


def test_a_resumed_run_has_the_same_records_and_may_change_its_probes(
    command: Callable, tmp_path: Path
) -> None:
    word = "loop.probes=[{_target_: my_probes.draws, count: 3}]"
    command(*SHORT, word, "run_dir=whole")
    (tmp_path / "stop").touch()
    command(*SHORT, word, "run_dir=parts", code=143)  # a signal during the probe of step 4
    assert [record["step"] for record in records(tmp_path / "parts", "probe")] == [2, 4]
    command("resume", "parts")
    whole, parts = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert parts == whole and b'"draw"' in whole
    done = command("resume", "parts", "loop.probes=[my_probes.look]", "budget=4ep")
    assert "(free)" in next(line for line in done.err.splitlines() if line.startswith("loop.probes"))
    assert "again" in records(tmp_path / "parts", "probe")[-1]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("fails", 1, "loop.probes: my_probes.fails failed at step 2: IndexError: list index out of range"),
        ("trains", 2, "loop.probes: my_probes.trains changed the model that is trained"),
        ("draws", 2, "loop.probes: my_probes.draws must take (model, batches, step)"),
        ("nothing", 2, "loop.probes: my_probes has no nothing"),
    ],
)
def test_a_faulty_probe_ends_the_run_with_its_name(
    name: str, code: int, message: str, command: Callable, tmp_path: Path
) -> None:
    done = command(*SHORT, f"loop.probes=[my_probes.{name}]", "run_dir=run", code=code)
    assert message in done.err and "Traceback" not in done.err
    assert ("(my_probes.py:27)" in done.err) == (name == "fails")
    if code == 1:
        status = json.loads((tmp_path / "run/status.json").read_text())
        assert (status["state"], status["exit_code"]) == ("failed", 1)
        assert message in status["reason"]
    else:
        assert not (tmp_path / "run").exists()


def test_the_best_three_checkpoints_are_kept_and_memory_is_logged(command: Callable, tmp_path: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1", "scheduler=constant", "checkpoint.every=100ep", "budget=9ep")
    done = command(
        *SHORT, *words, "checkpoint.keep_best=3", "checkpoint.keep_last=1", "run_dir=run", "logger=console"
    )
    run = tmp_path / "run"
    evaluations = [record for record in records(run, "eval") if record["split"] == "val"]
    ranked = sorted(evaluations, key=lambda record: (-record["accuracy"], record["loss"], record["step"]))
    expected = {record["step"] for record in ranked[:3]} | {18}
    assert {int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")} == expected
    assert "the last and the best 3 are kept" in done.err
    timing = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    sizes = [record["rss_bytes"] for record in timing if record["event"] == "train"]
    assert sizes and all(50e6 < size < 50e9 for size in sizes)
    assert "rss_bytes" not in (run / "metrics.jsonl").read_text()
