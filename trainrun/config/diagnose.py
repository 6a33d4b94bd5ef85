"""Words that cannot be composed and keys that have no place: what was meant, with the nearest valid name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.paths import CONF, is_file, roots
from trainrun.config.paths import groups as option_files
from trainrun.config.suggest import PRECISIONS, REFUSED, SPELLINGS, hydra_value, nearest, override, shortened
from trainrun.vocabulary.errors import Problem

Groups = Mapping[str, Collection[str]]  # group -> its options


@dataclass(frozen=True)
class Given:
    """One override as it was given. `values` are texts: one, several of a list or sweep, or None for null."""

    text: str
    key: str = ""
    prefix: str = ""  # "+", "++" or "~"
    values: list[str] | None = None
    is_list: bool = False
    is_sweep: bool = False
    problem: str | None = None  # it cannot even be read


def misread(given: Given, groups: Groups, combines: Collection[str], multirun: bool) -> list[Problem]:
    """Problems of a word that can be told before composing: grammar, and the choice of an option."""
    if given.problem:
        return [Problem(shortened(given.text), given.problem)]
    if given.is_sweep and not multirun:
        value = given.text.partition("=")[2]
        others = f"write a list as {shlex.quote(f'{given.key}=[{value}]')}"
        others += "" if given.key in groups else f", or one text as {override(given.key, value)}"
        return [Problem(given.key, f"several values make a sweep; add -m, or {others}")]
    if given.key not in groups:
        return []
    if given.prefix == "~":
        return [Problem(given.key, "cannot be left out; a run needs each of its groups")]
    return _choice(given, groups[given.key], given.key in combines)


def _choice(one: Given, options: Collection[str], combines: bool) -> list[Problem]:
    """Problems of GROUP=OPTION."""
    if one.prefix:
        text = f"a group takes no {one.prefix}"
        return [Problem(one.key, text, one.text.lstrip("+"))]
    if one.values is None:
        empty = f"{one.key}=[]" if combines else None
        return [Problem(one.key, f"wants an option, got null; one of {_listed(options)}", empty)]
    if one.is_list and not combines:
        given = one.text.partition("=")[2]
        return [Problem(one.key, f"takes one option, got {given}; one of {_listed(options)}")]
    strangers = [value for value in one.values if value not in options]
    if one.key == "experiment" and (file := next(filter(None, map(_file_named, strangers)), None)):
        return [Problem(one.key, f"a file is named alone, got experiment={strangers[0]}", file)]
    meant = {value: _meant(one.key, value, options) for value in strangers}
    mended = one.text if all(meant.values()) else None
    for wrong, right in meant.items():
        mended = mended and re.sub(rf"(?<![\w-]){re.escape(wrong)}(?![\w-])", right or "", mended)
    mended = None if mended == one.text else mended
    return [Problem(one.key, no_option(one.key, wrong, options), mended) for wrong in meant]


def _file_named(value: str) -> str | None:
    """The single experiment file that `experiment=VALUE` means."""
    return next((name for name in (value, f"{value}.yaml") if is_file(name)), None)


def no_option(group: str, value: str, options: Collection[str]) -> str:
    """What to say of an option that does not exist."""
    if (group, value) in REFUSED:
        return f"{value} {REFUSED[group, value][0]}"
    for file in (folder / group / f"{value}.yml" for folder in roots()):
        if is_file(file):
            name = str(file).removeprefix(f"{Path.cwd()}/")
            return f"no option {value!r}; {name} is not read, an option's file ends in .yaml"
    near = _meant(group, value, options)
    hint = f"; did you mean {near}?" if near else ";"
    return f"no option {value!r}{hint} There are {_listed(options)}".replace("; There", "; there")


def _meant(group: str, value: str, options: Collection[str]) -> str | None:
    if (group, value) in REFUSED:
        return REFUSED[group, value][1]
    renamed = PRECISIONS.get(value.lower()) if group == "precision" else None
    return renamed or nearest(value, options)


def unknown_key(key: str, value: Any, known: Collection[str], groups: Groups) -> Problem:
    """A key whose first part no setting has: another tool's spelling, a bare leaf, or a misspelling."""
    return (
        _elsewhere_called(key, value, known, groups)
        or _bare_leaf(key, value, known)
        or _option_as_key(key, value, groups)
        or _misspelt(key, value, known, groups)
        or Problem(key, f"no such setting{_or_else(key, known, groups)}")
    )


def unknown_argument(path: str, key: str, usable: Collection[str], target: str) -> tuple[str, str | None]:
    """(what is wrong, the name that was meant) of an argument that `target` does not take."""
    name = target.rpartition(".")[2] if target.startswith("trainrun.") else target
    spelling = SPELLINGS.get(key, ("",))[0]
    meant = spelling.removeprefix(f"{path}.") if spelling.startswith(f"{path}.") else ""
    near = meant if meant in usable else nearest(key, usable)
    group = path.split(".")[0]
    others = options_with(key).get(group)
    text = f"{name} takes no {key!r}" + (f", {group}={_either(others)} does" if others else "")
    if path == "model" and key in ("weights", "pretrained", "checkpoint"):
        return f"{text}; init_from=FILE starts from stored weights, nothing is fetched", None
    if near:
        text += f"; did you mean {near}?"
    elif not others:
        text += f"; it takes {_listed(usable)}"
    return text, near


