"""Changed files of the user's are run again, in order, and nothing else is."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from trainrun.config.reload import reload_changed, remember_loaded
from trainrun.vocabulary.errors import ConfigError

Files = Callable[[Mapping[str, str]], None]
SETTINGS = {"model": {"_target_": "my_model.Net"}, "task": {"metrics": ["my_metric.recall"]}}


@pytest.fixture
def project(folder: Path, files: Files) -> Path:
    files(
        {
            "my_layers.py": "WIDTH = 1\n",
            "my_model.py": "import json\nfrom my_layers import WIDTH\nclass Net:\n    width = WIDTH\n",
            "my_metric.py": "def recall(): return 1\n",
        }
    )
    for name in ("my_model", "my_metric"):
        importlib.import_module(name)
    remember_loaded(SETTINGS)
    return folder


def rewrite(file: Path, text: str) -> None:
    """Write a file; another size or time would be enough, a remembered source needs neither."""
    status = file.stat()
    file.write_text(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_nothing_changed_is_nothing_reloaded(project: Path) -> None:
    before = sys.modules["my_model"].Net
    assert reload_changed(SETTINGS) == []
    assert sys.modules["my_model"].Net is before


def test_what_is_imported_is_reloaded_before_who_imports_it(project: Path) -> None:
    holder = sys.modules["my_model"]
    rewrite(project / "my_layers.py", "WIDTH = 2\n")
    assert reload_changed(SETTINGS) == [
        "my_layers: reloaded because its file has changed",
        "my_model: reloaded because it imports my_layers",
    ]
    assert holder.Net.width == 2  # whoever holds the module sees the new code
    assert reload_changed(SETTINGS) == []


def test_a_callable_named_in_a_list_counts(project: Path) -> None:
    rewrite(project / "my_metric.py", "def recall(): return 2\n")
    assert [note.partition(":")[0] for note in reload_changed(SETTINGS)] == ["my_metric"]


@pytest.mark.parametrize(
    ("text", "said"), [("def (\n", r"fails, line 1: SyntaxError"), ("1 / 0\n", "fails: ZeroDivisionError")]
)
def test_a_file_that_fails_leaves_the_module_as_it_was(project: Path, text: str, said: str) -> None:
    rewrite(project / "my_model.py", text)
    with pytest.raises(ConfigError, match=rf"my_model: .*my_model\.py has changed and {said}"):
        reload_changed(SETTINGS)
    assert sys.modules["my_model"].Net.width == 1


def test_a_module_that_lies_elsewhere_now_is_forgotten(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "my_metric.py").write_text("def recall(): return 3\n")
    monkeypatch.syspath_prepend(str(other))
    (note,) = reload_changed(SETTINGS)
    assert note.startswith("my_metric: loaded from ") and "no longer from" in note
    assert "my_metric" not in sys.modules
    assert importlib.import_module("my_metric").recall() == 3
    del sys.modules["my_metric"]


def test_without_a_remembered_source_the_compiled_copy_tells(folder: Path, files: Files) -> None:
    files({"my_late.py": "X = 1\n"})
    importlib.import_module("my_late")
    settings = {"model": {"_target_": "my_late.X"}}
    assert reload_changed(settings) == []
    if not Path(str(sys.modules["my_late"].__spec__.cached)).exists():  # type: ignore[union-attr]
        pytest.skip("Python writes no compiled copies here")
    (folder / "my_late.py").write_text("X = 1000\n")
    assert len(reload_changed(settings)) == 1


def test_a_library_is_never_reloaded(folder: Path) -> None:
    assert reload_changed({"a": {"_target_": "yaml.safe_load"}, "b": "json.loads"}) == []
