"""Exclusion rules of a sweep, `optimizer=sgd and optimizer.lr<0.01`: read, and asked of a job's overrides."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from hydra.errors import HydraException

from trainrun.config.compose.grammar import value_of
from trainrun.config.overrides import key_of
from trainrun.config.space import Axis, Choices, Words, grid, split_replicates
from trainrun.config.suggest import did_you_mean
from trainrun.vocabulary.errors import ConfigError

Condition = Callable[[Mapping[str, Any]], bool]  # of a job's values by their keys

_EQUALS = re.compile(r"""("[^"]*"|'[^']*')|(?<![<>=!])=(?!=)""")  # one sign, outside of quotes
_SIGNS: dict[Any, Any] = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt}
_SIGNS |= {ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_FORM = "compare KEY=VALUE, !=, <, <=, > or >=; join with and, or, not, ( ); put quotes around other texts"
_value_of = cache(value_of)


class Exclusion(dict[str, Condition]):
    """The rules by their texts; called with a job's overrides: whether one of them leaves it out."""

    def __call__(self, words: Words) -> bool:
        values = {key_of(word): _value_of(word) for word in words} if self else {}
        return any(rule(values) for rule in self.values())

    def note(self, count: int, then: str = "") -> str:
        """What a sweep says of the `count` points that were left out, and of what it did `then`."""
        return f"; {count or 'none'} excluded by sweep.exclude{then * bool(count)}" if self else ""


def exclusion(rules: Any, axes: Sequence[Axis], is_grid: bool) -> Exclusion:
    """The rules, about keys of the axes. What is no list of texts is reported elsewhere.

    Raises ConfigError for a rule that cannot be read, or that leaves out all or none of a grid.
    """
    texts = [rule for rule in rules if isinstance(rule, str)] if isinstance(rules, list) else []
    keys = [key for axis in (axes if is_grid else split_replicates(axes)[0]) for key in axis.key.split(",")]
    excludes = Exclusion({text: _read(text, keys) for text in texts})
    lists = [axis for axis in axes if isinstance(axis, Choices)]
    jobs = grid(lists) if texts and is_grid and len(lists) == len(axes) else []
    for parts in [*([text] for text in texts), texts] if jobs else ():
        count = sum(map(Exclusion({text: excludes[text] for text in parts}), jobs))
        if count in (0, len(jobs)):
            which = f"excludes {'all' if count else 'none'} of the {len(jobs)} jobs"
            raise _fault("' with '".join(parts), f"{which}; change the rule or what is swept")
    return excludes


def _fault(rule: str, text: str) -> ConfigError:
    return ConfigError.of("sweep.exclude", f"'{rule}' {text}")


def _read(rule: str, keys: Sequence[str]) -> Condition:
    """A rule's condition. Only its grammar is Python's: nothing of it is run."""
    source = _EQUALS.sub(lambda match: match[1] or "==", rule).strip()

    def condition(node: ast.AST) -> Condition:
        match node:
            case ast.BoolOp(values=nodes):
                parts, join = list(map(condition, nodes)), all if isinstance(node.op, ast.And) else any
                return lambda values: join(part(values) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = condition(operand)
                return lambda values: not inner(values)
            case ast.Compare(ops=[sign], comparators=[right]):
                texts = [str(ast.get_source_segment(source, side)) for side in (node.left, right)]
                return _comparison(rule, texts[0], type(sign), texts[1], keys)
        raise _fault(rule, f"cannot be read at {ast.unparse(node)}; {_FORM}")

    try:
        return condition(ast.parse(source, mode="eval").body)
    except (HydraException, SyntaxError, ValueError, RecursionError, MemoryError):
        raise _fault(rule, f"cannot be read; {_FORM}") from None


def _comparison(rule: str, key: str, sign: type[ast.cmpop], text: str, keys: Sequence[str]) -> Condition:
    if key not in keys:
        tried = f"{', '.join(keys) or 'nothing'}{did_you_mean(key, keys)}"
        raise _fault(rule, f"names {key}; a rule is about what this sweep tries: {tried}")
    value, kinds = _value_of(f"x={text}"), object if sign in (ast.Eq, ast.NotEq) else (int, float)
    if sign not in _SIGNS or not isinstance(value, kinds):
        raise _fault(rule, f"must compare {key} with a number there, got {text}")
    return lambda values: isinstance(values[key], kinds) and bool(_SIGNS[sign](values[key], value))