def options_with(leaf: str) -> dict[str, list[str]]:
    """group -> the built-in options whose files have a setting of that name."""
    line, found = re.compile(rf"^\s*{re.escape(leaf)}:", re.MULTILINE), {}
    for group, options in option_files().items():
        builtin = {name: file for name, file in options.items() if CONF in file.parents}
        having = [name for name, file in builtin.items() if line.search(file.read_text(encoding="utf-8"))]
        if having and group != "experiment":
            found[group] = having
    return found


def paths_of(tree: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Every dotted key of nested settings."""
    for key, value in tree.items():
        path = f"{at}.{key}" if at else str(key)
        yield path
        if isinstance(value, Mapping):
            yield from paths_of(value, path)


def _elsewhere_called(key: str, value: Any, known: Collection[str], groups: Groups) -> Problem | None:
    """What other tools call it."""
    if key in ("ckpt_path", "resume_from_checkpoint"):
        return Problem(key, "is a command here", f"trainrun resume {shlex.quote(str(value))}")
    if key == "fast_dev_run":
        return Problem(key, "is budget=1step here", "budget=1step")
    if key in ("gpus", "devices") and isinstance(value, int):
        return Problem(key, "is runtime.device here", f"runtime.device={'cuda' if value else 'cpu'}")
    if key in ("amp", "fp16", "bf16", "mixed_precision"):
        wanted = {"true": key if key in ("fp16", "bf16") else "auto", "false": "fp32"}
        option = wanted.get(str(value).lower()) or _meant("precision", str(value), groups["precision"])
        return Problem(key, "is the group precision here", f"precision={option or 'auto'}")
    if key not in SPELLINGS:
        return None
    name, form = SPELLINGS[key]
    if name in groups:
        option = _meant(name, str(value), groups[name])
        fix = f"{name}={option}" if option else None
        return Problem(
            key, f"is called {name} here{'' if option else '; there are ' + _listed(groups[name])}", fix
        )
    if name in known:
        return Problem(
            key, f"is called {name} here", _fix(name, value if form == "{}" else form.format(value))
        )
    group, _, leaf = name.partition(".")
    others = options_with(leaf).get(group, [])
    text = f"is called {name} here, and the chosen {group} has none"
    return Problem(key, f"{text}; {group}={_either(others)} does" if others else text)


def _bare_leaf(key: str, value: Any, known: Collection[str]) -> Problem | None:
    """`val_fraction` for `data.val_fraction`."""
    tails = sorted(one for one in known if one.endswith(f".{key}"))
    if not tails:
        return None
    return Problem(key, f"is {_either(tails)} here", _fix(tails[0], value) if len(tails) == 1 else None)


def _option_as_key(key: str, value: Any, groups: Groups) -> Problem | None:
    """`ema=true` for `regularization=ema`."""
    having = [group for group, options in groups.items() if key in options and key not in ("default", "none")]
    if not having:
        return None
    fix = f"{having[0]}={key}" if value is True and len(having) == 1 else None
    return Problem(key, f"is an option: {_either([f'{group}={key}' for group in having])}", fix)


def _misspelt(key: str, value: Any, known: Collection[str], groups: Groups) -> Problem | None:
    """Each part of the key as the nearest that stands there."""
    at = ""
    for part in key.split("."):
        here = {one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == at}
        here |= set(groups) if not at else set()
        near = part if part in here else nearest(part, here - {"_target_"})
        if near is None:
            return None
        at = f"{at}.{near}" if at else near
    if at in groups and isinstance(value, str):
        value = value if value in groups[at] else _meant(at, value, groups[at])
    fix = None if value is None else _fix(at, value)
    return Problem(key, f"no such setting; did you mean {at}?", fix)


def _or_else(key: str, known: Collection[str], groups: Groups) -> str:
    leaf = key.rpartition(".")[2]
    if others := options_with(leaf):
        named = [f"{group}.{leaf} with {group}={_either(options)}" for group, options in others.items()]
        return f"; there is {'; '.join(named)}"
    return f"; there are {_listed(sorted({one for one in known if '.' not in one} | set(groups)))}"


def _fix(key: str, value: Any) -> str:
    return f"{key}={hydra_value(value)}"


def _either(words: Collection[str]) -> str:
    words = list(words)
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _listed(words: Collection[str]) -> str:
    return ", ".join(words) or "none"


def no_such_file(file: Path) -> Problem:
    """An experiment file that is not there: the option of its name, or a file called alike."""
    options = option_files().get("experiment", {})
    beside = {path.name: str(path) for path in [*file.parent.glob("*.y*ml"), *Path().glob("*.y*ml")]}
    near = file.stem if file.stem in options else nearest(file.name, beside) or nearest(file.stem, options)
    if near is None:
        return Problem(str(file), "there is no such file")
    fix = beside.get(near, f"experiment={near}")
    return Problem(str(file), f"there is no such file; did you mean {fix}?", fix)


def yaml_problem(error: yaml.YAMLError, file: Path | None = None) -> Problem:
    """A syntax error as a problem of its file and line."""
    mark = getattr(error, "problem_mark", None)
    if "end of stream" in str(getattr(error, "problem", None)):
        mark = getattr(error, "context_mark", None) or mark  # where it began that does not end
    name = str(file or (mark and mark.name) or "YAML").removeprefix(f"{Path.cwd()}/")
    where = f"{name}:{mark.line + 1}" if mark else str(name)
    return Problem(where, f"is not valid YAML: {getattr(error, 'problem', None) or error}")
