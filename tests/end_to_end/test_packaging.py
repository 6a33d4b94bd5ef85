"""Wherever trainrun is installed and started, it finds its configs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked where nothing of the checkout lies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_carries_every_config_and_guide(wheel: Path) -> None:
    packed = {
        str(file.relative_to(wheel / "trainrun" / "conf"))
        for file in (wheel / "trainrun" / "conf").rglob("*.yaml")
    }
    assert packed == {str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.yaml")}
    ours = {
        file.relative_to(ROOT) for file in (ROOT / "trainrun").rglob("*") if file.suffix in (".py", ".md")
    }
    assert all((wheel / file).is_file() for file in ours)


@pytest.mark.parametrize("where", ["wheel", "checkout"])
def test_a_run_from_another_folder(where: str, wheel: Path, tmp_path: Path) -> None:
    source = wheel if where == "wheel" else ROOT
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    code = "import sys, trainrun.config.paths as p; print(p.CONF)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert Path(found.stdout.strip()).is_relative_to(source), found
    command = [sys.executable, "-m", "trainrun", "budget=1step", "model=linear", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip() / "status.json").is_file()


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("trainrun")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"trainrun \d+\.\d+\.\d+\n", done.stdout)


def test_the_version_is_the_changelogs() -> None:
    from trainrun import __version__

    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == __version__
