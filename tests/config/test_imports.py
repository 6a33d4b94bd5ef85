"""What is imported of a folder that is held back: what the user trusts and what that imports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from trainrun.config import imports
from trainrun.config.signature import module_exists, signature

NAMES = (
    "probe_model",
    "probe_helper",
    "probe_late",
    "probe_other",
    "probe_package",
    "probe_package.inner",
    "wave",
    "json",
)


@pytest.fixture
def held(folder: Path, files: Callable[[Mapping[str, str]], None]) -> Iterator[Path]:
    files(
        {
            "probe_model.py": "import probe_helper, json\n"
            "def late():\n    import probe_late\n    return probe_late.VALUE\n"
            "class Net:\n    def __init__(self, width): ...\n",
            "probe_helper.py": "VALUE = 1\n",
            "probe_late.py": "VALUE = 2\n",
            "probe_other.py": "raise SystemExit('imported')\n",
            "probe_package/__init__.py": "from probe_package.inner import VALUE\n",
            "probe_package/inner.py": "VALUE = 3\n",
            "wave.py": "raise SystemExit('imported')\n",  # one of Python's own names
        }
    )
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    with imports.held_back():
        yield folder
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def test_nothing_is_imported_before_it_is_trusted(held: Path) -> None:
    assert str(held) not in sys.path and "" not in sys.path
    for name in NAMES[:5]:
        assert not module_exists(name)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_a_trusted_module_and_what_it_imports(held: Path) -> None:
    imports.admit(["probe_model", "probe_package.inner"])
    takes = signature("probe_model.Net")
    assert takes is not None and list(takes.parameters) == ["width"]
    module = importlib.import_module("probe_model")
    assert module.probe_helper.VALUE == 1 and module.late() == 2
    assert importlib.import_module("probe_package.inner").VALUE == 3
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("probe_other")


def test_no_file_takes_the_name_of_what_is_installed(held: Path) -> None:
    imports.admit(["wave"])
    assert not str(importlib.import_module("wave").__file__).startswith(str(held))


def test_ones_own_folder_comes_first_as_always(held: Path) -> None:
    imports.admit(None)
    assert sys.path[0] == str(held)
    with pytest.raises(SystemExit):
        importlib.import_module("probe_other")


def test_a_runs_folder_is_never_ones_own(held: Path) -> None:
    (held / "status.json").write_text("{}")
    imports.admit(None)
    assert str(held) not in sys.path


def test_afterwards_everything_is_as_before(folder: Path) -> None:
    before, finders = list(sys.path), list(sys.meta_path)
    with imports.held_back():
        imports.admit(None)
    assert sys.path == before and sys.meta_path == finders
    imports.admit(["probe_model"])  # nothing is held back: nothing to do
    assert sys.meta_path == finders and imports.find_module("probe_model") is None
