"""Check the names, types and ranges of every setting, from source, without importing what they call."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.call import StoredOrigin, annotation_of
from trainrun.config.check_call import (
    Arguments,
    Trust,
    asks_trust,
    check_arguments,
    check_call,
    with_one_trust,
)
from trainrun.config.diagnose import misread, paths_of, sort_out, unknown_key
from trainrun.config.limits import read_text
from trainrun.config.overrides import Override, key_of
from trainrun.config.paths import COMBINES, CONF, groups
from trainrun.config.plain import MISSING, PlainRun, compose_plain, parse_plain
from trainrun.config.rules import contradictions
from trainrun.config.signature import source_signature
from trainrun.config.suggest import did_you_mean, hydra_value, shown
from trainrun.config.top_level import DIALS, NAMES
from trainrun.config.tree import value_at
from trainrun.config.values import complaint
from trainrun.vocabulary.errors import Problem


def check(
    settings: Mapping[str, Any],
    explicit: Collection[str] = (),
    files: Sequence[Path] = (),
    trust: Collection[str] | None = None,
    choices: Mapping[str, Any] | None = None,
    stored: StoredOrigin | None = None,
    only: Collection[str] | None = None,
) -> list[Problem]:
    """All problems of composed settings.

    `explicit` are the keys named in the shell; `files` are the user's own YAML files.
    `choices` has the option of each group, as far as it is clear.
    `trust` is given for a stored run's settings: the packages that they may import besides torch's own.
    `stored` then says whose run it is; else it is a stranger's.
    `only` these groups are looked into, where all others hold built-in options as they are.
    """
    run_groups = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"experiment", "hydra"}
    own = value_at(settings, "runtime.trust")
    trusted = Trust(list(map(str, own)) if isinstance(own, list) else (), None)
    if trust is not None:
        trusted = Trust(trust, stored or StoredOrigin(Path("outputs"), "nothing is known of it"))
    unknown = list(_unknown_keys(settings, run_groups, explicit))
    dials = {key: settings[key] for key in NAMES if key in settings}
    problems = list(check_arguments(Arguments(dials, "", source_signature(DIALS), "the run")))
    for group in sorted(run_groups if only is None else run_groups.intersection(only)):
        may_be_null = group in (*COMBINES, "augment", "sweep")
        if settings.get(group) is not None or (may_be_null and group in settings):
            problems += _group(group, settings[group], trusted)
        elif group not in ("augment", "sweep"):  # a stored run has no sweep
            problems.append(Problem(group, "is missing; every run needs it"))
    problems = [*unknown, *with_one_trust(problems, trusted)]
    touched = [key for problem in problems for key in (problem.key, key_of(problem.fix or ""))]
    faulty = {key.partition("[")[0] for key in touched}
    between = contradictions(settings, explicit, choices or {}, faulty)
    problems += [problem for problem in between if problem.key not in faulty]
    return [located(problem, explicit, files) for problem in problems]


def problems_of(
    job: PlainRun,
    stored: StoredOrigin | None = None,
    trust: Collection[str] = (),
    only: Collection[str] | None = None,
) -> list[Problem]:
    """All problems of one run's settings, or of `only` these groups; of references only what they refer to.

    `stored`: the sweep that the line comes from, which may name no code except that of `trust`.
    """
    trusted = trust if stored else None
    problems = check(job.settings, job.explicit, job.files, trusted, job.choices, stored, only)
    problems = [problem for problem in problems if not job.refers(problem.key)] or problems
    return [_as_typed(problem, job) for problem in problems]


def plain_problems(words: Sequence[str]) -> list[Problem]:
    """All problems of a line that can be told without Hydra; none where it takes Hydra."""
    overrides, options = list(map(parse_plain, dict.fromkeys(words))), groups()
    problems, rest, unread = sort_out(
        (word, misread(word, options, COMBINES, multirun=False)) for word in overrides if word
    )
    run = compose_plain(rest) if None not in overrides else None
    if run is None:
        return []
    others = problems_of(run, only={key.partition(".")[0] for key in run.explicit})
    return problems + [other for other in others if other.key not in unread]


def _as_typed(problem: Problem, job: PlainRun) -> Problem:
    """Write a text in a problem's fix as it was typed: `name="1e3"`, where the number is 1000.0."""
    overrides = map(Override.parse, reversed(job.overrides))
    typed = next((override.value or "" for override in overrides if override.key == problem.key), "")
    value = value_at(job.settings, problem.key) if typed and problem.fix else None
    if isinstance(value, (bool, int, float)) and problem.fix == f"{problem.key}={hydra_value(str(value))}":
        return Problem(problem.key, problem.text, f"{problem.key}={hydra_value(typed)}")
    return problem


