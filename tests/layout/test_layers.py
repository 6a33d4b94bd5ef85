"""Every package stands on a floor, imports run downward only, and nothing imports in a circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "trainrun"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up; what shares a floor does not import each other.
FLOORS = (
    ("vocabulary",),
    ("protocols", "ranks"),
    ("terminal",),
    ("tables",),  # below config, which reads a table's target to choose the task, without torch
    ("config",),
    ("runtime",),  # below the other groups: two of them take torchvision from it
    (
        *("data", "augment", "model", "init", "parameters", "task", "loss", "optimizer", "scheduler"),
        *("regularization", "precision", "parallel", "logger"),
    ),
    ("run",),
    ("checkpoint",),
    ("loop",),
    ("assembly",),
    ("session",),
    ("check", "doctor"),
    ("tune",),
    ("sweep",),
    ("report",),
    ("cli",),
)
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}
DOORS = ("__init__", "__main__")  # of the package itself: they lead anywhere
# How many packages and modules a newcomer meets first.
MOST_ENTRIES = 33


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(file) for file in MODULES}


def statements(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """What runs of a module; with `lazy` also what its functions hold."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not lazy:
            continue
        yield child
        yield from statements(child, lazy)


def imports(file: Path, lazy: bool = True) -> set[str]:
    """Modules that a file imports at run time; of trainrun's own each by its whole name."""
    modules = set()
    for node in statements(ast.parse(file.read_text()), lazy):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                modules.add(whole if whole in NAMES else node.module)
    return modules


def package_of(module: str) -> str:
    return module.split(".")[1]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        due = list(graph.get(start, ()))
        while due:
            if (node := due.pop()) not in seen:
                seen.add(node)
                due += graph.get(node, ())
        return seen

    reach = {node: reached(node) for node in graph}
    return [
        {node} | {n for n in reach[node] if node in reach.get(n, ())} for node in graph if node in reach[node]
    ]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    own = {name_of(file): {m for m in imports(file) if m.startswith("trainrun.")} for file in MODULES}
    return {name: modules - {name} for name, modules in own.items()}


def test_every_package_has_a_floor_and_there_are_few() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert {entry.removesuffix(".py") for entry in entries} - {*DOORS, "conf"} == set(FLOOR)
    assert len(entries) <= MOST_ENTRIES


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downward_also_those_inside_functions(file: Path) -> None:
    if file.parent == PACKAGE and file.stem in DOORS:
        return
    own = package_of(f"{name_of(file)}.")
    for module in imports(file):
        assert module != "trainrun", "the door leads in, not out"
        if module.startswith("trainrun.") and (other := package_of(module)) != own:
            assert FLOOR[other] < FLOOR[own], f"{own} imports {other}, which is not below it"


def test_nothing_imports_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert circles(graph) == []
    packages: dict[str, set[str]] = {}
    for name, modules in graph.items():
        if "." in name:
            packages.setdefault(package_of(name), set()).update(map(package_of, modules))
    assert circles({name: others - {name} for name, others in packages.items()}) == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}] * 3


@pytest.mark.parametrize("file", sorted((PACKAGE / "logger").glob("*.py")), ids=lambda file: file.name)
def test_loggers_know_neither_torch_nor_a_part(file: Path) -> None:
    for module in imports(file):
        assert module.split(".")[0] != "torch"
        if module.startswith("trainrun."):
            assert package_of(module) in {"vocabulary", "terminal", "logger"}


def test_the_vocabulary_needs_only_the_standard_library() -> None:
    for file in (PACKAGE / "vocabulary").glob("*.py"):
        for module in imports(file):
            assert module.startswith("trainrun.") or module.split(".")[0] in sys.stdlib_module_names


def test_config_knows_no_torch() -> None:
    knowing = [
        file
        for file in (PACKAGE / "config").rglob("*.py")
        if "torch" in {m.split(".")[0] for m in imports(file)}
    ]
    assert knowing == []


def test_only_the_composer_knows_hydra() -> None:
    knowing = {
        file.relative_to(PACKAGE).parent.as_posix()
        for file in MODULES
        if any(module.split(".")[0] == "hydra" for module in imports(file))
    }
    assert knowing == {"config/compose"}


def test_only_the_command_line_exits_and_only_it_and_the_terminal_print() -> None:
    printing = {"cli", "logger", "terminal"}
    for file in MODULES:
        if printing & {*file.relative_to(PACKAGE).parts} or file.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.exit", "exit"), f"{file.name}:{node.lineno}: {called}"


def test_what_answers_mistakes_does_not_import_torch_at_load() -> None:
    light = [
        name_of(PACKAGE / f"{name}.py")
        for name in ("cli/main", "cli/help", "cli/show", "cli/train", "cli/runs")
    ]
    light += [name_of(file) for file in (PACKAGE / "config").rglob("*.py")]
    for name in reached_at_load(light):
        file = PACKAGE.parent / f"{name.replace('.', '/')}.py"
        file = file if file.is_file() else PACKAGE.parent / name.replace(".", "/") / "__init__.py"
        for module in imports(file, lazy=False):
            assert module.split(".")[0] not in ("torch", "numpy", "rich", "torchvision"), f"{name}: {module}"


def reached_at_load(names: list[str]) -> set[str]:
    """Modules that come in with these, their packages' own included."""
    files = {name_of(file): file for file in MODULES}
    seen: set[str] = set()
    due = list(names)
    while due:
        name = due.pop()
        if name in seen or name not in files:
            continue
        seen.add(name)
        due += imports(files[name], lazy=False)
        due.append(name.rpartition(".")[0])
    return seen
