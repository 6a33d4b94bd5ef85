"""Signatures: by one key, of one id and one config, in a folder that may be moved."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainrun.run import signing

CONFIG = "seed: 0\n"
ID = "0123456789abcdef"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINRUN_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def run_of(folder: Path, config: str = CONFIG, run_id: str = ID) -> Path:
    folder.mkdir()
    signing.sign(folder, run_id, config)
    (folder / "config.yaml").write_text(config)
    (folder / "status.json").write_text(json.dumps({"run_id": run_id}))
    return folder


def test_a_signature_holds_wherever_the_folder_goes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    moved = run.rename(tmp_path / "elsewhere")
    assert signing.doubt(moved, CONFIG) is None
    assert signing.stored_id(moved) == ID
    (moved / "status.json").write_text("{}")  # lost in a kill
    assert signing.doubt(moved, CONFIG) is None


def test_it_is_an_hmac_of_id_and_config_by_the_key_in_the_state_folder(tmp_path: Path, state: Path) -> None:
    run, key = run_of(tmp_path / "run"), (state / "key").read_bytes()
    parts = [hashlib.sha256(text.encode()).hexdigest() for text in ("run", ID, CONFIG)]
    expected = hmac.new(key, "\n".join(parts).encode(), "sha256").hexdigest()
    stored = json.loads((run / "signature.json").read_text())
    assert stored["signatures"] == [expected] and stored["run_id"] == ID
    assert key.hex() not in (run / "signature.json").read_text()
    assert len(key) == 32 and stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert [file.name for file in state.iterdir()] == ["key"]  # nothing of its making stays


FORGED = {
    "another config": lambda run, other: (run / "config.yaml").write_text("seed: 1\n"),
    "the signature of another run": lambda run, other: (run / "signature.json").write_bytes(
        (other / "signature.json").read_bytes()
    ),
    "the id of another run": lambda run, other: (run / "status.json").write_text('{"run_id": "f"}'),
    "another id in the signature": lambda run, other: (run / "signature.json").write_text(
        (run / "signature.json").read_text().replace(ID, "f" * 16)
    ),
    "no signature": lambda run, other: (run / "signature.json").unlink(),
    "no text": lambda run, other: (run / "signature.json").write_bytes(b"\xff\0"),
    "no mapping": lambda run, other: (run / "signature.json").write_text("[1]"),
    "odd types": lambda run, other: (run / "signature.json").write_text(
        json.dumps({"run_id": ID, "signatures": [None, 1, "é", {}]})
    ),
    "nested": lambda run, other: (run / "signature.json").write_text("[" * 4000),
    "a pipe": lambda run, other: ((run / "signature.json").unlink(), os.mkfifo(run / "signature.json")),
    "a linked signature": lambda run, other: (
        (run / "signature.json").rename(run / "s"),
        (run / "signature.json").symlink_to("s"),
    ),
    "a linked config": lambda run, other: (
        (run / "config.yaml").rename(run / "c"),
        (run / "config.yaml").symlink_to("c"),
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_whatever_was_exchanged_is_noticed(kind: str, tmp_path: Path) -> None:
    run, other = run_of(tmp_path / "run"), run_of(tmp_path / "other", "seed: 1\n", "f" * 16)
    FORGED[kind](run, other)
    assert signing.doubt(run, (run / "config.yaml").read_text())
    assert signing.doubt(other, "seed: 1\n") is None


def test_a_resume_that_is_killed_between_signature_and_config_loses_neither(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    signing.sign(run, ID, CONFIG, "seed: 2\n")
    assert signing.doubt(run, CONFIG) is None
    assert signing.doubt(run, "seed: 2\n") is None
    assert signing.doubt(run, "seed: 3\n")


def test_another_key_is_told_from_a_changed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    run = run_of(tmp_path / "run")
    assert "changed after" in str(signing.doubt(run, "seed: 1\n"))
    monkeypatch.setenv("TRAINRUN_STATE", str(tmp_path / "node"))
    said = str(signing.doubt(run, CONFIG))
    assert f"there is no key in {tmp_path / 'node'}" in said and "TRAINRUN_STATE" in said
    run_of(tmp_path / "theirs")
    said = str(signing.doubt(run, CONFIG))
    assert "another key" in said and str(tmp_path / "node") in said and "TRAINRUN_STATE" in said


def test_where_the_key_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINRUN_STATE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    run_of(tmp_path / "a")
    assert (tmp_path / "xdg/trainrun/key").is_file()
    for unset in ("relative/path", ""):  # which the specification says to ignore
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert signing.doubt(run_of(tmp_path / f"b{len(unset)}"), CONFIG) is None
    assert (tmp_path / "home/.local/state/trainrun/key").is_file()


def _unwritable(folder: Path) -> None:
    folder.write_text("a file")


def _damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "key").write_bytes(b"short")


def _piped(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "key")


@pytest.mark.parametrize("spoil", [_unwritable, _damaged, _piped])
def test_without_a_key_a_run_is_not_signed_and_the_refusal_explains(
    spoil: object, tmp_path: Path, state: Path
) -> None:
    spoil(state)  # type: ignore[operator]
    run = run_of(tmp_path / "run")
    assert not (run / "signature.json").exists()
    assert str(state) in str(signing.doubt(run, CONFIG))


def test_a_relative_state_folder_would_be_another_one_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINRUN_STATE", "state")
    assert "TRAINRUN_STATE must be an absolute path, got state" in str(
        signing.doubt(run_of(tmp_path / "run"), CONFIG)
    )
    assert not (tmp_path / "state").exists()


def test_of_processes_that_start_together_all_have_one_key(state: Path) -> None:
    code = "from trainrun.run.signing import _key; print(_key(is_made=True).hex())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
    assert {process.communicate()[0].strip().decode() for process in started} == {
        (state / "key").read_bytes().hex()
    }


def test_a_sweeps_line_is_signed_word_by_word() -> None:
    words = ["-m", "model=mine", "seed=0,1"]
    signature = signing.sign_words(words)
    assert signing.doubt_words(words, signature) is None
    for other in (["-m", "model=mine\nseed=0,1"], words[:2], [*words, "x"], ["-m", "model=min", "eseed=0,1"]):
        assert signing.doubt_words(other, signature)
    for odd in (None, [], "x", {}, {"signature": None}, {"signature": ["x"]}):
        assert signing.doubt_words(words, odd)