def check_sweeper(node: Mapping[str, Any]) -> list[Problem]:
    """All problems of the settings of a search, which are Hydra's `hydra.sweeper`."""
    return list(check_call(node, "hydra.sweeper", Trust((), None)))


def _unknown_keys(
    settings: Mapping[str, Any], run_groups: Collection[str], explicit: Collection[str]
) -> Iterator[Problem]:
    """Find keys that are neither a top-level setting nor a group; of nested ones as the shell has them."""
    options = {name: list(files) for name, files in groups().items() if name in (*run_groups, "experiment")}
    paths = {*NAMES, *paths_of({key: value for key, value in settings.items() if key in run_groups})}
    for top in [key for key in settings if key not in NAMES and key not in run_groups]:
        if top == "experiment":
            yield Problem(top, "its file lacks the first line `# @package _global_`")
            continue
        for key in [key for key in explicit if key.split(".")[0] == top] or [top]:
            yield _with_sound_fix(unknown_key(key, value_at(settings, key), paths, options), settings)


def _with_sound_fix(problem: Problem, settings: Mapping[str, Any]) -> Problem:
    """Drop a problem's fix where the value does not fit the setting that was meant."""
    fix = Override.parse(problem.fix or "")
    path, _, name = fix.key.rpartition(".")
    if not problem.fix or " " in fix.key or not (path or name in NAMES):
        return problem
    target = value_at(settings, f"{path}._target_") if path else DIALS
    annotation = annotation_of(target, name) if target else None
    wrong = complaint(yaml.safe_load(fix.value or ""), annotation) if annotation else None
    return Problem(problem.key, f"{problem.text}, and {wrong}") if wrong else problem


def _group(group: str, node: Any, trust: Trust) -> Iterator[Problem]:
    if group in COMBINES and isinstance(node, (Mapping, type(None))):
        for name, member in (node or {}).items():
            if isinstance(member, Mapping) and "_target_" in member:
                yield from check_call(member, f"{group}.{name}", trust)
            else:
                yield _not_selected(group, name, node or {})
    elif not node and group == "augment":
        return
    elif node is None:
        yield Problem(group, "is missing; every run needs it")
    elif not isinstance(node, Mapping):
        text = "needs a value" if node == MISSING else f"must be a mapping, got {shown(node)}"
        if isinstance(node, str) and node in groups()[group]:
            text += f"; in a file an option is chosen by `defaults: [override /{group}: {node}]`"
        yield Problem(group, text)
    elif "_target_" not in node:
        yield Problem(group, "names nothing to call; it needs a _target_")
    else:
        yield from check_call(node, group, trust)


def _not_selected(group: str, name: str, node: Mapping[str, Any]) -> Problem:
    """Values of an option that was not chosen."""
    options = groups()[group]
    if name not in options:
        hint = did_you_mean(name, options)
        return Problem(f"{group}.{name}", f"is no option of {group}{hint}; there are {', '.join(options)}")
    chosen = [key for key, member in node.items() if isinstance(member, Mapping) and "_target_" in member]
    fix = f"{group}=[{','.join([*chosen, name])}]"
    return Problem(group, f"{group}.{name} is set, but {name} is not selected: {shlex.quote(fix)}", fix)


def located(problem: Problem, explicit: Collection[str], files: Sequence[Path]) -> Problem:
    """Name the YAML file and line of a faulty key, unless it came from the shell.

    A word in the shell can replace a faulty value of a file, but not take a key out of it.
    """
    if any(problem.key == key or key.startswith(f"{problem.key}.") for key in explicit):
        return problem
    leaf = re.compile(rf"[\s{{,]*{re.escape(problem.key.rpartition('.')[2])}\s*:")
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if leaf.search(line):
                shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
                text = f"{problem.text} ({shown}:{number})"
                return Problem(problem.key, text, problem.fix if asks_trust(problem) else None)
    return problem
