"""What is found in a folder of checkpoints; damage has its tests beside the commits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.checkpoint.reader import (
    manifest_hash,
    manifest_of,
    not_finite_in,
    path_of,
    problem_of,
    run_id_of,
    steps_in,
)
from trainrun.vocabulary.errors import ResumeError


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


def run_with(folder: Path, status: object = None, environment: object = None, stored: object = None) -> Path:
    """A folder whose files say these run ids; None: there is no such file."""
    for name, run_id in (("status.json", status), ("environment.json", environment)):
        if run_id is not None:
            (folder / name).write_text(json.dumps({"run_id": run_id}))
    for step, run_id in enumerate(stored if isinstance(stored, list) else []):
        path = path_of(folder / "checkpoints", step)
        path.mkdir(parents=True)
        manifest = {"run_id": run_id}
        (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": manifest_hash(manifest)}))
    return folder


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, None),
        ({"status": "a"}, "a"),
        ({"environment": "a", "stored": ["a"]}, "a"),
        ({"stored": ["a", "a"]}, "a"),  # status.json emptied, of a run that began with an older version
        ({"status": "", "environment": 5, "stored": ["a"]}, "a"),
        ({"status": "b", "environment": "a", "stored": ["a", "a"]}, "a"),  # another run's status
        ({"status": "a", "environment": "a", "stored": ["b", "b"]}, "a"),  # another run's checkpoints
        ({"status": "a", "stored": ["b"]}, "a"),
    ],
)
def test_a_run_is_known_by_what_is_left_of_its_files(held: Any, expected: str | None, tmp_path: Path) -> None:
    assert run_id_of(run_with(tmp_path, **held)) == expected


@pytest.mark.parametrize("held", [{"stored": ["a", "b"]}, {"status": "a", "environment": "b"}])
def test_files_of_several_runs_are_not_guessed_from(held: Any, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"different runs \(a, b\); remove what was copied"):
        run_id_of(run_with(tmp_path, **held))
