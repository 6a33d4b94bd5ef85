"""Names, types and ranges of every setting, without importing what they call wherever source tells."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.call import StoredOrigin, distrust, imported_parameters, is_function, misfit
from trainrun.config.diagnose import paths_of, unknown_argument, unknown_key
from trainrun.config.injection import Slot, slot_of
from trainrun.config.limits import read_text
from trainrun.config.paths import COMBINES, CONF, groups
from trainrun.config.rules import contradictions
from trainrun.config.signature import (
    Parameter,
    Signature,
    locate,
    module_exists,
    names_in,
    signature,
)
from trainrun.config.suggest import did_you_mean, hydra_value, shown
from trainrun.config.top_level import NAMES
from trainrun.config.values import complaint, meant
from trainrun.config.yaml_file import MISSING
from trainrun.vocabulary.errors import Problem

DIALS = "trainrun.config.top_level.Dials"
_TRUST = "runtime.trust="
_ALIKE = "is named there as well"  # of targets after the first that a stranger's run names
_STRANGERS = StoredOrigin(Path("outputs"), "nothing is known of it")


@dataclass(frozen=True)
class _Trust:
    """Which packages may be imported: `packages`, and for the user's own settings any that fits."""

    packages: Collection[str]
    stored: StoredOrigin | None


def check(
    settings: Mapping[str, Any],
    explicit: Collection[str] = (),
    files: Sequence[Path] = (),
    trust: Collection[str] | None = None,
    choices: Mapping[str, Any] | None = None,
    stored: StoredOrigin = _STRANGERS,
) -> list[Problem]:
    """All problems of composed settings.

    `explicit` are the keys named in the shell, `files` the user's own YAML that others come from,
    `choices` the option that each group has, where that is known.
    `trust` is given for a stored run's settings: the packages that they may import beyond torch's own;
    `stored` says then whose it is.
    """
    known = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"experiment", "hydra"}
    trusted = _Trust(_own_trust(settings) if trust is None else trust, None if trust is None else stored)
    unknown = list(_unknown_keys(settings, known, explicit))
    dials = {key: settings[key] for key in NAMES if key in settings}
    problems = list(_arguments(dials, "", _signature(DIALS), (), "the run"))
    for group in sorted(known):
        may_be_null = group in (*COMBINES, "augment", "sweep")
        if settings.get(group) is not None or (may_be_null and group in settings):
            problems += _group(group, settings[group], trusted)
        elif group not in ("augment", "sweep"):  # a stored run has no sweep
            problems.append(Problem(group, "is missing; every run needs it"))
    problems = [*unknown, *_trusting(problems, trusted)]
    touched = [key for problem in problems for key in (problem.key, (problem.fix or "").partition("=")[0])]
    faulty = {key.partition("[")[0] for key in touched}
    between = contradictions(settings, explicit, choices or {}, faulty)
    problems += [problem for problem in between if problem.key not in faulty]
    return [located(problem, explicit, files) for problem in problems]


def check_sweeper(node: Mapping[str, Any]) -> list[Problem]:
    """All problems of the settings of a search, which are Hydra's `hydra.sweeper`."""
    return list(_call(node, "hydra.sweeper", _Trust((), None)))


def _unknown_keys(
    settings: Mapping[str, Any], known_groups: Collection[str], explicit: Collection[str]
) -> Iterator[Problem]:
    """Keys beside the dials and groups; of nested ones the words of the shell."""
    options = {
        group: list(found) for group, found in groups().items() if group in (*known_groups, "experiment")
    }
    known = {*NAMES, *paths_of({key: value for key, value in settings.items() if key in known_groups})}
    for top in [key for key in settings if key not in NAMES and key not in known_groups]:
        if top == "experiment":
            yield Problem(top, "its file lacks the first line `# @package _global_`")
            continue
        for key in [key for key in explicit if key.split(".")[0] == top] or [top]:
            problem = unknown_key(key, _at(settings, key), known, options)
            yield _sound(problem, settings)


def _sound(problem: Problem, settings: Mapping[str, Any]) -> Problem:
    """The problem without its fix where the value does not fit the setting that was meant."""
    key, _, text = (problem.fix or "").partition("=")
    path, _, name = key.rpartition(".")
    if not problem.fix or " " in key or not (path or name in NAMES):
        return problem
    node = _at(settings, path) if path else {"_target_": DIALS}
    found = signature(node["_target_"]) if isinstance(node, Mapping) and "_target_" in node else None
    parameter = found.parameters.get(name) if found else None
    wrong = complaint(_parsed(text), parameter.annotation) if parameter else None
    return Problem(problem.key, f"{problem.text}, and {wrong}") if wrong else problem


