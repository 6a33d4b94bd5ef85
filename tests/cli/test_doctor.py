"""`trainrun doctor`: a verdict from the folder alone, without torch, and commands that can be pasted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainrun.cli.main import main

CONFIG = """\
batch_size: 32
budget: 20ep
model: {_target_: trainrun.model.mlp.MLP, width: 64, depth: 2, activation: relu, norm: none, dropout: 0.0}
optimizer: {_target_: trainrun.optimizer.adamw, lr: 2.0}
scheduler: {_target_: trainrun.scheduler.warmup_cosine, warmup: 5%}
init: {_target_: trainrun.init.Auto}
precision: {_target_: trainrun.precision.fp32}
loop: {clip: {norm: null, value: null}, nonfinite: stop}
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path[:])


def store(
    losses: list[float], accuracy: float, name: str = "demo", overrides: str = "[]", **more: Any
) -> Path:
    """A run with a log each 50 steps and an evaluation beside it."""
    folder = Path("outputs") / "2026-01-02" / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / ".hydra" / "overrides.yaml").write_text(overrides)
    status = {"state": "completed", "monitor": "val/accuracy", "name": name, "started": 1.0}
    (folder / "status.json").write_text(json.dumps(status | more))
    lines = []
    for step, loss in enumerate(losses, 1):
        base = {"step": 50 * step, "epoch": float(step), "loss": loss}
        lines.append({"event": "train", **base, "lr": 2.0 / step, "grad_norm": 1.5, "update_ratio": 0.003})
        lines.append({"event": "eval", "split": "val", "weights": "raw", **base, "accuracy": accuracy})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


GOOD = [2.0, 1.0, 0.6, 0.4, 0.3, 0.25, 0.22, 0.21]
BAD = [0.5, 0.3, 0.3, 0.4, 4.0, 5.0, 6.0, 6.0]


def test_a_healthy_run_gets_one_line_and_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    store(GOOD, 0.95)
    assert main(["doctor", "demo"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("healthy: 400 steps, training loss 2.0000 to 0.2100, ")
    assert "best accuracy 0.9500" in out and not err


@pytest.mark.parametrize("losses", [[], GOOD[:3]])
def test_a_run_of_few_points_is_not_called_healthy(
    losses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    store(losses, 0.95)
    assert main(["doctor", "demo"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("no verdict: ")
    assert re.search(r"log more often, as with loop.log_every=\d+step", out)
    assert main(["doctor", "demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_damaged_records_and_no_validation_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    file = store(GOOD, 0.95) / "metrics.jsonl"
    assert main(["doctor", "demo"]) == 0
    assert "without" not in capsys.readouterr().out
    lines = [line for line in file.read_text().splitlines() if '"train"' in line]
    file.write_text("\n".join(['{"step": 4, "tra', *lines, "7", "garbage"]))
    assert main(["doctor", "demo"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "without a validation split nothing shows overfitting" in out
    assert "3 lines of its records cannot be read" in out


def test_a_run_that_diverged_gets_the_evidence_and_its_own_command_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store(BAD, 0.9, overrides="- model=mlp\n- optimizer.lr=2\n- name=demo\n- 'augment=[a b]'\n")
    assert main(["doctor", "demo"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("outputs/2026-01-02/demo: diverged\n")
    assert "at step 250: the training loss rose from 0.3000 at step" in " ".join(out.split())
    assert "trainrun model=mlp 'augment=[a b]' optimizer.lr=0.67\n" in out
    assert "scheduler.warmup=10%" in out and "loop.clip.norm=1.0" in out
    assert all(len(line) <= 110 or line.strip().startswith("trainrun ") for line in out.splitlines())


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    store(BAD, 0.9)
    assert main(["doctor", "last", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["healthy"] is False
    (symptom,) = record["symptoms"]
    assert symptom["symptom"] == "diverged" and "at step 250" in symptom["evidence"]
    assert [remedy["command"] for remedy in symptom["remedies"]] == [
        "trainrun optimizer.lr=0.67",
        "trainrun scheduler.warmup=10%",
        "trainrun loop.clip.norm=1.0",
    ]


def test_it_imports_no_torch() -> None:
    store(BAD, 0.9)
    code = (
        "import sys; from trainrun.cli.main import main; code = main(['doctor', 'demo']);"
        "sys.exit(code if not {'torch', 'numpy', 'hydra'} & set(sys.modules) else 99)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize("text", ["{", "&a [*a]", "7", "- [1]\n- 2\n", "x" * 300_000, "- 'a=\x1b[2J'\n"])
def test_overrides_that_no_run_wrote_are_left_out(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    store(BAD, 0.9, overrides=text)
    assert main(["doctor", "demo"]) == 3
    out = capsys.readouterr().out
    assert "  trainrun optimizer.lr=0.67\n" in out and "\x1b" not in out


def test_a_run_that_does_not_exist_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "nothing"]) == 5
    assert main(["doctor"]) == 2
    assert "Traceback" not in capsys.readouterr().err
