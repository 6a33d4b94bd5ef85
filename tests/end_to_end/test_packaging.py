"""Wherever trainrun is installed and started, it finds its configs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path) -> dict[str, Path]:
    """Wheel and sdist, each installed by pip into a folder of its own; and the checkout."""
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    for name, pattern in (("wheel", "*.whl"), ("sdist", "*.tar.gz")):
        (file,) = built.glob(pattern)
        command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(built / name), str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return {"wheel": built / "wheel", "sdist": built / "sdist", "checkout": ROOT}


@pytest.mark.parametrize("source", ["wheel", "sdist"])
def test_what_is_installed_carries_every_config_and_guide(source: str, installed: dict[str, Path]) -> None:
    package = installed[source] / "trainrun"
    packed = {str(file.relative_to(package / "conf")) for file in (package / "conf").rglob("*.yaml")}
    assert packed == {str(file.relative_to(ROOT / "conf")) for file in (ROOT / "conf").rglob("*.yaml")}
    kinds = (".py", ".md", ".svg", ".png")
    ours = {file.relative_to(ROOT) for file in (ROOT / "trainrun").rglob("*") if file.suffix in kinds}
    assert all((installed[source] / file).is_file() for file in ours)


def test_the_sdist_is_the_whole_checkout(built: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a checkout of git")
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    names = {name for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}
    assert {name for name in names - packed if not name.startswith((".ci/", "outputs/"))} == set()


def test_the_metadata_are_complete(installed: dict[str, Path]) -> None:
    (folder,) = installed["wheel"].glob("trainrun-*.dist-info")
    about = metadata.PathDistribution(folder).metadata
    assert about["Author"] == "trainrun developers"
    assert (about["License-Expression"], about["Requires-Python"]) == ("MIT", ">=3.11")
    assert len(about.get_all("Classifier") or []) > 5 and about["Keywords"]
    assert about.get_all("Project-URL") is None  # there is none
    extras: dict[str, set[str]] = {}
    for requirement, extra in re.findall(
        r"^(\S+);.*extra == '(\w+)'$", "\n".join(about.get_all("Requires-Dist") or []), re.M
    ):
        extras.setdefault(extra, set()).add(requirement)
    assert {extra for extra, needed in extras.items() if not needed <= extras["dev"]} == {"ray"}  # too large


def test_all_extras_can_be_installed_together(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        extras = re.findall(r"^Provides-Extra: (\w+)", archive.read(name).decode(), re.M)
    words = ["install", "--dry-run", "--quiet", "--disable-pip-version-check", "--retries", "0"]
    words += [
        "--constraint",
        str(ROOT / "tests" / "constraints.txt"),
        "--report",
        str(tmp_path / "report.json"),
    ]
    command = [sys.executable, "-m", "pip", *words, f"{wheel}[{','.join(extras)}]"]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ConnectionError" in done.stderr or "Retrying" in done.stderr:
        pytest.skip("no registry of packages can be reached")
    assert done.returncode == 0, done.stderr
    chosen = {
        item["metadata"]["name"] for item in json.loads((tmp_path / "report.json").read_text())["install"]
    }
    assert "trainrun" in chosen and len(extras) >= 11


@pytest.mark.parametrize("source", ["wheel", "sdist", "checkout"])
def test_a_run_from_another_folder(source: str, installed: dict[str, Path], tmp_path: Path) -> None:
    place = installed[source]
    environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    code = "import sys, trainrun.config.paths as p; print(p.CONF)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert Path(printed.stdout.strip()).is_relative_to(place), printed
    script = place / "bin" / "trainrun"
    command = [sys.executable, "-m", "trainrun"] if source == "checkout" else [str(script)]
    done = subprocess.run(
        [*command, "budget=1ep", "-q"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    status = json.loads((tmp_path / done.stdout.strip() / "status.json").read_text())
    assert (status["state"], status["step"]) == ("completed", 40)


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("trainrun")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"trainrun \d+\.\d+\.\d+\n", done.stdout)


def test_the_version_is_the_changelogs() -> None:
    from trainrun import __version__

    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == __version__