def _group(group: str, node: Any, trust: _Trust) -> Iterator[Problem]:
    if group in COMBINES and isinstance(node, (Mapping, type(None))):
        for name, member in (node or {}).items():
            if isinstance(member, Mapping) and "_target_" in member:
                yield from _call(member, f"{group}.{name}", trust)
            else:
                yield _not_selected(group, name, node or {})
    elif not node and group == "augment":
        return
    elif node is None:
        yield Problem(group, "is missing; every run needs it")
    elif not isinstance(node, Mapping):
        text = "needs a value" if node == MISSING else f"wants a mapping, got {shown(node)}"
        if isinstance(node, str) and node in groups()[group]:
            text += f"; in a file an option is chosen by `defaults: [override /{group}: {node}]`"
        yield Problem(group, text)
    elif "_target_" not in node:
        yield Problem(group, "names nothing to call; it needs a _target_")
    else:
        yield from _call(node, group, trust)


def _not_selected(group: str, name: str, node: Mapping[str, Any]) -> Problem:
    """Values of an option that was not chosen."""
    options = groups()[group]
    if name not in options:
        hint = did_you_mean(name, options)
        return Problem(f"{group}.{name}", f"no option of {group}{hint}; there are {', '.join(options)}")
    chosen = [key for key, member in node.items() if isinstance(member, Mapping) and "_target_" in member]
    fix = f"{group}=[{','.join([*chosen, name])}]"
    return Problem(group, f"{group}.{name} is set, but {name} is not selected: {shlex.quote(fix)}", fix)


def _call(node: Mapping[str, Any], path: str, trust: _Trust) -> Iterator[Problem]:
    """Problems of one `{_target_, **arguments}`."""
    slot = slot_of(path)
    if slot is None:
        yield Problem(f"{path}._target_", "no call has a place here")
        return
    target = node["_target_"]
    if problem := _target_problem(target, f"{path}._target_", slot, trust):
        yield problem
        if problem.fix:  # whatever else would be imported is told with it
            nested = (
                inner for key, value in node.items() for inner in _nested(value, f"{path}.{key}", trust)
            )
            yield from filter(_asks, nested)
        return
    found = signature(target) or _imported_signature(target)
    if found is None:
        return
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    known = {**_extras(slot), **found.parameters}
    is_own = not target.startswith("trainrun.") and is_function(target)
    whole = Signature(known, found.takes_any, found.doc)
    yield from _arguments(arguments, path, whole, slot.offers, target, slot.plain if is_own else ())
    for key, value in arguments.items():
        yield from _nested(value, f"{path}.{key}", trust)


def _extras(slot: Slot) -> dict[str, Parameter]:
    """The keys that every option of a slot takes; none of them is required."""
    found = {name: _signature(target).parameters[name] for name, target in slot.extras.items()}
    return {name: Parameter(name, one.annotation, required=False) for name, one in found.items()}


def _nested(value: Any, path: str, trust: _Trust) -> Iterator[Problem]:
    """Calls inside a call's arguments, and names of callables in a list."""
    slot = slot_of(path)
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield from _call(value, path, trust)
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


def _arguments(
    arguments: Mapping[str, Any],
    path: str,
    found: Signature,
    offers: Collection[str],
    target: str,
    plain: Collection[int] = (),
) -> Iterator[Problem]:
    prefix, slot = f"{path}." if path else "", slot_of(path)
    reserved = slot.reserved if slot else ()
    for key, value in arguments.items():
        parameter = found.parameters.get(key)
        if key in reserved:
            yield Problem(f"{prefix}{key}", "is the run's own to give; leave it out")
        elif parameter is None:
            if not found.takes_any and (problem := _of_class(key, arguments, path, found)):
                yield problem
            elif not found.takes_any:
                usable = {n: p for n, p in found.parameters.items() if n not in offers}
                text, near = unknown_argument(path, key, usable, target)
                fits = near and not complaint(value, usable[near].annotation)
                yield Problem(
                    f"{prefix}{key}", text, f"{prefix}{near}={hydra_value(value)}" if fits else None
                )
        elif value in ("???", MISSING):
            yield Problem(f"{prefix}{key}", f"needs a value: {prefix}{key}=...")
        elif isinstance(value, str) and value.startswith("@"):
            if value[1:] not in offers:
                yield Problem(f"{prefix}{key}", f"there is no {value} here; there are {_listed(offers)}")
        elif path and isinstance(value, Mapping) and "_target_" in value:
            continue  # judged as a call of its own
        elif (
            (inner := slot_of(f"{prefix}{key}"))
            and not inner.named
            and (problem := _no_call(f"{prefix}{key}", value, inner))
        ):
            yield problem
        elif wrong := _not_finite(value) or complaint(value, parameter.annotation):
            unit = "ep" if key == "budget" and isinstance(value, int) and value <= 1000 else ""
            mended = None if _not_finite(value) else meant(value, parameter.annotation, unit)
            yield Problem(f"{prefix}{key}", wrong, f"{prefix}{key}={mended}" if mended else None)
    needed = [name for name, parameter in found.parameters.items() if parameter.required]
    missing = [name for name in needed if name not in arguments and name not in offers]
    if len(missing) not in plain:  # else the run calls it with these
        for lacking in missing:
            yield Problem(f"{prefix}{lacking}", f"{target} needs a value: {prefix}{lacking}=...")


