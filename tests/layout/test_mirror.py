"""The mirror: YAML group = module or package of trainrun = test of that name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF, PACKAGE, TESTS = ROOT / "conf", ROOT / "trainrun", ROOT / "tests"
GROUPS = sorted(
    folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("experiment", "hydra")
)
OPTIONS = sorted(CONF.glob("*/*.yaml"))


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_a_module_and_has_tests(group: str) -> None:
    assert (PACKAGE / f"{group}.py").is_file() or (PACKAGE / group / "__init__.py").is_file()
    assert (TESTS / f"test_{group}.py").is_file() or any((TESTS / group).glob("test_*.py"))


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_option_calls_its_own_group(file: Path) -> None:
    group = file.parent.name
    for target in re.findall(r"^\s*_target_: (\S+)", file.read_text(), re.M):
        if group != "experiment":
            home = {"loop": "(loop|step)"}.get(group, group)
            assert re.match(rf"trainrun\.{home}\.", target), target


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_option_says_in_its_first_comment_what_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert re.fullmatch(r"# [A-Za-z0-9].*[.:].*", lines[0]), lines[0]
    yaml.safe_load(file.read_text())


def test_every_package_has_tests_and_every_long_module_its_own() -> None:
    """A module of more than 100 lines has a test of its name, whatever else covers it end to end."""
    missing = []
    for module in PACKAGE.rglob("*.py"):
        place = module.relative_to(PACKAGE)
        folder, stem = TESTS / place.parent, module.stem
        if place.parts == ("__init__.py",):
            assert (TESTS / "session" / "test_python.py").exists()  # the Python door, which calls session
        elif stem == "__init__":
            # Guide pages and plots are printed by commands, whose tests are in the folder above.
            assert any(folder.glob("test_*.py")) or any(folder.parent.glob("test_*.py")), folder
        elif len(module.read_text().splitlines()) > 100 and not (folder / f"test_{stem}.py").exists():
            missing.append(str(place))
    assert not missing
