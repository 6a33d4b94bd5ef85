"""Signatures and class constants of a dotted name, read from source without importing it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from trainrun.config import imports

# Re-exports and base classes followed: more than any package we met needs, and an end for circles.
_DEPTH = 8


@dataclass(frozen=True)
class Parameter:
    """One named parameter; its annotation is source, which `trainrun.config.values` understands."""

    name: str
    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """The named parameters of a callable. `takes_any`: it has **kwargs, so no name is wrong."""

    parameters: dict[str, Parameter]
    takes_any: bool
    doc: str


def signature(target: str) -> Signature | None:
    """The signature of a function or of a class's __init__ or fields; None if source cannot tell."""
    if (definition := locate(target)) is None:
        return None
    node, module = definition
    return _class_signature(node, module) if isinstance(node, ast.ClassDef) else _function_signature(node)


def source_signature(target: str) -> Signature:
    """The signature of one of our own callables, which always has source."""
    takes = signature(target)
    if takes is None:
        raise LookupError(f"{target} has no source")
    return takes


def locate(target: str, depth: int = 0) -> tuple[ast.ClassDef | ast.FunctionDef, str] | None:
    """(definition, module) of a class or function, following re-exports; None where source does not tell."""
    module, _, name = target.rpartition(".")
    tree = _tree(module) if module else None
    if tree is None or depth > _DEPTH:
        return None
    for node in _top_level(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name and not _is_overload(node):
            return node, module
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if name == (alias.asname or alias.name) or alias.name == "*":
                    source = f"{_imported_from(node, module)}.{name if alias.name == '*' else alias.name}"
                    if hit := locate(source, depth + 1):
                        return hit
    return None


def names_in(module: str, depth: int = 0) -> list[str]:
    """Public classes and functions that a module's source defines or re-exports."""
    tree = _tree(module)
    names: list[str] = []
    for node in _top_level(tree) if tree and depth <= _DEPTH else ():
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                is_star = alias.name == "*"
                inside = names_in(_imported_from(node, module), depth + 1) if is_star else []
                names += inside if is_star else [alias.asname or alias.name]
    return [name for name in names if not name.startswith("_")]


def entries_of(target: str, attribute: str) -> dict[str, str]:
    """The entries of all dictionaries of texts that a class assigns to an attribute; {} if one is unclear."""
    entries: dict[str, str] = {}
    for value in _assigned(target, attribute):
        items = list(zip(value.keys, value.values, strict=True)) if isinstance(value, ast.Dict) else []
        literals = [(k, v) for k, v in items if isinstance(k, ast.Constant) and isinstance(v, ast.Constant)]
        texts = {str(key.value): str(text.value) for key, text in literals}
        spread = [ast.unparse(inner) for key, inner in items if key is None]
        if len(texts) + spread.count(f"self.{attribute}") < max(1, len(items)):
            return {}
        entries |= texts
    return entries


def constant_of(target: str, attribute: str) -> Any:
    """The literal that a class assigns to an attribute of its own; None where it assigns none."""
    for value in _assigned(target, attribute):
        with suppress(ValueError):
            return ast.literal_eval(value)
    return None


def _assigned(target: str, attribute: str) -> Iterator[ast.expr]:
    """What a class assigns to an attribute of its own, in its body and its methods."""
    definition = locate(target)
    for node in ast.walk(definition[0]) if definition and isinstance(definition[0], ast.ClassDef) else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value and any(ast.unparse(name).rpartition(".")[2] == attribute for name in targets if name):
            yield value


def source_file(module: str) -> Path | None:
    """The file of a module, found without importing its parents."""
    spec = _spec(module)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def module_exists(module: str) -> bool:
    """Whether a module could be imported, of whatever kind."""
    return module in sys.builtin_module_names or _spec(module) is not None


def _spec(module: str) -> ModuleSpec | None:
    path: list[str] | None = None
    spec = None
    for part in module.split("."):  # the whole name would ask for imported parents
        if spec and spec.submodule_search_locations is None:
            return None  # a plain module, which holds no others
        try:
            spec = PathFinder.find_spec(part, path) or (None if path else imports.find_module(part))
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _tree(module: str) -> ast.Module | None:
    file = source_file(module)
    try:
        return _parsed(file, file.stat().st_mtime_ns) if file else None
    except (OSError, SyntaxError, ValueError):
        return None


@cache
def _parsed(file: Path, changed: int) -> ast.Module:
    """The file's syntax tree; `changed` is its time stamp, because a notebook outlives edits."""
    return ast.parse(file.read_bytes())


def _top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements of a module, those under `if` and `try` included."""
    for node in getattr(tree, "body", []):
        if isinstance(node, (ast.If, ast.Try)):
            yield from _top_level(node)
            yield from _top_level(ast.Module(node.orelse, []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level(handler)
        else:
            yield node


def _imported_from(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    file, parts = source_file(module), module.split(".")
    above = node.level - 1 if file and file.name == "__init__.py" else node.level
    return ".".join([*parts[: len(parts) - above], *filter(None, [node.module])])


def _class_signature(node: ast.ClassDef, module: str, depth: int = 0) -> Signature | None:
    doc = ast.get_docstring(node) or ""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__" and not _is_overload(method):
            inner = _function_signature(method, is_method=True)
            return replace(inner, doc=doc or inner.doc)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return Signature(_fields(node), False, doc)
    for base in node.bases:
        name = ast.unparse(base).split("[")[0]
        hit = locate(f"{module}.{name}") or (locate(name) if "." in name else None)
        if hit and isinstance(hit[0], ast.ClassDef) and depth < _DEPTH:
            inherited = _class_signature(hit[0], hit[1], depth + 1)
            return inherited and replace(inherited, doc=doc or inherited.doc)
    others = {ast.unparse(base) for base in node.bases} - {"nn.Module", "torch.nn.Module", "Module"}
    return None if others else Signature({}, False, doc)


def _is_overload(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """A declaration for type checkers; what is called comes after it."""
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def _fields(node: ast.ClassDef) -> dict[str, Parameter]:
    return {
        statement.target.id: Parameter(statement.target.id, statement.annotation, statement.value is None)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _function_signature(node: ast.FunctionDef, is_method: bool = False) -> Signature:
    positional, keywords = node.args.posonlyargs + node.args.args, node.args.kwonlyargs
    required = len(positional) - len(node.args.defaults)
    pairs = [(argument, index < required) for index, argument in enumerate(positional)]
    pairs = pairs[1:] if is_method else pairs
    pairs += [(a, default is None) for a, default in zip(keywords, node.args.kw_defaults, strict=True)]
    parameters = {a.arg: Parameter(a.arg, a.annotation, is_required) for a, is_required in pairs}
    return Signature(parameters, node.args.kwarg is not None, ast.get_docstring(node) or "")
