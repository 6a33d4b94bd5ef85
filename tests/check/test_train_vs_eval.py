"""Training and evaluation mode, of models that draw, remember or mix where they should not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.check.context import CheckContext
from trainrun.check.finding import CheckSection
from trainrun.check.train_vs_eval import _small_batches, modes, smallest
from trainrun.data.order import micro_batches
from trainrun.protocols import BatchSpec, Position


class Net(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layer, self.fault = nn.Linear(6, 3), fault
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "draws":
            x = F.dropout(x, 0.5)
        if self.fault == "mixes":
            x = x - x.mean(0)
        if self.fault == "remembers":
            self.seen += 1
        return self.layer(x)


FAULTS = {
    "": [],
    "draws": ["random evaluation"],
    "mixes": ["samples see each other"],
    "remembers": ["evaluation changes the model"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_evaluation_depends_on_the_sample_alone(
    fault: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    names = [finding.name for finding in modes(make_context(*classes, model=Net(fault))).findings]
    assert names[:1] == FAULTS[fault]


def test_dropout_shows_in_training_alone(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    section = modes(make_context(*classes, "model=mlp", "regularization=dropout"))
    lines = dict(section.lines)
    assert "differ by up to" in lines["training"] and "dropout of 0.3" in lines["training"]
    assert "equal to the last bit" in lines["evaluation"]
    assert section.values == {"evaluation": 0.0}
    assert "equal" in dict(modes(make_context(*classes, "model=linear")).lines)["training"]


@pytest.mark.parametrize(
    ("batch", "name", "fix"),
    [
        ("1", "tiny batches", "batch_size=32"),
        ("4", "tiny batches", "batch_size=32"),
        ("19", "a batch of one", None),
        ("32", None, None),
    ],
)
def test_batches_too_small_for_batch_norm(
    batch: str,
    name: str | None,
    fix: str | None,
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    words = (*classes, "data.limit=191", "model=mlp", f"batch_size={batch}")  # 191 = 10 x 19 + 1
    findings = modes(make_context(*words, "model.norm=batch")).findings
    assert [finding.name for finding in findings] == ([name] if name else [])
    if name == "a batch of one":
        (mended,) = findings[0].fix
        assert modes(make_context(*words[:-1], mended, "model.norm=batch")).findings == []
    elif fix:
        assert findings[0].fix == (fix,)
    assert modes(make_context(*words)).findings == []  # without batch norm


def test_one_training_sample_is_no_fault_of_the_batch_size(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "data.limit=1", "model=mlp", "model.norm=batch")
    section = CheckSection("modes")
    _small_batches(section, context)
    assert section.findings == []


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 24, 25, 49])
def test_the_smallest_batch_of_an_epoch(size: int, accumulate: int) -> None:
    batch_spec = BatchSpec(8, accumulate)
    lengths = [len(part) for part, _ in micro_batches(torch.arange(size), Position(), batch_spec)]
    assert smallest(size, batch_spec) == min(lengths)


class Pair(Net):
    """Two tensors, the second of which has a fault."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        faulty = super().forward(x)
        return {"outputs": self.layer(x), "other": faulty}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_tensor_of_the_outputs_is_compared(
    fault: str, make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, model=Pair(fault))

    class First(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x=x)["outputs"]

    task = context.parts.task
    context = CheckContext(
        replace(context.parts, task=lambda model, batch: task(First(model), batch)), context.batch
    )
    assert [finding.name for finding in modes(context).findings][:1] == FAULTS[fault]


def test_what_is_no_number_in_each_pass_is_no_difference(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    """That it is none is another question's to say."""
    context = make_context(*classes, model=Net(""))
    context.batch.inputs[:2, 0] = torch.tensor([torch.nan, torch.inf])
    assert modes(context).findings == []
    assert modes(context).values == {"evaluation": 0.0}
