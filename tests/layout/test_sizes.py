"""Files and functions stay small enough to be read at one sitting, and the loop on one screen."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "trainrun"
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_and_function_sizes(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 65, f"{file.name}:{node.lineno} {node.name} has {length} lines"


def test_the_loop_is_on_one_screen() -> None:
    tree = ast.parse((PACKAGE / "loop" / "loop.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    sizes = {node.name: (node.end_lineno or 0) - node.lineno for node in functions}
    assert sizes["train"] + sizes["_train"] <= 45


def test_files_are_mostly_short() -> None:
    assert statistics.median(len(file.read_text().splitlines()) for file in MODULES) <= 130


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(file: Path) -> None:
    doc = ast.get_docstring(ast.parse(file.read_text()))
    assert doc, file
    assert doc.isascii()


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_public_names_are_documented(file: Path) -> None:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            trivial = isinstance(node, ast.ClassDef) and len(node.body) == 1  # an exception with a code
            assert trivial or ast.get_docstring(node) or node.name in _SELF_EXPLAINING, (
                f"{file.name}: {node.name}"
            )


_SELF_EXPLAINING = {
    *(
        "TaskProtocol",
        "Schedule",
        "Data",
        "replace_json",
        "metrics_text",
        "did_you_mean",
        "exists",
        "to_yaml",
    ),
    *("Pace", "to_yaml", "main"),
}
