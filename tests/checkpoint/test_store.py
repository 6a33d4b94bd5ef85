"""A checkpoint exists whole or not at all, and what is damaged is noticed and said."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import mlp, new_state, same_bits

from trainrun.checkpoint.reader import manifest_hash, manifest_of
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import Checkpoints, problem_of
from trainrun.regularization.ema import EMA
from trainrun.vocabulary.errors import NonFiniteError, ResumeError, StorageError
from trainrun.vocabulary.events import CheckpointSaved


def checkpoints(tmp_path: Path, **changes: Any) -> Checkpoints:
    values = {"every": 10, "keep_last": 2, "keep_best": 1, "keep_every": None, "run_id": "this run"} | changes
    return Checkpoints(**values, folder=tmp_path / "checkpoints", record=RECORD)  # type: ignore[arg-type]


class Lines:
    """Stands for metrics.jsonl."""

    def metrics_bytes(self) -> int:
        return 123

    def sync(self) -> None:
        pass


RECORD = Lines()


def commit(owner: Checkpoints, state: TrainState) -> CheckpointSaved | None:
    """A save, waited for; None where the step was stored whole already."""
    assert owner.begin(state) == ()
    saved = owner.wait()
    return saved[0] if saved else None


def state_at(step: int, **changes: Any) -> TrainState:
    state = new_state(mlp(seed=step))
    for name, value in {"step": step, **changes}.items():
        setattr(state, name, value)
    return state


def committed(tmp_path: Path, step: int = 5) -> Path:
    saved = commit(checkpoints(tmp_path), state_at(step))
    assert saved is not None
    return Path(saved.path)


def load(tmp_path: Path, warnings: list[str] | None = None, **changes: Any) -> Any:
    messages: list[str] = [] if warnings is None else warnings
    return checkpoints(tmp_path, **changes).load_newest(messages.append)


def test_a_commit_is_two_files_with_their_hashes_and_loads_without_unpickling(tmp_path: Path) -> None:
    saved = commit(checkpoints(tmp_path), state_at(7, best=0.5, best_step=7))
    assert saved is not None
    path = tmp_path / "checkpoints" / "step-000000007"
    assert (saved.step, saved.path) == (7, str(path))
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "state.pt"]
    assert saved.num_bytes == sum(file.stat().st_size for file in path.iterdir())
    manifest, body = json.loads((path / "manifest.json").read_text()), (path / "state.pt").read_bytes()
    expected = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert manifest["files"] == {"state.pt": expected}
    wanted = {
        "step": 7,
        "best": 0.5,
        "best_step": 7,
        "weights": "raw",
        "metrics_bytes": 123,
        "run_id": "this run",
    }
    assert wanted.items() <= manifest.items()
    parts = torch.load(path / "state.pt", weights_only=True)
    assert same_bits(parts["model"], dict(mlp(seed=7).state_dict()))  # a plain state dict


def test_loading_gives_what_was_stored_and_where_metrics_stood(tmp_path: Path) -> None:
    state = state_at(7)
    commit(checkpoints(tmp_path), state)
    parts = load(tmp_path)
    assert parts.pop("metrics_bytes") == 123
    fresh = new_state(mlp(seed=99))
    fresh.load_state_dict(parts)
    assert same_bits(fresh.state_dict(), state.state_dict())


@pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
def test_the_order_of_a_commit_is_files_manifest_folder_rename_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def spy_fsync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        happened.append(f"fsync {name.removesuffix(f'-{os.getpid()}')}")
        fsync(descriptor)

    def spy_rename(path: Path, target: Path) -> Path:
        happened.append(f"rename to {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "rename", spy_rename)
    committed(tmp_path)
    assert happened == [
        f"fsync {tmp_path.name}",  # the folder of checkpoints is new
        "fsync state.pt",
        "fsync manifest.json",
        "fsync .tmp-step-000000005",
        "rename to step-000000005",
        "fsync checkpoints",
    ]


@pytest.mark.parametrize("dies_at", range(5))
def test_a_commit_that_is_cut_short_leaves_the_older_one_and_is_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    class Killed(BaseException):
        """As a kill: nothing is caught, nothing is tidied."""

    older = committed(tmp_path, 5)
    calls = iter(range(100))
    fsync = os.fsync

    def killed(descriptor: int) -> None:
        if next(calls) == dies_at:
            raise Killed
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", killed)
    with contextlib.suppress(Killed):
        commit(checkpoints(tmp_path), state_at(6))
    monkeypatch.undo()
    again = checkpoints(tmp_path)
    again.clean()
    assert not list((tmp_path / "checkpoints").glob(".tmp*"))
    assert problem_of(older, "this run") is None
    assert load(tmp_path)["counters"]["step"] == (5 if dies_at < 3 else 6)  # there is no third state
    commit(again, state_at(6))
    assert load(tmp_path)["counters"]["step"] == 6


# Damage


def flip_a_bit(path: Path) -> None:
    body = bytearray((path / "state.pt").read_bytes())
    body[len(body) // 2] ^= 1
    (path / "state.pt").write_bytes(body)


def truncate(path: Path) -> None:
    with (path / "state.pt").open("r+b") as file:
        file.truncate(100)


def edit_manifest(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | changes))

    return edit


def forge_manifest(**changes: Any) -> Callable[[Path], None]:
    """With the right hash of itself, as somebody who knows the format can."""

    def forge(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text()) | changes
        rest = {key: value for key, value in manifest.items() if key != "sha256"}
        manifest["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
        (path / "manifest.json").write_text(json.dumps(manifest))

    return forge


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (flip_a_bit, "another content in state.pt"),
    "truncated": (truncate, "has 100 bytes in state.pt"),
    "state.pt is gone": (lambda path: (path / "state.pt").unlink(), "lacks state.pt"),
    "manifest is gone": (lambda path: (path / "manifest.json").unlink(), "no manifest"),
    "empty folder": (lambda path: [file.unlink() for file in path.iterdir()], "no manifest"),
    "manifest is no JSON": (lambda path: (path / "manifest.json").write_text("{"), "cannot be read"),
    "manifest is a list": (lambda path: (path / "manifest.json").write_text("[]"), "not an object"),
    "manifest is nested deeply": (
        lambda path: (path / "manifest.json").write_text("[" * 100_000),
        "cannot be read",
    ),
    "manifest is binary": (lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    "manifest was edited": (edit_manifest(metrics_bytes=0), "manifest that was changed"),
    "manifest names no file": (forge_manifest(files={}), "manifest without state.pt"),
    "a newer format by damage": (edit_manifest(format=99), "manifest that was changed"),
    "a format that is none": (forge_manifest(format=0), "has format 0"),
    "another run's": (forge_manifest(run_id="that run"), "belongs to another run"),
    "another step's": (forge_manifest(step=7), "holds step 7"),
    "state.pt is a link": (
        lambda path: ((path / "state.pt").rename(path / "real"), (path / "state.pt").symlink_to("real")),
        "lacks state.pt",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed_named_and_the_newest_valid_one_wins(tmp_path: Path, kind: str) -> None:
    damage, said = DAMAGE[kind]
    committed(tmp_path, 5)
    path = committed(tmp_path, 6)
    damage(path)
    problem = problem_of(path, "this run")
    assert problem is not None and said in problem
    warnings: list[str] = []
    assert load(tmp_path, warnings)["counters"]["step"] == 5
    assert warnings == [f"checkpoint step-000000006 is damaged and skipped: {problem}"]


def test_a_newer_format_is_refused_and_never_skipped_as_damage(tmp_path: Path) -> None:
    committed(tmp_path, 5)
    forge_manifest(format=3)(committed(tmp_path, 6))
    warnings: list[str] = []
    with pytest.raises(ResumeError, match=r"format 3, this version reads up to 2; install a newer trainrun"):
        load(tmp_path, warnings)
    assert warnings == []


def test_where_all_are_damaged_resuming_is_refused(tmp_path: Path) -> None:
    for step in (5, 6):
        flip_a_bit(committed(tmp_path, step))
    warnings: list[str] = []
    with pytest.raises(ResumeError, match="none of the 2 checkpoints"):
        load(tmp_path, warnings)
    assert len(warnings) == 2


def test_no_checkpoint_is_none_and_no_error(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    assert load(tmp_path) is None


def test_a_pickle_in_place_of_the_state_is_not_executed(tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    path = committed(tmp_path)
    body = pickle.dumps(Bomb())
    (path / "state.pt").write_bytes(body)
    entry = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    forge_manifest(files={"state.pt": entry})(path)
    with pytest.raises(ResumeError, match="cannot be loaded"):
        load(tmp_path)
    assert not (tmp_path / "exploded").exists()


# Committing again


def test_committing_a_valid_step_again_changes_nothing(tmp_path: Path) -> None:
    path = committed(tmp_path)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}
    assert commit(checkpoints(tmp_path), state_at(5)) is None
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()} == before


def test_a_damaged_step_is_moved_aside_and_committed_again(tmp_path: Path) -> None:
    path = committed(tmp_path)
    flip_a_bit(path)
    damaged = (path / "state.pt").read_bytes()
    assert commit(checkpoints(tmp_path), state_at(5)) is not None
    assert problem_of(path, "this run") is None
    (aside,) = (tmp_path / "checkpoints").glob(".damaged-step-000000005-*")
    assert (aside / "state.pt").read_bytes() == damaged


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_committed(tmp_path: Path, value: float) -> None:
    older = committed(tmp_path, 5)
    state = state_at(6)
    state.model[0].bias.data[2] = value
    with pytest.raises(NonFiniteError, match=r"0\.bias holds numbers that are not finite"):
        commit(checkpoints(tmp_path), state)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [older.name]


# Retention


def steps_on_disk(tmp_path: Path) -> list[int]:
    return [int(path.name[5:]) for path in sorted((tmp_path / "checkpoints").glob("step-*"))]


@pytest.mark.parametrize(
    ("changes", "best_steps", "expected"),
    [
        ({}, [None] * 8, [7, 8]),
        ({"keep_last": 1}, [None] * 8, [8]),
        ({"keep_last": 3}, [None] * 8, [6, 7, 8]),
        ({}, [1, 1, 3, 3, 3, 3, 3, 3], [3, 7, 8]),
        ({"keep_best": 0}, [1, 1, 3, 3, 3, 3, 3, 3], [7, 8]),
        ({"keep_every": 3}, [None] * 8, [3, 6, 7, 8]),
        ({"keep_every": 3, "keep_last": 1}, [1, 1, 1, 4, 4, 4, 4, 4], [3, 4, 6, 8]),
    ],
)
def test_the_last_the_best_and_every_nth_are_kept(
    tmp_path: Path, changes: dict[str, Any], best_steps: list[int | None], expected: list[int]
) -> None:
    owner = checkpoints(tmp_path, **changes)
    for step, best_step in enumerate(best_steps, 1):
        ranking = [] if best_step is None else [[0.5, 1.0, best_step]]
        commit(owner, state_at(step, best=0.5, best_step=best_step, ranking=ranking))
    assert steps_on_disk(tmp_path) == expected
    assert all(problem_of(tmp_path / "checkpoints" / f"step-{s:09d}", "this run") is None for s in expected)


def test_damaged_later_ones_do_not_crowd_out_the_good(tmp_path: Path) -> None:
    flip_a_bit(committed(tmp_path, 50))
    owner = checkpoints(tmp_path)
    for step in (10, 20, 30):
        commit(owner, state_at(step))
    assert steps_on_disk(tmp_path) == [20, 30, 50]


def test_what_could_not_be_removed_goes_at_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = checkpoints(tmp_path, keep_last=1)
    commit(owner, state_at(1))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        commit(owner, state_at(2))
    assert len(list(owner.folder.iterdir())) == 2
    commit(owner, state_at(3))
    assert [path.name for path in owner.folder.iterdir()] == ["step-000000003"]


def test_only_own_names_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    strangers = ["step-1", "step-000000001-backup", "best", ".hidden", "step-000000001.pt"]
    for name in strangers:
        (folder / name).mkdir(parents=True)
    owner = checkpoints(tmp_path, keep_last=1)
    for step in (1, 2, 3):
        commit(owner, state_at(step))
    owner.clean()
    assert {path.name for path in folder.iterdir()} == {*strangers, "step-000000003"}


def test_saves_are_due_at_multiples_but_not_at_the_start() -> None:
    owner = checkpoints(Path(), every=4)
    assert [step for step in range(13) if owner.is_due(step)] == [4, 8, 12]


# Storage


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_is_said_with_the_systems_reason_and_costs_nothing_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    older = committed(tmp_path, 5)

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=os.strerror(code)):
        commit(checkpoints(tmp_path), state_at(6))
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [older.name]
    assert load(tmp_path)["counters"]["step"] == 5


def test_a_folder_in_the_place_of_a_file_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(StorageError):
        commit(checkpoints(tmp_path), state_at(6))


# Weights


def reseal(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a state, and give it a manifest that fits, as somebody who knows the format can."""
    parts = torch.load(path / "state.pt", weights_only=True)
    change(parts)
    torch.save(parts, path / "state.pt")
    body, manifest = (path / "state.pt").read_bytes(), json.loads((path / "manifest.json").read_text())
    manifest["files"] = {"state.pt": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}}
    write_manifest(path, manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    manifest["sha256"] = manifest_hash(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ["shapes alone", "expanded"])
def test_weights_without_numbers_are_not_loaded(kind: str, tmp_path: Path) -> None:
    path, weight = committed(tmp_path), torch.empty(8, 5, device="meta")
    weight = weight if kind == "shapes alone" else torch.zeros(1, 1).expand(8, 5)
    reseal(path, lambda parts: parts["model"].update({"0.weight": weight}))
    with pytest.raises(ResumeError, match=r"claims more numbers in model/0\.weight than it holds"):
        checkpoints(tmp_path).load_weights(mlp(), 5)


@pytest.mark.parametrize("key", ["weights", "best_step", "run_id", "step", "files", "metrics_bytes"])
def test_a_manifest_that_lacks_an_entry_is_damage(key: str, tmp_path: Path) -> None:
    path = committed(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest[key]
    write_manifest(path, manifest)
    assert problem_of(path, "this run")


def test_a_manifest_of_many_files_is_read(tmp_path: Path) -> None:
    path = committed(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    files = {f"shard-{n:05d}-{0:05d}.safetensors": manifest["files"]["state.pt"] for n in range(10_000)}
    write_manifest(path, manifest | {"files": files})
    assert len(manifest_of(path)["files"]) == 10_000


def test_a_save_holds_no_more_memory_than_its_copy(tmp_path: Path) -> None:
    """What the first copy took goes where later ones do not need it."""
    owner, state = checkpoints(tmp_path), new_state(mlp())
    owner.prepare(state)
    owner.begin(state)
    owner.wait()
    first = [weakref.ref(tensor) for tensor in owner._snapshot._memory]
    state.model[0].register_buffer("more", torch.zeros(3))  # what is stored comes in another order
    state.step = 1
    owner.begin(state)
    owner.wait()
    assert sum(ref() is not None for ref in first) < len(first)


@pytest.mark.parametrize("averaged", [False, True])
def test_the_judged_weights_are_loaded(tmp_path: Path, averaged: bool) -> None:
    weight_average = EMA(0.5) if averaged else None
    state = new_state(mlp(seed=1), weight_average=weight_average)
    state.step = 3
    if weight_average is not None:
        with torch.no_grad():
            state.model[0].bias += 1.0
        weight_average.update(state.model)
    owner = checkpoints(tmp_path)
    commit(owner, state)
    model = mlp(seed=2)
    assert owner.load_weights(model, 3) == ("ema" if averaged else "raw")
    assert same_bits(dict(model.state_dict()), dict(state.eval_model.state_dict()))
    if weight_average is not None:
        assert not same_bits(dict(model.state_dict()), dict(state.model.state_dict()))


def test_weights_of_a_damaged_or_missing_step_are_refused(tmp_path: Path) -> None:
    path = committed(tmp_path)
    flip_a_bit(path)
    with pytest.raises(ResumeError, match="another content"):
        checkpoints(tmp_path).load_weights(mlp(), 5)
    shutil.rmtree(path)
    with pytest.raises(ResumeError, match="no manifest"):
        checkpoints(tmp_path).load_weights(mlp(), 5)
