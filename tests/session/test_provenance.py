"""environment.json says where a run's numbers come from, and nothing of the environment's secrets."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch

import trainrun
from trainrun.protocols import DataInfo
from trainrun.runtime.machine import Runtime
from trainrun.session.provenance import environment, packages

RUNTIME = Runtime(torch.device("cpu"), 2, True, "off", None, False, False, None, None, None)
INFO = DataInfo("toy", (4,), "classes", 3, {"train": 10, "val": None}, fingerprint="abcd")


def git(*words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_it_says_what_the_numbers_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    Path("code.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    Path("code.py").write_text("a = 2\n")
    content = environment(RUNTIME, INFO, 32, "trainrun 'optimizer.betas=[0.9, 0.99]'")
    assert content["command"] == "trainrun 'optimizer.betas=[0.9, 0.99]'"  # can be pasted
    assert content["git"]["commit"] == git("rev-parse", "HEAD")
    assert "-a = 1" in content["git"]["diff"] and "+a = 2" in content["git"]["diff"]
    assert content["trainrun"] == trainrun.__version__
    assert content["packages"]["torch"] == metadata.version("torch")
    assert (content["device"], content["deterministic"]) == ("cpu", True)
    assert content["threads"] == torch.get_num_threads()
    assert content["data"] == {"name": "toy", "fingerprint": "abcd", "sizes": {"train": 10, "val": None}}
    assert {"python", "platform", "processor"} <= content.keys()
    json.dumps(content, allow_nan=False)


def test_all_packages_are_there_as_their_whole_records_have_them() -> None:
    records = ((record.metadata["Name"], record.version) for record in metadata.distributions())
    assert packages() == dict(sorted(pair for pair in records if pair[0]))


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment(RUNTIME, INFO, 32, "trainrun")["git"] is None


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment(RUNTIME, INFO, 32, "trainrun")["git"] is None


def test_no_environment_variable_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t-value")
    assert "s3cr3t-value" not in json.dumps(environment(RUNTIME, INFO, 32, "trainrun"))
