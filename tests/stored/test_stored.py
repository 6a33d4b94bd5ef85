"""Every later version resumes, evaluates and loads the runs that earlier versions stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import trainrun
from trainrun.config.check_call import Trust, check_call
from trainrun.config.stored import parse_stored

HERE = Path(__file__).parent
VERSIONS = sorted(folder.name for folder in HERE.iterdir() if (folder / "expected.json").is_file())


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version's folder; its run is copied into the current folder, where it is named `stored`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(HERE / request.param / "run", tmp_path / "outputs" / "old")
    return HERE / str(request.param)


def recorded(folder: Path) -> dict[str, Any]:
    """The last evaluation on the validation split in metrics.jsonl."""
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("split") == "val"][-1]


def test_there_is_one_and_it_calls_what_has_moved() -> None:
    assert VERSIONS
    settings = (HERE / "0.1.0" / "run" / "config.yaml").read_text()
    for target in ("step.Step", "runtime.runtime", "regularization.penalty.L1"):
        assert f"_target_: trainrun.{target}\n" in settings
    assert sum(file.stat().st_size for file in HERE.glob("0.1.0/**/*") if file.is_file()) < 200_000


def test_a_call_that_it_stored_of_any_option_still_has_what_it_needs(version: Path, tmp_path: Path) -> None:
    """An argument that is new needs a value for older runs, in `trainrun/config/stored.py`."""
    calls = json.loads((version / "calls.json").read_text())
    assert len(calls) > 100
    for option, call in calls.items():
        group = option.partition("/")[0]
        (node,) = parse_stored(yaml.safe_dump({group: call}), tmp_path / "config.yaml").values()
        path = f"{group}.of" if group in ("logger", "regularization") else group
        problems = [str(problem) for problem in check_call(node, path, Trust((), None))]
        assert not [text for text in problems if " needs a value: " in text], option


def test_it_evaluates_to_what_it_recorded(version: Path) -> None:
    evaluation = recorded(version)
    for word in ("stored", "last", "outputs/old"):
        metrics = trainrun.evaluate(word, "val", checkpoint=str(evaluation["step"]))
        assert metrics == pytest.approx({name: evaluation[name] for name in metrics}, rel=1e-4)


def test_it_loads_and_predicts(version: Path) -> None:
    model = trainrun.load("stored")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    rows = trainrun.predict("stored", split="test")
    assert len(rows) == 270
    assert rows[0].keys() >= {"index", "target", "predicted", "probability"}


def test_its_records_are_read_without_its_code(version: Path) -> None:
    run = trainrun.Run("stored")
    assert (run.status["state"], run.status["step"]) == ("interrupted", 50)
    assert run.settings["loop"]["step"] == {"_target_": "trainrun.loop.step.Step"}
    assert run.history()["val/accuracy"] == [(40, run.metrics["val"]["accuracy"])]


def test_it_resumes_to_what_its_own_version_came_to(version: Path) -> None:
    result = trainrun.resume("stored")
    assert (result.state, result.step) == ("completed", 80)
    expected = json.loads((version / "expected.json").read_text())
    numbers = json.loads(Path("outputs/old/result.json").read_text())
    for split in ("best", "last", "test"):
        assert numbers[split]["metrics"] == pytest.approx(expected[split]["metrics"], rel=1e-3)
        assert numbers[split]["weights"] == expected[split]["weights"]
    assert numbers["train"] == pytest.approx(expected["train"], rel=1e-3)


@pytest.mark.parametrize("words", [["resume", "stored"], ["eval", "stored"], ["doctor", "stored"]])
def test_a_config_of_a_newer_version_is_refused(
    version: Path, words: list[str], cli: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "outputs/old/config.yaml"
    file.write_text(f"# trainrun config.yaml, format 2\n{file.read_text()}")
    done = cli(*words)
    assert done.code == 5
    assert "config.yaml: has format 2, this version reads up to 1; install a newer trainrun" in done.err
