"""One process of a run: what it writes, whom it tells, and how it stops, fails and is gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.session.open_run import open_run
from trainrun.session.session import RunOptions, continue_run, start
from trainrun.vocabulary.errors import FolderBusyError, NonFiniteError, StorageError, TrainrunError
from trainrun.vocabulary.events import Evaluated, Event, Failed, Finished, Started

SHORT = (
    *("data=iris", "model=mlp", "model.width=4", "batch_size=20", "budget=6step", "loop.eval_every=2step"),
    *("logger=none", "runtime.threads=1"),
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> None:
    monkeypatch.chdir(tmp_path)


def begin(*words: str, **options: Any) -> Any:
    composition = Composer().checked([*SHORT, *words])
    return start(composition, build(composition.settings), RunOptions(["trainrun", *words], True, **options))


def status(run: str = "run") -> dict[str, Any]:
    return json.loads(Path(run, "status.json").read_text())


def test_a_run_leaves_its_settings_identity_and_lineage() -> None:
    events: list[Event] = []
    result = begin("run_dir=run", "name=demo", watch=events.append)
    assert (result.run_dir, result.state, result.reason, result.step) == (
        Path("run"),
        "completed",
        "budget",
        6,
    )
    assert (result.exit_code, set(result.metrics)) == (0, {"val", "test"})
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert events[0].name == "demo" and events[0].resumed_from is None
    environment = json.loads(Path("run/environment.json").read_text())
    assert status()["run_id"] == environment["run_id"] and status()["name"] == "demo"
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["runtime"]["threads"] == 1 and config["budget"] == "6step"
    (line,) = Path("run/lineage.jsonl").read_text().splitlines()
    assert json.loads(line)["command"] == "trainrun run_dir=run name=demo"
    with pytest.raises(FolderBusyError):
        begin("run_dir=run")


def test_a_name_from_the_environment_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    begin("run_dir=run", "name=${oc.env:SECRET}")
    assert status()["name"] == "run"  # the folder's
    assert not any(b"hush" in file.read_bytes() for file in Path("run").rglob("*") if file.is_file())


def test_whoever_may_stop_it_is_asked_after_each_evaluation_but_the_last() -> None:
    asked: list[tuple[int, int]] = []

    def never(event: Evaluated, total: int) -> None:
        asked.append((event.step, total))

    assert begin("run_dir=run", should_stop=never).state == "completed"
    assert asked == [(2, 6), (4, 6)]
    result = begin("run_dir=other", should_stop=lambda event, total: "paused" if event.step >= 4 else None)
    assert (result.state, result.reason, result.step, result.final_weights) == (
        "interrupted",
        "paused",
        4,
        "",
    )


def test_what_is_stored_is_gone_on_with_and_changes_become_the_runs() -> None:
    begin("run_dir=run", should_stop=lambda event, total: "paused")
    stored = open_run(Path("run"), ["budget=8step"])
    changes = {"budget": ("6step", "8step", "takes effect")}
    options = RunOptions(["trainrun", "resume"], True, changes)
    result = continue_run(stored.parts, Path("run"), stored.composition.storable, options)
    assert (result.state, result.step) == ("completed", 8)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["budget"] == "8step"
    first, second = map(json.loads, Path("run/lineage.jsonl").read_text().splitlines())
    assert (first["from_step"], second["from_step"]) == (0, 2)
    assert second["changes"] == {"budget": ["6step", "8step", "takes effect"]}


def test_a_failure_is_told_to_everyone_and_written() -> None:
    events: list[Event] = []
    with pytest.raises(NonFiniteError):
        begin("run_dir=run", "optimizer=sgd", "optimizer.lr=1e30", watch=events.append)
    assert isinstance(events[-1], Failed) and events[-1].exit_code == 7
    assert (status()["state"], status()["exit_code"]) == ("failed", 7)


def test_a_failure_before_the_loop_is_written_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainrun.session import session

    def broken(*arguments: Any) -> None:
        raise TrainrunError("no state today")

    monkeypatch.setattr(session, "restore", broken)
    with pytest.raises(TrainrunError):
        begin("run_dir=run")
    assert (status()["state"], status()["reason"]) == ("failed", "no state today")


def test_a_disk_that_takes_no_settings_is_a_storage_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainrun.session import session

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "replace_text", full)
    with pytest.raises(StorageError, match="No space left"):
        begin("run_dir=run")
    assert not Path("run/config.yaml").exists()
