"""Check one call of the settings: its target exists and fits, its arguments' names, types and ranges."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainrun.config.call import StoredOrigin, distrust, imported_signature, is_function, misfit
from trainrun.config.diagnose import WEIGHTS, unknown_argument
from trainrun.config.injection import Slot, extra_parameters, slot_of
from trainrun.config.plain import MISSING
from trainrun.config.signature import Signature, locate, module_exists, names_in, signature, source_signature
from trainrun.config.suggest import did_you_mean, hydra_value
from trainrun.config.values import complaint, nearest_value
from trainrun.vocabulary.errors import Problem

_TRUST = "runtime.trust="


@dataclass(frozen=True)
class Trust:
    """Which packages may be imported: `packages`, and for the user's own settings any that fits."""

    packages: Collection[str]
    stored: StoredOrigin | None


def check_call(node: Mapping[str, Any], path: str, trust: Trust) -> Iterator[Problem]:
    """Problems of one `{_target_, **arguments}`."""
    slot = slot_of(path)
    if slot is None:
        yield Problem(f"{path}._target_", "no call has a place here; make the object in a function of yours")
        return
    target = node["_target_"]
    if problem := _target_problem(target, f"{path}._target_", slot, trust):
        yield problem
        if problem.fix:  # report with it whatever else would be imported
            for key, value in node.items():
                yield from filter(asks_trust, _nested(value, f"{path}.{key}", trust))
        return
    takes = signature(target) or imported_signature(target)
    if takes is None:
        return
    given = {key: value for key, value in node.items() if key != "_target_"}
    whole = replace(takes, parameters={**extra_parameters(slot), **takes.parameters})
    is_own = not target.startswith("trainrun.") and is_function(target)
    plain = slot.plain if is_own else ()
    yield from check_arguments(Arguments(given, path, whole, target, slot.offers), plain)
    for key, value in given.items():
        yield from _nested(value, f"{path}.{key}", trust)