def _no_call(key: str, value: Any, slot: Slot) -> Problem | None:
    """A bare value in the place of a call, which may be meant for the call's main argument."""
    if isinstance(value, (Mapping, list)) or (value is None and not slot.main):
        return None
    got = "null" if value is None else repr(value)
    if not slot.main:
        return Problem(key, f"wants a mapping with a _target_, got {got}")
    wrong = complaint(value, _signature(slot.bases[0]).parameters[slot.main].annotation)
    fix = None if wrong else f"{key}.{slot.main}={hydra_value(value)}"
    return Problem(key, f"wants a mapping, got {got}; did you mean {key}.{slot.main}?", fix)


def _of_class(key: str, arguments: Mapping[str, Any], path: str, found: Signature) -> Problem | None:
    """An argument of the class that an adapter's `name` names; the adapter takes them in `arguments`."""
    slot = slot_of(path)
    if not {"name", "arguments"} <= found.parameters.keys() or slot is None:
        return None
    theirs = signature(f"{slot.bases[0].rpartition('.')[0]}.{arguments.get('name')}")
    if theirs is None or key not in theirs.parameters:
        return None
    given = arguments.get("arguments")
    whole = {**(given if isinstance(given, Mapping) else {}), **arguments}
    mapping = {name: whole[name] for name in theirs.parameters if name in whole}
    text = f"is an argument of {arguments['name']}, and those go into {path}.arguments"
    return Problem(f"{path}.{key}", text, f"{path}.arguments={hydra_value(mapping)}")


def _target_problem(target: Any, key: str, slot: Slot, trust: _Trust) -> Problem | None:
    """Whether a name exists and could stand in its slot; first-party ones are judged by source alone."""
    if not isinstance(target, str) or "." not in target:
        got = "null" if target is None else repr(target)
        return Problem(key, f"wants a dotted name such as my_package.MyClass, got {got}")
    module, _, name = target.rpartition(".")
    text: str | None
    if module == "__main__":
        text = f"{name} is defined in the script or notebook itself, where no resume would find it"
        return Problem(key, f"{text}; put it into a file such as my_code.py and say my_code.{name}")
    if text := distrust(target, trust.packages, trust.stored):
        return Problem(key, text, _TRUST + module.split(".")[0])
    if not module_exists(module):
        return Problem(key, f"there is no module {module}, got {target}")
    if target.startswith("trainrun."):
        if not any(f"{module}.".startswith(f"{own}.") for own in slot.modules):
            return Problem(key, f"{target} does not belong here; that takes {' or '.join(slot.modules)}")
        if locate(target) is None:
            return Problem(key, f"{module} has no {name}{did_you_mean(name, names_in(module))}")
        return None
    text = misfit(target, slot, trust.packages, trust.stored)
    return Problem(key, text) if text else None


def _trusting(problems: Sequence[Problem], trust: _Trust) -> list[Problem]:
    """The problems, those of trust with the one word that settles all of them."""
    untrusted = [problem for problem in problems if _asks(problem)]
    if not untrusted:
        return list(problems)
    names = dict.fromkeys(
        [*trust.packages, *((problem.fix or "").removeprefix(_TRUST) for problem in untrusted)]
    )
    word = _TRUST + hydra_value(list(names))
    alike = {problem: f"{problem.text.partition(' ')[0]} {_ALIKE}" for problem in untrusted[1:]}
    texts = {untrusted[0]: untrusted[0].text} | alike
    return [
        replace(problem, fix=word, text=texts[problem]) if problem in texts else problem
        for problem in problems
    ]


def _asks(problem: Problem) -> bool:
    """Whether it is one of trust, which the command line gives."""
    return problem.key != "runtime.trust" and (problem.fix or "").startswith(_TRUST)


def _imported_signature(target: str) -> Signature | None:
    """What only an import can tell: names and which of them are required."""
    found = imported_parameters(target)
    if found is None:
        return None
    names, takes_any = found
    return Signature({n: Parameter(n, None, required) for n, required in names.items()}, takes_any, "")


def _signature(target: str) -> Signature:
    found = signature(target)
    if found is None:
        raise LookupError(f"{target} has no source")
    return found


def _not_finite(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"wants a finite number, got {value}"
    if isinstance(value, str) and value.lower() in (".nan", ".inf", "-.inf", "nan", "inf", "-inf"):
        return f"wants a finite number, got {value}"
    return None


def located(problem: Problem, explicit: Collection[str], files: Sequence[Path]) -> Problem:
    """Name the YAML file and line of a faulty key, unless it came from the shell.

    A word in the shell can mend a faulty value of a file, but not take a key out of it.
    """
    if any(problem.key == key or key.startswith(f"{problem.key}.") for key in explicit):
        return problem
    leaf = re.compile(rf"[\s{{,]*{re.escape(problem.key.rpartition('.')[2])}\s*:")
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if leaf.search(line):
                shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
                text = f"{problem.text} ({shown}:{number})"
                return Problem(problem.key, text, problem.fix if _asks(problem) else None)
    return problem


def _own_trust(settings: Mapping[str, Any]) -> Collection[str]:
    trust = _at(settings, "runtime.trust")
    return trust if isinstance(trust, list) else ()


def _at(tree: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"@{name}" for name in names) or "none"
