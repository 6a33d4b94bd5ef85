"""Imports run downward only: vocabulary, config grammar, parts and loggers, core, assembly."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "trainrun"
MODULES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {"errors", "visible", "events", "duration", "ranges", "seeds", "protocols"}
GRAMMAR = {"config", "tables"}  # all of config but build, call and what they need is free of torch
PARTS = {
    *("data", "augment", "model", "task", "regularization"),
    *("init", "parameters", "loss", "optimizer", "scheduler", "precision", "runtime", "metrics", "vision"),
    *("ranks", "sweep"),
}
CORE = {
    "state",
    "step",
    "nonfinite",
    "health",
    "clock",
    "evaluate",
    "budget",
    "loop",
    "checkpoint",
    "tta",
    "export",
}
ASSEMBLY = {"cli", "config.build", "report", "check", "doctor", "tune"}
LAYER = (
    dict.fromkeys(VOCABULARY, 0)
    | dict.fromkeys(GRAMMAR, 1)
    | dict.fromkeys((*PARTS, "logger", "run"), 2)
    | dict.fromkeys(CORE, 3)
    | dict.fromkeys(ASSEMBLY, 4)
)
# A part may use these: the machine and the seams' own kinds.
SHARED_PARTS = {"vision", "ranks"}


def place_of(module: str) -> str:
    """`trainrun.assembly.build` -> `config.build`, `trainrun.data.idx` -> `data`."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:2] == ["config", "build"] else parts[0] if parts else ""


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, lazy: bool) -> Iterator[str]:
    """Modules a file imports at run time; with `lazy` also those inside functions."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not lazy:
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                yield child.module
            yield from walk(child)

    return walk(ast.parse(file.read_text()))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downward(file: Path) -> None:
    own = place_of(name_of(file))
    for module in imports(file, lazy=True):
        if not module.startswith("trainrun.") or own in ("", "__main__"):
            continue
        other = place_of(module)
        if other == own:
            continue
        assert LAYER[other] <= LAYER[own], (
            f"{own} (layer {LAYER[own]}) imports {other} (layer {LAYER[other]})"
        )
        if own in PARTS and other in PARTS:
            assert other in SHARED_PARTS, f"part {own} imports part {other}"


@pytest.mark.parametrize("file", sorted((PACKAGE / "logger").glob("*.py")), ids=lambda file: file.name)
def test_loggers_know_neither_torch_nor_the_core(file: Path) -> None:
    for module in imports(file, lazy=True):
        assert module.split(".")[0] != "torch"
        if module.startswith("trainrun."):
            assert place_of(module) in VOCABULARY | {"logger"}


def test_the_vocabulary_needs_only_the_standard_library() -> None:
    for name in VOCABULARY:
        for module in imports(PACKAGE / f"{name}.py", lazy=True):
            assert (
                module.startswith("trainrun.")
                or module.split(".")[0] in __import__("sys").stdlib_module_names
            )


def test_only_compose_knows_hydra() -> None:
    knowing = {
        str(file.relative_to(PACKAGE))
        for file in MODULES
        if any(module.split(".")[0] == "hydra" for module in imports(file, lazy=True))
    }
    assert {str(Path(name).parent) for name in knowing} == {"config/compose"}


def test_only_the_command_line_prints_and_exits() -> None:
    for file in MODULES:
        if {"cli", "logger"} & {*file.relative_to(PACKAGE).parts} or file.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.exit", "exit"), f"{file.name}:{node.lineno}: {called}"


def test_what_answers_mistakes_does_not_import_torch_at_load() -> None:
    homes = ("config", "config/compose", "cli", "cli/plot")
    light = [file for home in homes for file in (PACKAGE / home).glob("*.py")]
    heavy = {"build.py", "session.py", "stored.py", "continuation.py", "coverage.py", "exact.py", "memory.py"}
    for file in light:
        if file.name in heavy and not (file.parent.name == "config" and file.name == "stored.py"):
            continue
        for module in imports(file, lazy=False):
            assert module.split(".")[0] not in ("torch", "numpy", "rich", "torchvision"), (
                f"{file.name}: {module}"
            )
