"""A teacher is the run's best checkpoint in evaluation mode, and only of the same data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.loss import Distillation
from trainrun.session.stored_weights import choose_checkpoint
from trainrun.session.teacher import with_teacher
from trainrun.vocabulary.errors import ConfigError, DataError, ResumeError

SMALL = ("data=iris", "model=linear", "batch_size=8", "budget=4step", "runtime.threads=1")


def built(*words: str) -> Parts:
    return build(Composer().checked([*SMALL, *words]).settings)


def test_the_best_checkpoint_is_the_network_without_gradients_in_evaluation_mode(run: Path) -> None:
    best = choose_checkpoint(run, "best").path
    parts = with_teacher(built("loss=distillation", "loss.teacher=run"))
    loss = parts.task.loss  # type: ignore[attr-defined]
    assert isinstance(loss, Distillation) and loss.network is not None
    stored = torch.load(best / "state.pt", weights_only=True)["model"]
    assert all(torch.equal(stored[name], value) for name, value in loss.network.state_dict().items())
    assert not loss.network.training and not any(p.requires_grad for p in loss.network.parameters())
    assert parts.teacher is not None and parts.teacher[0] == best
    assert dict(parts.plan)["teacher"] == f"the raw weights in {best}, 0.9 of the loss at temperature 4"


def test_a_checkpoint_may_be_named_itself(run: Path) -> None:
    path = choose_checkpoint(run, "last").path
    parts = with_teacher(built("loss=distillation", f"loss.teacher={path}"))
    assert parts.teacher is not None and parts.teacher[0] == path


def test_other_losses_need_none() -> None:
    parts = built()
    assert with_teacher(parts) is parts


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("loss.teacher=nobody", ResumeError, "^loss.teacher: no run is called nobody"),
        ("loss.teacher=run data.val_fraction=0.1", ConfigError, "data.val_fraction=0.2, this run has 0.1"),
        ("loss.teacher=run data=wine", ConfigError, "data.name=iris, this run has wine"),
    ],
)
def test_what_does_not_fit_is_refused(run: Path, words: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        with_teacher(built("loss=distillation", *words.split()))


def test_other_samples_under_the_same_settings_are_refused(run: Path) -> None:
    parts = built("loss=distillation", "loss.teacher=run")
    parts.state.data = {**parts.state.data, "fingerprint": "other"}
    with pytest.raises(DataError, match=r"^loss.teacher: has seen iris .*; here are iris"):
        with_teacher(parts)


def test_inputs_of_another_scale_are_refused(run: Path) -> None:
    parts = built("loss=distillation", "loss.teacher=run")
    name = next(name for name, value in parts.state.fitted.items() if isinstance(value, torch.Tensor))
    parts.state.fitted[name] = parts.state.fitted[name] + 1
    with pytest.raises(DataError, match=r"^loss.teacher: its inputs were standardised by other numbers"):
        with_teacher(parts)


def test_a_damaged_checkpoint_is_refused(run: Path) -> None:
    path = choose_checkpoint(run, "last").path
    (path / "state.pt").write_bytes(b"")
    with pytest.raises(ResumeError, match=r"^loss.teacher: .*state.pt"):
        with_teacher(built("loss=distillation", f"loss.teacher={path}"))
