"""Distillation from a stored run: what it must come to, and which teachers are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

DATA = ("data=iris", "batch_size=16", "logger=none", "runtime.threads=1", "loop.log_every=1step")
STUDENT = (*DATA, "loss=distillation", "loss.teacher=big", "budget=6step")


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [event["loss"] for event in lines if event["event"] == "train"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").iterdir())
    return torch.load(newest / "state.pt", weights_only=True)["model"]  # type: ignore[no-any-return]


@pytest.fixture
def teacher(command: Callable[..., Any], tmp_path: Path) -> Path:
    command(*DATA, "model=mlp", "model.dropout=0.5", "budget=8step", "name=big", "run_dir=outputs/big")
    return tmp_path / "outputs/big"


def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    command: Callable[..., Any], teacher: Path, tmp_path: Path
) -> None:
    """KL(p || p) is 0, so with alpha 1 no weight moves; a teacher that drops units would move them."""
    same = ("model=mlp", "model.dropout=0", "init_from=big", "loss.alpha=1", "optimizer=sgd", "run_dir=same")
    command(*STUDENT, *same, "scheduler=constant", "augment=none")
    assert losses(tmp_path / "same") == pytest.approx([0.0] * 6, abs=1e-6)
    began = torch.load(best(teacher) / "state.pt", weights_only=True)["model"]
    ended = weights(tmp_path / "same")
    assert all(torch.allclose(began[name], ended[name], atol=1e-6) for name in began)


def best(run: Path) -> Path:
    return run / "checkpoints" / f"step-{json.loads((run / 'status.json').read_text())['best']['step']:09d}"


def test_micro_batches_do_not_change_what_is_learned(
    command: Callable[..., Any], teacher: Path, tmp_path: Path
) -> None:
    student = (*STUDENT, "model=mlp", "model.dropout=0", "model.width=8")
    command(*student, "run_dir=whole")
    command(*student, "batch_size=4", "loop.accumulate=4", "run_dir=cut")
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_a_student_resumes_bit_for_bit_and_is_evaluated_without_its_teacher(
    command: Callable[..., Any], teacher: Path, tmp_path: Path
) -> None:
    student = (*STUDENT, "model=mlp", "model.width=8", "scheduler.also={loss.alpha: {to: 0.1, by: linear}}")
    command(*student, "run_dir=whole")
    command(*student, "budget=3step", "run_dir=parts")
    resumed = command("resume", "parts", "budget=6step")
    assert "budget: 3step -> 6step (takes effect)" in resumed.err
    stored = (tmp_path / "whole/config.yaml").read_text()
    assert f"teacher: outputs/big/checkpoints/{best(teacher).name}" in stored
    environment = json.loads((tmp_path / "whole/environment.json").read_text())["teacher"]
    manifest = json.loads((best(teacher) / "manifest.json").read_text())
    assert environment["sha256"] == manifest["files"]["state.pt"]["sha256"]
    shutil.rmtree(teacher)
    assert "accuracy" in command("eval", "whole").out
    refused = command("resume", "whole", "budget=9step", code=5)
    assert "loss.teacher: no run is called outputs/big/checkpoints/" in refused.err


def test_a_teacher_that_changed_is_refused(
    command: Callable[..., Any], teacher: Path, tmp_path: Path
) -> None:
    command(*STUDENT, "model=mlp", "model.width=8", "run_dir=run")
    file = tmp_path / "run/environment.json"
    environment = json.loads(file.read_text())
    environment["teacher"]["sha256"] = "0" * 64  # of other weights in the same place
    file.write_text(json.dumps(environment))
    refused = command("resume", "run", "budget=9step", code=5)
    assert "has changed since the run began; start a new run" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("loss.teacher=nobody",), 5, "loss.teacher: no run is called nobody"),
        (("data=wine",), 2, "loss.teacher: was trained with data"),
        (
            ("data.split_seed=1",),
            2,
            "was trained with data.split_seed=0, this run has 1; choose the same data",
        ),
        (("loss.alpha=0",), 2, "loss.alpha: must be a number in (0, 1]"),
        (("loss.temperature=0",), 2, "loss.temperature: must be a number greater than 0"),
        (
            ("data=diabetes",),
            2,
            "loss: distillation compares the logits of classes; it needs task=classification",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(
    command: Callable[..., Any], teacher: Path, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = command(*STUDENT, "model=mlp", *words, "run_dir=new", code=code)
    assert said in done.err
    assert not (tmp_path / "new").exists()


def test_a_strangers_teacher_imports_nothing_of_its_own(
    command: Callable[..., Any], teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w').write('')\nfrom torch import nn\nNet = nn.Linear\n")
    file = teacher / "config.yaml"
    file.write_text(
        file.read_text()
        .replace("trainrun.model.MLP", "evil.Net")
        .replace("trainrun.model.mlp.MLP", "evil.Net")
    )
    assert "evil.Net" in file.read_text()
    done = command(*STUDENT, "model=mlp", "run_dir=new", code=2)
    assert "loss.teacher: " in done.err and "evil" in done.err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "new").exists()


def test_loss_distillation_asks_for_its_teacher(command: Callable[..., Any]) -> None:
    assert "loss.teacher: needs a value: loss.teacher=..." in command("loss=distillation", code=2).err
