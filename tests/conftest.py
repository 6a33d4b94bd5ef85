"""Fixtures that tests share: an empty folder to start the command in, and the command itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainrun.cli.main import main
from trainrun.config.compose.experiments import forget_experiments


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is marked `torture` to `make torture`; `check` runs a sample of the same kind."""
    if "torture" in config.option.markexpr:
        return
    if long := [item for item in items if item.get_closest_marker("torture")]:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("torture")]


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where runs of tests are signed, also by the processes they start: not in the home of who runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINRUN_STATE", str(folder))
        yield folder


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk: no test here cuts the power; what is fsynced has its own test."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@dataclass(frozen=True)
class Answer:
    """What the command said. `line` is the corrected command that it offered."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str | None:
        found = [line[2:] for line in self.err.splitlines() if line.startswith("  trainrun ")]
        assert len(found) <= 1
        return found[0] if found else None


Cli = Callable[..., Answer]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; modules that a test writes there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    forget_experiments()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # set by the command; restored with the rest
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def cli(folder: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    def run(*words: str) -> Answer:
        code = main(words)
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Files by name, with their folders."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def files(folder: Path) -> Callable[[Mapping[str, str]], None]:
    return lambda named: write(folder, named)
