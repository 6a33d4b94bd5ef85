"""Damaged checkpoints are noticed, named and passed over; never does a run silently begin anew."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torture.damage import ACCIDENTS, BOMB_BYTES, Payload, bomb, copied_from, flipped, forge, forged
from torture.harness import CANNOT_RESUME, Ended, Run, assert_finishes_identical, assert_identical, snapshot
from torture.settings import FLIPS, LONG, SEED

from trainrun.checkpoint.store import problem_of

Straight = Callable[[str], Run]
LARGEST_BYTES = 2 << 30
COMMIT = r"rename \S+ checkpoints/step-"


@pytest.fixture(scope="session")
def stopped(straight: Straight, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with three checkpoints that was killed before its end. Copy it."""
    expected = straight("average")
    run = expected.new(tmp_path_factory.mktemp("stopped") / "run")
    return run.killed(COMMIT, 11)


def assert_passed_over(run: Run, ended: Ended, path: Path, straight: Run) -> None:
    """The damaged checkpoint was named, and the one before it used."""
    assert ended.code == 0, ended
    assert 0 < run.started_at()[-1] < int(path.name[5:])
    assert f"checkpoint {path.name} is damaged and skipped" in ended.err
    assert ended.memory_bytes < LARGEST_BYTES
    assert_identical(run, straight)


def test_every_accident(straight: Straight, tmp_path: Path) -> None:
    """A run that keeps the checkpoint of every step meets a damaged one after the other."""
    run = straight("average").new(tmp_path / "run")
    run = replace(run, words=[*run.words, "checkpoint.every=1step", "checkpoint.keep_every=1step"])
    run.killed(COMMIT, len(ACCIDENTS) + 5)
    paths = dict(zip(ACCIDENTS, reversed(run.checkpoints()), strict=False))
    for kind, path in paths.items():
        ACCIDENTS[kind](path)
    ended = run.resume(patience_s=20)
    for kind, path in paths.items():
        assert f"checkpoint {path.name} is damaged and skipped" in ended.err, kind
    assert_passed_over(run, ended, path, straight("average"))


