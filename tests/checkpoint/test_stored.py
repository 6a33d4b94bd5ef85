"""What is found in a folder of checkpoints; damage has its tests beside the commits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainrun.checkpoint.stored import manifest_of, not_finite_in, path_of, problem_of, steps_in


def test_steps_are_found_in_order_and_other_names_ignored(tmp_path: Path) -> None:
    assert steps_in(tmp_path / "none") == []
    for name in ("step-000000020", "step-000000003", "step-20", ".tmp-step-000000009-1", "best"):
        (tmp_path / name).mkdir()
    assert steps_in(tmp_path) == [3, 20]
    assert [path_of(tmp_path, step).name for step in (3, 20)] == ["step-000000003", "step-000000020"]


@pytest.mark.parametrize("part", ["model", "averager"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(part: str, value: float) -> None:
    weights = {"model": {"w": torch.ones(3), "n": torch.tensor(4)}, "averager": {"w": torch.ones(2)}}
    parts = {"model": weights["model"], "averager": {"model": weights["averager"]}}
    assert not_finite_in(parts) is None
    assert not_finite_in({"model": weights["model"]}) is None
    weights[part]["w"][1] = value
    assert not_finite_in(parts) == ("w" if part == "model" else "averager.w")


def test_links_are_no_checkpoints(tmp_path: Path) -> None:
    real = tmp_path / "step-000000001"
    real.mkdir()
    (real / "manifest.json").write_text("{}")
    assert manifest_of(real) == {}
    (tmp_path / "step-000000002").symlink_to(real)
    assert "no manifest" in str(problem_of(tmp_path / "step-000000002", None))
    linked = tmp_path / "step-000000003"
    linked.mkdir()
    (linked / "manifest.json").symlink_to(real / "manifest.json")
    assert "no manifest" in str(problem_of(linked, None))
