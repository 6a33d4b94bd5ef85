"""The comparison of traces: what differs first, and the cause that follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainrun.check.exact import (
    FailedTrainingError,
    Trace,
    Watch,
    _difference,
    _digests,
    _read,
    _run_in_child,
    _verdict,
    prove_resumed,
)
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import StepsLogged


def trace(*values: int, first: int = 0, loss: float | None = 1.0) -> Trace:
    """After each step a loss and two digests, the first of which is `values`."""
    return {step: (loss, {"model/w": str(value), "model/b": "0"}) for step, value in enumerate(values, first)}


def test_the_first_step_that_differs_is_named_with_what_differs() -> None:
    assert _difference(trace(1, 2, 3), trace(1, 2, 3)) is None
    assert _difference(trace(1, 2, 3), trace(1, 9, 9)) == (1, False, "after step 1 in model/w")
    assert _difference(trace(1, 2, 3), trace(2, 3, first=1)) is None  # only steps of both count
    assert _difference(trace(1), trace(2, loss=None)) == (0, False, "after step 0 in model/w")
    text = "after step 0 in the loss; its loss is 1.0 and 2.0"
    assert _difference(trace(1), trace(1, loss=2.0)) == (0, True, text)
    missing = {0: (1.0, {"model/w": "1"})}
    assert _difference(missing, trace(1)) == (0, False, "after step 0 in model/b")


@pytest.mark.parametrize(
    ("again", "resumed", "text"),
    [
        (trace(1, 2, 3), trace(2, 3, first=1), "identical"),
        (trace(1, 2, 9), {}, "no run of this configuration is repeated exactly"),
        (trace(1, 2, 3), {}, "give a longer budget"),
        (trace(1, 2, 3), trace(9, 3, first=1), "changed by loading"),
        (trace(1, 2, 3), trace(2, 9, first=1), "the loss was the same and the update was not"),
        (
            trace(1, 2, 3),
            trace(2, first=1) | trace(9, first=2, loss=5.0),
            "depend on what no checkpoint holds",
        ),
    ],
)
def test_the_cause_follows_from_what_differs_first(again: Trace, resumed: Trace, text: str) -> None:
    result = _verdict(trace(1, 2, 3), again, resumed)
    assert result.is_exact is (text == "identical")
    assert text in result.lines[-1]


def test_digests_are_of_every_bit_of_what_the_next_step_computes_with() -> None:
    def digests(weight: float, momentum: float) -> dict[str, str]:
        parts = {
            "model": {"w": torch.tensor([weight])},
            "optimizer": {"parameters": [("w", (1,), "float32")], "state": {"state": {0: {"m": momentum}}}},
            "counters": {"applied": 3},
        }
        state: Any = SimpleNamespace(state_dict=lambda: parts)
        return dict(_digests(state))

    plain = digests(1.0, 0.5)
    assert set(plain) == {"model/w", "optimizer/w/m"}
    assert digests(1.0, 0.5) == plain
    assert digests(1.0 + 2**-23, 0.5)["model/w"] != plain["model/w"]
    assert digests(1.0, 0.25)["optimizer/w/m"] != plain["optimizer/w/m"]


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "a.jsonl", last=9)
    empty = {"model": {}, "optimizer": {"parameters": [], "state": {"state": {}}}}
    watch.state = SimpleNamespace(state_dict=lambda: dict(empty))  # type: ignore[assignment]
    event = object.__new__(StepsLogged)
    for name, value in {"step": 4, "loss": 0.25}.items():
        object.__setattr__(event, name, value)
    watch(event)
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"step": 4, "loss": 0.25, "digests": {}}
    assert _read(tmp_path / "a.jsonl") == {4: (0.25, {})}


@pytest.mark.parametrize(("code", "exit_code"), [(2, 2), (7, 7)])
def test_a_process_that_fails_ends_the_comparison_with_its_code(code: int, exit_code: int) -> None:
    with pytest.raises(FailedTrainingError) as caught:
        _run_in_child(lambda: code)
    assert caught.value.exit_code == exit_code
    assert _run_in_child(lambda: 0) == 0


def test_a_budget_by_the_clock_is_refused() -> None:
    with pytest.raises(ConfigError, match="by the clock no run is twice the same"):
        prove_resumed(["budget=10s"], 4)
