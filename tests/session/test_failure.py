"""What a process of a run writes into its folder for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun import ranks
from trainrun.assembly.build import Parts, build
from trainrun.config.compose.composer import Composer
from trainrun.ranks.heartbeat import Verdict
from trainrun.run.files import read_json
from trainrun.run.lock import lock
from trainrun.run.record import write_status
from trainrun.session.failure import failure_recorded, record_for_main_process, reported
from trainrun.vocabulary.errors import EvaluationOutOfMemoryError, OutOfMemoryError, RankFailedError

DIED = RankFailedError("another rank died")


def test_where_the_main_process_died_another_records_why_the_run_ended(tmp_path: Path) -> None:
    write_status(tmp_path, state="running", run_id="abc")
    record_for_main_process(tmp_path, DIED)
    status = read_json(tmp_path / "status.json")
    assert (status["state"], status["exit_code"], status["reason"]) == ("failed", 10, "another rank died")
    assert status["run_id"] == "abc"


def test_the_reason_is_what_happened_without_the_advice(tmp_path: Path) -> None:
    for error in (OutOfMemoryError("out of memory", "", "to try:", "  trainrun"), DIED):
        (tmp_path / "config.yaml").touch()
        write_status(tmp_path, state="running")
        with pytest.raises(type(error)), failure_recorded(tmp_path):
            raise error
        assert read_json(tmp_path / "status.json")["reason"] == error.args[0]


@pytest.mark.parametrize("attempt", ["0", "1"])
def test_what_lost_a_rank_names_the_command_that_goes_on_unless_torchrun_does(
    attempt: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    monkeypatch.setattr(ranks, "verdict", lambda: Verdict("rank 1 died", [1], has_died=True))
    with pytest.raises(RankFailedError) as caught, reported(lambda error: None, small(), tmp_path):
        raise DIED
    assert caught.value.args == (
        *DIED.args,
        *["", "to go on:", f"  trainrun resume {tmp_path}"][: 3 * int(attempt)],
    )


@pytest.mark.parametrize("state", ["interrupted", "completed"])
def test_what_the_main_process_recorded_itself_stays(state: str, tmp_path: Path) -> None:
    write_status(tmp_path, state=state)
    record_for_main_process(tmp_path, DIED)
    assert read_json(tmp_path / "status.json")["state"] == state


def test_a_main_process_that_lives_records_its_own_end(tmp_path: Path) -> None:
    write_status(tmp_path, state="running")
    with lock(tmp_path):
        record_for_main_process(tmp_path, DIED)
    assert read_json(tmp_path / "status.json")["state"] == "running"
    record_for_main_process(tmp_path / "elsewhere", DIED)  # of another machine, where there is no such folder
    assert not (tmp_path / "elsewhere").exists()


def small(*words: str) -> Parts:
    fixed = ("data=iris", "model=mlp", "batch_size=8", "model.norm=none", "runtime.threads=1")
    return build(Composer().checked([*fixed, *words]).settings)


def answer_to(error: BaseException, parts: Parts, run_dir: Path) -> list[str]:
    """The lines that a run ends with."""
    reports: list[BaseException] = []
    with pytest.raises(OutOfMemoryError) as caught, reported(reports.append, parts, run_dir):
        raise error
    assert reports == [caught.value]
    return [line for line in str(caught.value).splitlines() if line]


def test_where_memory_runs_out_every_setting_that_trains_the_same_has_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, command = small(), f"  trainrun resume {tmp_path} "
    lines = answer_to(MemoryError(), parts, tmp_path)
    assert lines[0].startswith("out of memory with batch_size=8 while training; trainrun find-batch")
    assert lines[1:3] == ["the same in smaller pieces:", f"{command}batch_size=4 loop.accumulate=2"]
    assert lines[3] == "with activations computed again in the backward pass, some third slower:"
    assert lines[4:] == [f"{command}runtime.activation_checkpointing=auto"]
    assert not list(tmp_path.iterdir()), "a CPU records no allocations"
    assert len(answer_to(MemoryError(), small("runtime.activation_checkpointing=auto"), tmp_path)) == 3
    assert len(answer_to(MemoryError(), small("model.depth=1"), tmp_path)) == 3, "which has no blocks"
    evaluating = answer_to(EvaluationOutOfMemoryError(), parts, tmp_path)
    assert [line for line in evaluating if line[0] == " "] == [f"{command}data.eval_batch_size=512"]
    monkeypatch.setattr(ranks, "size", lambda: 2)
    lines = answer_to(MemoryError(), parts, tmp_path)
    assert lines[-2] == "with the weights divided among the ranks:"
    assert lines[-1].endswith(f"resume {tmp_path} parallel=fsdp")


def test_a_gpu_that_runs_out_of_memory_leaves_what_took_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the answer, also of a rank that is not the first; recording ends with training."""
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda *on, **_: calls.append(on))
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_text("snapshot"))
    parts = small()
    object.__setattr__(parts.runtime, "device", torch.device("cuda", 0))
    lines = answer_to(torch.OutOfMemoryError("CUDA out of memory."), parts, tmp_path)
    file = tmp_path / "failures" / "memory.pickle"
    assert lines[1] == f"what took the memory, for pytorch.org/memory_viz: {file}"
    assert lines[2] == "the same in smaller pieces:"
    assert file.read_text() == "snapshot" and calls == [(), (None,)]
    monkeypatch.setattr(ranks, "rank", lambda: 3)
    answer_to(torch.OutOfMemoryError("CUDA out of memory."), parts, tmp_path)
    assert (tmp_path / "failures" / "memory-3.pickle").exists()
    with pytest.raises(KeyError), reported(lambda _: None, parts, tmp_path):
        raise KeyError
    assert len(list((tmp_path / "failures").iterdir())) == 2