def _nested(value: Any, path: str, trust: Trust) -> Iterator[Problem]:
    """Calls inside a call's arguments, and names of callables in a list."""
    slot = slot_of(path)
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield from check_call(value, path, trust)
        else:
            for key, inner in value.items():
                yield from _nested(inner, f"{path}.{key}", trust)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if slot and isinstance(inner, str):
                problem = _target_problem(inner, path, slot, trust)
                yield from [problem] if problem else []
            else:
                yield from _nested(inner, path if slot else f"{path}[{index}]", trust)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call at `path` (the run's top level: ""), and what `target` takes."""

    given: Mapping[str, Any]
    path: str
    signature: Signature
    target: str
    offers: Collection[str] = ()

    def key(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def check_arguments(arguments: Arguments, plain: Collection[int] = ()) -> Iterator[Problem]:
    """Problems of each value, and of values that are missing.

    `plain`: how many missing ones are no fault, because the run calls the function with these.
    """
    for name, value in arguments.given.items():
        yield from _check_argument(arguments, name, value)
    missing = [
        name
        for name, parameter in arguments.signature.parameters.items()
        if parameter.required and name not in arguments.given and name not in arguments.offers
    ]
    if len(missing) not in plain:
        for key in map(arguments.key, missing):
            yield Problem(key, f"{arguments.target} needs a value: {key}=...")


def _check_argument(arguments: Arguments, name: str, value: Any) -> Iterator[Problem]:
    key, parameters = arguments.key(name), arguments.signature.parameters
    slot = slot_of(arguments.path)
    if slot and name in slot.reserved:
        yield Problem(key, "is set by the run itself; leave it out")
    elif name not in parameters:
        if not arguments.signature.takes_any:
            yield _of_class(name, arguments) or _unknown(name, value, arguments)
    elif value in ("???", MISSING):
        yield Problem(key, f"needs a value: {key}=...")
    elif isinstance(value, str) and value.startswith("@"):
        if value[1:] not in arguments.offers:
            offered = ", ".join(f"@{offer}" for offer in arguments.offers) or "none"
            yield Problem(key, f"there is no {value} here; there are {offered}")
    elif arguments.path and isinstance(value, Mapping) and "_target_" in value:
        return  # a call, which is checked by itself
    elif problem := _no_call(key, value) or _misfit_value(key, value, parameters[name].annotation):
        yield problem


def _unknown(name: str, value: Any, arguments: Arguments) -> Problem:
    usable = {n: p for n, p in arguments.signature.parameters.items() if n not in arguments.offers}
    text, near = unknown_argument(arguments.path, name, usable, arguments.target)
    fits = near and not complaint(value, usable[near].annotation)
    fix = f"{arguments.key(near)}={hydra_value(value)}" if near and fits else None
    if arguments.path == "model" and name in WEIGHTS and value:
        is_file = isinstance(value, str) and ("." in value or "/" in value)
        fix = f"init_from={hydra_value(value) if is_file else 'pretrained'}"
    return Problem(arguments.key(name), text, fix)


def _misfit_value(key: str, value: Any, annotation: ast.expr | None) -> Problem | None:
    is_word = isinstance(value, str) and value.lower() in (".nan", ".inf", "-.inf", "nan", "inf", "-inf")
    if is_word or (isinstance(value, float) and not math.isfinite(value)):
        return Problem(key, f"must be a finite number, got {value}")
    if not (wrong := complaint(value, annotation)):
        return None
    # A bare number up to this one is meant as epochs: more would be a budget in steps.
    unit = "ep" if key == "budget" and isinstance(value, int) and value <= 1000 else ""
    better = nearest_value(value, annotation, unit)
    return Problem(key, wrong, f"{key}={better}" if better else None)


def _no_call(key: str, value: Any) -> Problem | None:
    """A bare value in the place of a call, which may be meant for the call's main argument."""
    slot = slot_of(key)
    if slot is None or slot.named or isinstance(value, (Mapping, list)) or (value is None and not slot.main):
        return None
    got = "null" if value is None else repr(value)
    if not slot.main:
        return Problem(key, f"must be a mapping with a _target_, got {got}")
    wrong = complaint(value, source_signature(slot.bases[0]).parameters[slot.main].annotation)
    fix = None if wrong else f"{key}.{slot.main}={hydra_value(value)}"
    return Problem(key, f"must be a mapping, got {got}; did you mean {key}.{slot.main}?", fix)


def _of_class(name: str, arguments: Arguments) -> Problem | None:
    """An argument of the class that an adapter's `name` names; the adapter takes them in `arguments`."""
    slot, given = slot_of(arguments.path), arguments.given
    if not {"name", "arguments"} <= arguments.signature.parameters.keys() or slot is None:
        return None
    theirs = signature(f"{slot.bases[0].rpartition('.')[0]}.{given.get('name')}")
    if theirs is None or name not in theirs.parameters:
        return None
    inner = given.get("arguments")
    whole = {**(inner if isinstance(inner, Mapping) else {}), **given}
    mapping = {key: whole[key] for key in theirs.parameters if key in whole}
    text = f"is an argument of {given['name']}; those go into {arguments.key('arguments')}"
    return Problem(arguments.key(name), text, f"{arguments.key('arguments')}={hydra_value(mapping)}")


def _target_problem(target: Any, key: str, slot: Slot, trust: Trust) -> Problem | None:
    """Check that a name exists and can stand in its slot; our own names are read from source alone."""
    if not isinstance(target, str) or "." not in target:
        got = "null" if target is None else repr(target)
        return Problem(key, f"must be a dotted name such as my_package.MyClass, got {got}")
    module, _, name = target.rpartition(".")
    if module == "__main__":
        why = f"{name} is defined in the script or notebook itself, where no resume would find it"
        return Problem(key, f"{why}; put it into a file such as my_code.py and say my_code.{name}")
    if text := distrust(target, trust.packages, trust.stored):
        return Problem(key, text, _TRUST + module.split(".")[0])
    if not module_exists(module):
        return Problem(key, f"there is no module {module}, got {target}")
    if target.startswith("trainrun."):
        if not any(f"{module}.".startswith(f"{home}.") for home in slot.modules):
            return Problem(key, f"{target} does not belong here; that takes {' or '.join(slot.modules)}")
        if locate(target) is None:
            return Problem(key, f"{module} has no {name}{did_you_mean(name, names_in(module))}")
        return None
    text = misfit(target, slot, trust.packages, trust.stored)
    return Problem(key, text) if text else None


def with_one_trust(problems: Sequence[Problem], trust: Trust) -> list[Problem]:
    """Give all problems of trust the same fix, one word that lists every package."""
    untrusted = [problem for problem in problems if asks_trust(problem)]
    asked = [(problem.fix or "").removeprefix(_TRUST) for problem in untrusted]
    word = _TRUST + hydra_value(list(dict.fromkeys([*trust.packages, *asked])))
    fixed = {problem: replace(problem, fix=word) for problem in untrusted}
    for problem in untrusted[1:]:
        text = f"{problem.text.partition(' ')[0]} is named there as well"
        fixed[problem] = Problem(problem.key, text, word)
    return [fixed.get(problem, problem) for problem in problems]


def asks_trust(problem: Problem) -> bool:
    """Whether a problem is one of trust, which only the command line can give."""
    return problem.key != "runtime.trust" and (problem.fix or "").startswith(_TRUST)
