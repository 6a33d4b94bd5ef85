"""What a folder holds to resume from, what is refused of it, and the learning rates before and after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from trainrun.assembly.build import Parts
from trainrun.checkpoint.store import load_newest
from trainrun.protocols import Position
from trainrun.session.open_run import open_run
from trainrun.session.restore import lr_table, restore, stored_state
from trainrun.session.session import RunOptions
from trainrun.vocabulary.errors import ResumeError

OPTIONS = RunOptions(["trainrun"], quiet=True)


def test_the_newest_checkpoint_and_its_place_in_the_metrics(run: Path) -> None:
    stored = stored_state(run)
    assert stored.run_id == json.loads((run / "environment.json").read_text())["run_id"]
    assert stored.parts is not None and stored.parts["counters"]["step"] == 4
    assert 0 < stored.metrics_bytes <= (run / "metrics.jsonl").stat().st_size


def test_less_than_the_records_tell_is_refused(run: Path) -> None:
    (run / "checkpoints").rename(run / "aside")
    with pytest.raises(ResumeError, match=r"tell of a checkpoint of step 4.*bring that folder back"):
        stored_state(run)
    (run / "aside").rename(run / "checkpoints")
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(ResumeError, match=r"has 0 bytes, .* were saved; restore it"):
        stored_state(run)


def test_one_that_is_gone_is_said_and_none_yet_as_well(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints/step-000000004")
    assert stored_state(run).metrics_bytes > 0
    assert "checkpoint: that of step 4 is gone; going on from step 2\n" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints")
    for name in ("timing.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    assert stored_state(run).parts is None
    assert "has no checkpoint yet: training begins at step 0\n" in capsys.readouterr().err


def test_lines_that_cannot_be_read_are_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "metrics.jsonl"
    body = file.read_bytes()
    end = body.index(b"\n")
    file.write_bytes(b"x" * end + body[end:])
    stored_state(run)
    assert "1 line cannot be read and will be missing in curves" in capsys.readouterr().err


@pytest.fixture
def parts(run: Path) -> Parts:
    return open_run(run).parts


def stored_parts(run: Path) -> dict:
    run_id = json.loads((run / "environment.json").read_text())["run_id"]
    stored = load_newest(run / "checkpoints", run_id, print)
    assert stored is not None
    stored.pop("metrics_bytes")
    return stored


def test_a_state_is_restored_and_its_step_returned(run: Path, parts: Parts) -> None:
    assert restore(parts, None, OPTIONS) is None
    assert restore(parts, stored_parts(run), OPTIONS) == 4
    assert parts.state.step == 4


def test_a_position_that_its_steps_do_not_lead_to_is_refused(
    run: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = stored_parts(run)
    original = parts.state.load_state_dict

    def moved(content: dict) -> None:
        original(content)
        parts.state.position = Position(parts.state.position.epoch, parts.state.position.offset + 1)

    monkeypatch.setattr(parts.state, "load_state_dict", moved)
    with pytest.raises(ResumeError, match=r"stands at sample 33 of epoch 0 .*lead to sample 32 of epoch 0"):
        restore(parts, stored, OPTIONS)


def test_an_end_by_what_the_run_does_not_have_is_refused_unless_something_changes(
    run: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = stored_parts(run)
    original = parts.state.load_state_dict

    def ended(content: dict) -> None:
        original(content)
        parts.state.stop_reason = "early_stopping"

    monkeypatch.setattr(parts.state, "load_state_dict", ended)
    with pytest.raises(ResumeError, match="was ended by early_stopping, which the run does not have"):
        restore(parts, stored, OPTIONS)
    changed = RunOptions(["trainrun"], quiet=True, changes={"budget": ("4step", "5step", "takes effect")})
    assert restore(parts, stored, changed) == 4
    assert parts.state.stop_reason is None


def test_what_remains_is_shown_before_and_now() -> None:
    before = [(80, 8.54e-07)]
    after = [(81, 0.00108), (101, 0.000675), (121, 0.000323), (140, 9.27e-05), (160, 2.14e-07)]
    assert lr_table(before, after) == [
        "  of what remains   before              now",
        "  0 %               step 80: 8.54e-07   step 81: 0.00108",
        "  25 %                                  step 101: 0.000675",
        "  50 %                                  step 121: 0.000323",
        "  75 %                                  step 140: 9.27e-05",
        "  100 %                                 step 160: 2.14e-07",
    ]


def test_of_a_schedule_that_follows_a_metric_only_the_next_rate_is_shown() -> None:
    rows = lr_table([(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1), (5, 0.1)], [(1, 0.05)])
    assert rows[1] == "  0 %               step 1: 0.1   step 1: 0.05"
    assert rows[5] == "  100 %             step 5: 0.1"
