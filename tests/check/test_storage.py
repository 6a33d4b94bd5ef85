"""A checkpoint goes through a file and back; the disk must hold as many as a run keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trainrun.check.context import CheckContext
from trainrun.check.storage import checkpoint_count, differences, storage


class Forgetful(nn.Module):
    """Computes with a number that its state dict lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.layer(x) * (1 + self.seen)


def test_leaves_that_differ_are_named() -> None:
    ours = {"a": [torch.zeros(2), 1], "b": {"c": float("nan")}, "d": torch.ones(1)}
    same = {"a": [torch.zeros(2), 1], "b": {"c": float("nan")}, "d": torch.ones(1)}
    other = {"a": [torch.zeros(2), 2], "b": {"c": 0.0}, "d": torch.ones(1).double()}
    assert differences(ours, same) == []
    assert differences(ours, other) == ["a/1", "b/c", "d"]


def test_what_is_no_number_is_the_same_as_another(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    nan = torch.tensor([1.0, torch.nan])
    assert differences({"a": nan}, {"a": nan.clone()}) == []
    assert differences({"a": nan}, {"a": torch.tensor([torch.nan, 1.0])}) == ["a"]
    assert differences({"a": nan}, {"a": nan[1:]}) == ["a"]
    context = make_context(*classes, "model=linear")
    context.batch.inputs[0] = torch.nan  # then so is the loss before and after
    assert storage(context).findings == []


def test_what_is_never_stored_is_a_finding_of_its_own_where_nothing_explains_it(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=mlp", "model.norm=batch")
    context.batch.inputs[0] = torch.nan  # and so become the running statistics
    (finding,) = storage(context).findings
    assert finding.name == "not finite" and "running_mean" in finding.measured
    assert storage(context, is_explained=True).findings == []
    assert "not finite" in dict(storage(context, is_explained=True).lines)["checkpoint"]


@pytest.mark.parametrize(
    "words", [("optimizer=adamw",), ("optimizer=lbfgs",), ("regularization=ema", "precision=fp16")]
)
def test_usual_runs_come_back_the_same(
    words: tuple[str, ...],
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
    tmp_path: Path,
) -> None:
    section = storage(make_context(*classes, "model=mlp", "model.norm=batch", *words))
    assert section.findings == []
    assert dict(section.lines)["checkpoint"] == "saved, read back, compared: the same"
    assert not list(tmp_path.iterdir())


def test_what_no_checkpoint_holds_is_found(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    (finding,) = storage(make_context(*classes, model=Forgetful())).findings
    assert "the loss of one batch" in finding.measured
    assert "check --exact" in finding.advice


def test_a_disk_that_is_too_small(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(*classes, "model=mlp", "checkpoint.keep_last=5")
    needed = storage(context).values["needed"]
    monkeypatch.setattr(sys.modules["trainrun.check.storage"], "free_bytes", lambda path: needed - 1)
    (finding,) = storage(context).findings
    assert (finding.name, finding.fix) == ("disk space", ("checkpoint.keep_last=1",))


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 4),
        (("checkpoint.keep_last=1", "checkpoint.keep_best=0"), 2),
        (("checkpoint.keep_every=10step",), 9),
    ],
)
def test_how_many_lie_on_the_disk_at_once(
    words: tuple[str, ...], count: int, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    """Two last, one best, one being written; of 50 steps five at a multiple of ten."""
    assert checkpoint_count(make_context(*classes, "model=linear", "budget=50step", *words)) == count


def test_a_folder_that_cannot_be_written_to(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    Path("taken").write_text("")
    (finding,) = storage(make_context(*classes, "model=linear", "run_dir=taken/run")).findings
    assert finding.name == "run folder"
