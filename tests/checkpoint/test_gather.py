"""Every rank's shards come to be in one directory, whole or not at all."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import Ranks
from toy import same_bits

from trainrun.checkpoint.reader import load_parts, problem_in, problem_of

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture(scope="module")
def saved(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """(folder, state, event) of a save by four ranks, two replicas in two shards each."""
    folder = tmp_path_factory.mktemp("saved")
    state, events = in_ranks.values(4, ranked.save_divided, folder, "replicas", (3,))[0]
    return folder / "checkpoints" / "step-000000003", state, events[0]


def test_each_shard_is_stored_once_and_named_in_the_manifest(saved: tuple[Path, Any, Any]) -> None:
    path, _, event = saved
    shards = ["shard-00000-00000.safetensors", "shard-00001-00000.safetensors"]
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", *shards, "state.pt"]
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == 2 and set(manifest["files"]) == {"state.pt", *shards}
    assert problem_of(path, "this run") is None and problem_in(load_parts(path), 3) is None
    assert event.num_bytes == sum(file.stat().st_size for file in path.iterdir())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_torch_and_safetensors_read_the_same_files(saved: tuple[Path, Any, Any]) -> None:
    pytest.importorskip("safetensors")
    from safetensors import safe_open
    from torch.distributed.checkpoint import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    path, state, _ = saved
    asked = {f"model/{name}": torch.empty_like(tensor) for name, tensor in state["model"].items()}
    load(asked, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    assert same_bits({name.removeprefix("model/"): tensor for name, tensor in asked.items()}, state["model"])
    with safe_open(path / "shard-00000-00000.safetensors", "pt") as file:
        assert same_bits(file.get_tensor("model/0.bias"), state["model"]["0.bias"][:12])


@pytest.mark.parametrize("how", ["full", "not finite", "killed"])
def test_a_part_that_fails_costs_the_save_alone(how: str, in_ranks: Ranks, tmp_path: Path) -> None:
    first, *_, last = in_ranks(3, ranked.fail_in_one, tmp_path, how)
    folder = tmp_path / "checkpoints"
    if how == "killed":
        assert last.error == "died" and "RankFailedError" in first.error
    else:
        kind = {"full": "StorageError", "not finite": "NonFiniteError"}[how]
        assert first.error.startswith(kind) and "RankFailedError" in last.error
        assert ("No space left on device (rank 2)" if how == "full" else "bias holds numbers") in first.error
        assert [path.name for path in folder.iterdir()] == ["step-000000003"]  # nothing is left
    if how == "full":
        needed = int(first.error.split("it needs ")[1].split(" bytes")[0].replace(",", ""))
        shard = (folder / "step-000000003" / "shard-00000-00000.safetensors").read_bytes()
        numbers = len(shard) - 8 - int.from_bytes(shard[:8], "little")
        assert needed >= numbers + (folder / "step-000000003" / "state.pt").stat().st_size
    assert problem_of(folder / "step-000000003", "this run") is None
    assert not (folder / "step-000000004").exists()


def test_a_step_that_is_stored_is_left_and_a_damaged_one_is_moved(in_ranks: Ranks, tmp_path: Path) -> None:
    in_ranks.values(2, ranked.save_divided, tmp_path, "shards", (2, 3))
    path = tmp_path / "checkpoints" / "step-000000003"
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}
    _, events = in_ranks.values(2, ranked.save_divided, tmp_path, "shards", (3,))[0]
    assert events == ()
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()} == before
    shard = path / "shard-00001-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert in_ranks.values(2, ranked.resume_divided, tmp_path, "shards", 0)[0]["warnings"] == [
        "checkpoint step-000000003 is damaged and skipped: has another content in "
        "shard-00001-00000.safetensors than was written"
    ]
    in_ranks.values(2, ranked.save_divided, tmp_path, "shards", (3,))
    assert problem_of(path, "this run") is None
    assert len(list(path.parent.glob(".damaged-step-000000003-*"))) == 1


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_beside_the_shards_is_not_executed(in_ranks: Ranks, tmp_path: Path) -> None:
    in_ranks.values(2, ranked.save_divided, tmp_path, "shards", (3,))
    path = tmp_path / "checkpoints" / "step-000000003"
    for name in (".metadata", "__0_0.distcp", "index.json"):
        (path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    in_ranks.values(2, ranked.resume_divided, tmp_path, "shards", 1)
    assert not (tmp_path / "exploded").exists()
