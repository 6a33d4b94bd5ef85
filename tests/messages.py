"""Lists every message that a user can meet: `python tests/messages.py [PATTERN]`.

Collected from the package's source by ast: what is given to `ConfigError.of`, `Problem`, the exceptions of
`trainrun.vocabulary.errors` and those derived from them, and `say`. A text that stands in a variable, a
constant or the return value of a function is followed there. What is filled in at run time reads `{...}`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "trainrun"
SPEAKERS = {"say", "warn", "storage_failed", "Problem", "CheckResult"}
# The first argument is a key or a name; the third of the first two is a command.
AFTER_THE_KEY = {"of": slice(1, 2), "Problem": slice(1, 2), "CheckResult": slice(1, None)}
_MOST = 8  # texts followed from one argument: alternatives multiply


@dataclass(frozen=True, order=True)
class Message:
    """A text and where it is written."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A parsed module of the package, with the names that lead to texts."""

    def __init__(self, file: Path) -> None:
        self.name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        self.file = str(file.relative_to(PACKAGE.parent))
        self.tree = ast.parse(file.read_text(encoding="utf-8"))

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Functions and methods by name."""
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, Function)}

    @cached_property
    def imported(self) -> dict[str, str]:
        """Name here -> module it comes from."""
        return {
            alias.asname or alias.name: node.module or ""
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @cached_property
    def calls(self) -> list[tuple[ast.Call, Function | None]]:
        """Every call with the innermost function around it."""
        found: dict[ast.Call, Function | None] = {}
        for function in [None, *(node for node in ast.walk(self.tree) if isinstance(node, Function))]:
            for node in ast.walk(function or self.tree):  # inner functions come later, and win
                if isinstance(node, ast.Call):
                    found[node] = function
        return list(found.items())


MODULES = {module.name: module for module in map(Module, sorted(PACKAGE.rglob("*.py")))}


def messages() -> list[Message]:
    """All of them, in the order of the files."""
    speakers = SPEAKERS | _errors()
    found = set()
    for module in MODULES.values():
        for call, function in module.calls:
            name = _called(call)
            is_of = name == "of" and ast.unparse(call.func) == "ConfigError.of"
            if not is_of and name not in speakers:
                continue
            arguments = call.args[AFTER_THE_KEY.get(name, slice(None))]
            arguments += [word.value for word in call.keywords if word.arg == "text"]
            for argument in arguments:
                for text in _texts(argument, module, function, ()):
                    if re.search(r"[A-Za-z]{2}", re.sub(r"\{[^}]*\}", "", text)):
                        found.add(Message(module.file, argument.lineno, text))
    return sorted(found)


def literals() -> list[Message]:
    """Every text in the package but for docstrings: more than the messages, for what must stand nowhere."""
    found = []
    for module in MODULES.values():
        inner = {
            part
            for node in ast.walk(module.tree)
            if isinstance(node, (ast.JoinedStr, ast.Expr))  # of an f-string; a docstring
            for part in (node.values if isinstance(node, ast.JoinedStr) else [node.value])
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.JoinedStr):
                parts = (str(v.value) if isinstance(v, ast.Constant) else "{...}" for v in node.values)
                found.append(Message(module.file, node.lineno, "".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
                found.append(Message(module.file, node.lineno, node.value))
    return sorted(found)


def _errors() -> set[str]:
    """The exceptions of the vocabulary, and every class of the package below one of them."""
    known = {"TrainrunError"}
    classes = [
        (node.name, {ast.unparse(base).split(".")[-1] for base in node.bases})
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    while more := {name for name, bases in classes if bases & known} - known:
        known |= more
    return known


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _texts(
    node: ast.expr, module: Module, function: Function | None, seen: tuple[ast.AST, ...]
) -> Iterator[str]:
    """The texts that an expression can be."""
    if node in seen or len(seen) > 12:
        return
    seen = (*seen, node)

    def within(*nodes: ast.expr | None) -> Iterator[str]:
        for inner in nodes:
            if inner is not None:
                yield from _texts(inner, module, function, seen)

    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield from _joined([_part(v, module, function, seen) for v in values])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _joined([[*within(left)] or ["{...}"], [*within(right)] or ["{...}"]])
        case ast.IfExp(body=body, orelse=orelse):
            yield from within(body, orelse)
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            yield from within(*values)
        case ast.Dict(values=values):
            yield from within(*values)
        case ast.Starred(value=value) | ast.NamedExpr(value=value) | ast.Subscript(value=value):
            yield from within(value)
        case ast.GeneratorExp(elt=value) | ast.ListComp(elt=value):
            yield from within(value)
        case ast.Name(id=name):
            yield from _of_name(name, module, function, seen)
        case ast.Call(func=ast.Attribute(attr="join"), args=[value]):
            yield from within(value)
        case ast.Call():
            yield from _of_call(_called(node), module, seen)


def _part(value: ast.expr, module: Module, function: Function | None, seen: tuple[ast.AST, ...]) -> list[str]:
    """A piece of an f-string: itself, what a variable in it may hold where that has words, or `{...}`."""
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    inner = value.value if isinstance(value, ast.FormattedValue) else value
    return [*_texts(inner, module, function, seen)][:_MOST] or ["{...}"]


def _joined(parts: list[list[str]]) -> Iterator[str]:
    """Every combination where they are few, else each alternative once."""
    if not parts:
        return
    combinations = 1
    for part in parts:
        combinations *= len(part)
    if combinations <= _MOST:
        yield from map("".join, product(*parts))
        return
    for turn in range(max(map(len, parts))):
        yield "".join(part[turn % len(part)] for part in parts)


def _of_name(
    name: str, module: Module, function: Function | None, seen: tuple[ast.AST, ...]
) -> Iterator[str]:
    """What is assigned to a variable of the function, or to a constant of its module or another one."""
    values = [*_assigned(name, function)] if function else []
    if values:
        for value in values:
            yield from _texts(value, module, function, seen)
        return
    home = MODULES.get(module.imported.get(name, ""), module)
    for value in _assigned(name, home.tree):
        yield from _texts(value, home, None, seen)


def _assigned(name: str, tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(value, ast.expr) and isinstance(
            node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)
        ):
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield value
                elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    pairs = zip(target.elts, value.elts, strict=False)
                    yield from (v for t, v in pairs if isinstance(t, ast.Name) and t.id == name)


def _of_call(name: str, module: Module, seen: tuple[ast.AST, ...]) -> Iterator[str]:
    """What a function of the package returns or yields."""
    home = module if name in module.functions else MODULES.get(module.imported.get(name, ""), module)
    function = home.functions.get(name)
    if function is None or function in seen:
        return
    for node in ast.walk(function):
        if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
            yield from _texts(node.value, home, function, (*seen, function))


if __name__ == "__main__":
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    for message in messages():
        if re.search(pattern, message.text):
            print(message)
