"""`best`, `last` or a step, by what the run's records and its last save say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from trainrun.session.open_run import open_run
from trainrun.session.stored_weights import choose_checkpoint, load_weights
from trainrun.vocabulary.errors import ResumeError


def record_best(run: Path, step: int | None) -> None:
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"best": {"step": step}}))


def test_best_last_and_a_step(run: Path) -> None:
    record_best(run, 2)
    best, last, step = (choose_checkpoint(run, name) for name in ("best", "last", "2"))
    assert (best.step, best.is_best, best.is_last) == (2, True, False)
    assert (last.step, last.is_best, last.is_last) == (4, False, True)
    assert step == best and best.path.name == "step-000000002"
    record_best(run, 4)
    assert choose_checkpoint(run, "best").step == 4


@pytest.mark.parametrize("checkpoint", ["3", "-1", "first", "\N{SUPERSCRIPT TWO}", ""])
def test_one_that_is_not_there_is_answered_with_those_that_are(checkpoint: str, run: Path) -> None:
    with pytest.raises(ResumeError, match="there are best, last and steps 2, 4"):
        choose_checkpoint(run, checkpoint)


def test_a_damaged_checkpoint_is_not_chosen(run: Path) -> None:
    record_best(run, 4)
    with (run / "checkpoints/step-000000004/state.pt").open("r+b") as file:
        file.write(b"damage")
    choice = choose_checkpoint(run, "best")
    assert (choice.step, choice.is_last) == (2, True)
    shutil.rmtree(run / "checkpoints/step-000000002")
    with pytest.raises(ResumeError, match="holds no valid checkpoint: step-000000004 "):
        choose_checkpoint(run, "last")


def test_the_weights_are_those_of_the_file(run: Path) -> None:
    choice = choose_checkpoint(run, "2")
    parts = open_run(run).parts
    assert load_weights(parts, choice) == "raw"
    stored = torch.load(choice.path / "state.pt", weights_only=True)["model"]
    for name, weight in parts.state.model.state_dict().items():
        assert torch.equal(weight, stored[name])