def test_every_flipped_bit_is_noticed(
    stopped: Run, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of the state a sample that differs with the seed; of the manifest, in the long form, all."""
    rng = random.Random(SEED)
    run_id = stopped.status()["run_id"]
    assert FLIPS >= 50
    for number in range(FLIPS):
        source = rng.choice(stopped.checkpoints())
        path = Path(shutil.copytree(source, tmp_path / str(number) / source.name))
        assert problem_of(path, run_id) is None
        flipped("state.pt", rng.randrange(8 * (path / "state.pt").stat().st_size))(path)
        assert problem_of(path, run_id) == "has another content in state.pt than was written"
        shutil.rmtree(path)
    path = Path(shutil.copytree(stopped.checkpoint(), tmp_path / stopped.checkpoint().name))
    manifest = (path / "manifest.json").read_bytes()
    bits = range(0, 8 * len(manifest), 1 if LONG else 7)
    for bit in bits:
        flipped("manifest.json", bit)(path)
        assert problem_of(path, run_id) is not None, bit
        (path / "manifest.json").write_bytes(manifest)
    record_property("flips", FLIPS + len(bits))


@pytest.mark.parametrize("number", range(40 if LONG else 3))
def test_after_a_flipped_bit_the_older_checkpoint_leads_to_the_same_end(
    number: int, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED} {number}")
    run = stopped.copy(tmp_path / "run")
    path = run.checkpoint()
    file = rng.choice(sorted(path.iterdir()))
    flipped(file.name, rng.randrange(8 * file.stat().st_size))(path)
    assert_passed_over(run, run.resume(), path, straight("average"))


def test_a_checkpoint_of_another_run_or_step_is_not_taken(
    stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    other = stopped.new(tmp_path / "other").killed(COMMIT, 11)
    run = stopped.copy(tmp_path / "run")
    path = run.checkpoint()
    assert other.checkpoint().name == path.name
    copied_from(other.checkpoint())(path)
    ended = run.resume()
    assert_passed_over(run, ended, path, straight("average"))
    assert "belongs to another run" in ended.err
    run = stopped.copy(tmp_path / "again")
    path = run.checkpoint()
    copied_from(run.checkpoint(-2))(path)
    assert_passed_over(run, run.resume(), path, straight("average"))


def test_strangers_among_the_checkpoints_are_left_alone(
    stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    run = stopped.copy(tmp_path / "run")
    folder = run.folder / "checkpoints"
    strangers = ["notes.txt", "step-7", "step-000000001-copy", "step-000000002.pt"]
    for name in strangers:
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(tmp_path)
    assert_finishes_identical(run, straight("average"))
    assert all((folder / name / "mine").read_text() == "mine" for name in strangers)
    assert (folder / "pipe").is_fifo() and (folder / "link").is_symlink()


# Forged: all hashes are right, so that only the content speaks

FORGERIES: dict[str, Callable[[Path], Any]] = {
    "not a number": forged(lambda parts: parts["model"]["head.weight"][0].fill_(float("nan"))),
    "infinite average": forged(lambda parts: parts["averager"]["model"]["head.bias"].fill_(float("inf"))),
    "another shape": forged(lambda parts: parts["model"].update({"head.weight": torch.zeros(2, 99)})),
    "another type": forged(lambda parts: parts["model"].update({"head.bias": "zeros"})),
    "a moment of another shape": forged(lambda parts: _moments(parts).update(exp_avg=torch.zeros(3))),
    "a weight too many": forged(lambda parts: parts["model"].update(extra=torch.zeros(1))),
    "a step in words": forged(lambda parts: parts["counters"].update(step="many")),
    "another step": forged(lambda parts: parts["counters"].update(step=3)),
    "a moment that is no tensor": forged(lambda parts: _moments(parts).update(exp_avg="zeros")),
    "a step that is no number": forged(lambda parts: _moments(parts).update(step=torch.zeros(0))),
    "no model": forged(lambda parts: parts.pop("model")),
    "an average in words": forged(lambda parts: parts.update(weight_average="none")),
    "a negative position": forged(lambda parts: parts["position"].update(offset=-5)),
    "a list": lambda path: forge(path, [1, 2, 3]),
    "text": lambda path: forge(path, b"not a checkpoint"),
    "a call": lambda path: forge(path, {"model": Payload()}),
    "a record longer than there is": lambda path: forge(path, metrics_bytes=10**9),
    "a negative record": lambda path: forge(path, metrics_bytes=-1),
    "a record in words": lambda path: forge(path, metrics_bytes="all"),
    "a file elsewhere": lambda path: forge(path, files={"../../../../secret": {"bytes": 1, "sha256": ""}}),
    "another best": lambda path: forge(path, best_step="the last"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_is_refused_or_passed_over(
    kind: str, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    run = stopped.copy(tmp_path / "run")
    path = run.checkpoint()
    FORGERIES[kind](path)
    ended = run.resume(patience_s=20)
    assert ended.code in (0, CANNOT_RESUME), ended
    assert ended.memory_bytes < LARGEST_BYTES, ended.memory_bytes >> 20
    if ended.code == 0:
        assert_identical(run, straight("average"))
        assert run.started_at()[-1] > 0, ended


def test_a_bomb_is_not_unpacked(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    bomb(run.checkpoint())
    ended = run.resume()
    assert ended.code == CANNOT_RESUME and "compressed" in ended.err, ended
    assert ended.memory_bytes < BOMB_BYTES


def _moments(parts: dict[str, Any]) -> dict[str, Any]:
    return parts["optimizer"]["state"]["state"][0]


# Where nothing is left to go on from


def test_where_all_are_damaged_it_refuses_and_changes_nothing(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    for path in run.checkpoints():
        flipped("state.pt", 4321)(path)
    before = snapshot(run.folder)
    ended = run.resume()
    assert ended.code == CANNOT_RESUME, ended
    assert all(f"checkpoint {path.name} is damaged" in ended.err for path in run.checkpoints())
    assert snapshot(run.folder) == before


def test_a_record_that_is_shorter_than_it_was_is_not_made_up(stopped: Run, tmp_path: Path) -> None:
    for number, name in enumerate(["cut", "gone"]):
        run = stopped.copy(tmp_path / name)
        file = run.folder / "metrics.jsonl"
        os.truncate(file, 100) if number == 0 else file.unlink()
        ended = run.resume()
        assert ended.code == CANNOT_RESUME, ended
        assert "metrics.jsonl" in ended.err


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "garbage": lambda place: place.write_bytes(b"\0\xff{[" * 9),
}
FILES = [
    "config.yaml",
    "status.json",
    "environment.json",
    "metrics.jsonl",
    "timing.jsonl",
    "trainrun.log",
    ".lock",
]


@pytest.mark.parametrize(("name", "kind"), list(product(FILES, KINDS))[:: 1 if LONG else 2])
def test_another_file_of_the_run(
    name: str, kind: str, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    """Never a hang, never a traceback, never another result."""
    run = stopped.copy(tmp_path / "run")
    place = run.folder / name
    place.unlink()
    KINDS[kind](place)
    ended = run.resume(patience_s=20)
    assert ended.code in (0, 2, 5, 9), ended
    if ended.code == 0:
        assert run.metrics() == straight("average").metrics()
        assert run.checkpoint().name == straight("average").checkpoint().name
