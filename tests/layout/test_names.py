"""Names: public functions stay reachable, public classes are unique, and bound names say what they hold."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainrun

PACKAGE = Path(__file__).resolve().parents[2] / "trainrun"
MODULES = sorted(PACKAGE.rglob("*.py"))
# They fit everything, so they say nothing.
EMPTY_NAMES = ("one", "found", "told")


def bound(tree: ast.AST) -> Iterator[str]:
    """The names of variables, arguments and attributes that a module sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


def test_every_way_to_bind_a_name_is_seen() -> None:
    code = """
import x as one
def f(one, *, told: int = 0): pass
self.found = 1
for one, told in []: pass
[one for one in x if (found := one)]
with a as told: pass
match y:
    case {"k": one, **found}: pass
class C:
    one: int
"""
    assert Counter(bound(ast.parse(code))) == Counter(one=6, told=3, found=3)


@pytest.mark.parametrize("name", EMPTY_NAMES)
def test_names_that_say_nothing_are_not_bound(name: str) -> None:
    places = [
        f"{file.relative_to(PACKAGE)}"
        for file in MODULES
        for other in bound(ast.parse(file.read_text()))
        if other == name
    ]
    assert not places, Counter(places)


def test_public_class_names_are_unique() -> None:
    homes: dict[str, set[str]] = {}
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(str(file.relative_to(PACKAGE)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_module_hides_a_public_name() -> None:
    """Importing trainrun.NAME would put the module in the place of the function."""
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert modules & set(trainrun.__all__) == set()
    for name in sorted(modules - {"__main__"}):
        importlib.import_module(f"trainrun.{name}")
    for name in set(trainrun.__all__) - {"__version__"}:
        assert callable(getattr(trainrun, name)), name
