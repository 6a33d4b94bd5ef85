"""Learning-rate curves: of torch's classes, and of YAML options. What the tests of schedules share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import yaml

from trainrun import scheduler
from trainrun.vocabulary.duration import Pace, parse, to_steps

CONF = Path(__file__).resolve().parents[1] / "conf" / "scheduler"
OPTIONS = sorted(
    path.stem for path in CONF.glob("*.yaml") if path.stem != "per_module"
)  # others, for modules
SHAPED = [option for option in OPTIONS if not option.startswith("warmup_") and option != "torch"]
LENGTHS = [1, 2, 3, 7, 100, 1000]
Curve = list[tuple[float, float]]


def torch_curve(make: Callable[[torch.optim.Optimizer], Any], updates: int, lr: float = 1.0) -> Curve:
    """(learning rate, momentum) at updates 0 .. updates - 1, as a plain torch loop sees them."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr, momentum=0.9)
    follower = make(optimizer)
    curve = []
    for update in range(updates):
        group = optimizer.param_groups[0]
        curve.append((group["lr"], group["momentum"]))
        optimizer.step()
        if update < updates - 1:
            follower.step()
    return curve


def factors(schedule: Callable[[int], tuple[float, float | None]], updates: int) -> list[float]:
    return [schedule(update)[0] for update in range(updates)]


def assert_same(ours: list[float], theirs: list[float]) -> None:
    assert len(ours) == len(theirs)
    for update, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert abs(a - b) <= 1e-12, f"update {update}: {a!r} is not {b!r}"


def from_yaml(option: str, total: int, per_epoch: int = 10, **changes: Any) -> Any:
    """The schedule of a YAML option as a run of `total` steps would build it, at base lr 1."""
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text()) | changes
    function = getattr(scheduler, node.pop("_target_").rpartition(".")[2])
    node.pop("also")  # which the run's composer reads
    pace = Pace(window=1, samples_per_epoch=per_epoch, total_steps=total)
    notes = inspect.get_annotations(function)
    for key, value in node.items():
        if any(word in notes[key] for word in ("Steps", "Period")) and value is not None:
            many = isinstance(value, list)
            node[key] = [to_steps(parse(v), pace) for v in value] if many else to_steps(parse(value), pace)
    offered = {"total_steps": total, "base_lr": 1.0, "maximize": True}
    return function(**node, **{k: v for k, v in offered.items() if k in notes})


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Saved and loaded as a checkpoint is: without pickle's code."""
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded
