"""Unknown keys and options, misspellings, other tools' names: what was meant, with the nearest valid name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.overrides import Override, key_of
from trainrun.config.paths import CONF, is_file, roots
from trainrun.config.paths import groups as option_files
from trainrun.config.suggest import PRECISIONS, REFUSED, SPELLINGS, hydra_value, nearest, override, shortened
from trainrun.vocabulary.errors import Problem

Groups = Mapping[str, Collection[str]]  # group -> its options


@dataclass(frozen=True)
class ParsedOverride(Override):
    """An override by Hydra's grammar. `values` are texts, several of a list or sweep; None is null."""

    text: str = ""  # as it was typed
    values: list[str] | None = None
    is_list: bool = False
    is_sweep: bool = False
    problem: str | None = None  # it cannot even be read


def misread(word: ParsedOverride, groups: Groups, combines: Collection[str], multirun: bool) -> list[Problem]:
    """Problems of a word that show before composing: its grammar, and the choice of an option."""
    if word.problem:
        return [Problem(shortened(word.text), word.problem)]
    if word.is_sweep and not multirun:
        others = f"write a list as {shlex.quote(f'{word.key}=[{word.value}]')}"
        others += "" if word.key in groups else f", or one text as {override(word.key, word.value)}"
        return [Problem(word.key, f"several values make a sweep; add -m, or {others}")]
    if word.key not in groups:
        return []
    if word.prefix == "~":
        return [Problem(word.key, "cannot be left out; a run needs each of its groups")]
    return _choice(word, groups[word.key], word.key in combines)


def sort_out(
    words: Iterable[tuple[ParsedOverride, list[Problem]]],
) -> tuple[list[Problem], list[str], set[str]]:
    """(all problems of words, what to compose in their place, the keys of which nothing more is said)."""
    problems, rest, unread, lost = list[Problem](), list[str](), set[str](), set[str]()
    for word, wrong in words:
        problems += wrong
        if not wrong:
            rest.append(word.text)
        elif wrong[0].fix:
            rest.append(wrong[0].fix)
        else:
            unread.add(key_of(word.text))
            lost.add(wrong[0].key)
    return problems, [text for text in rest if Override.parse(text).top not in lost], unread


def _choice(word: ParsedOverride, options: Collection[str], combines: bool) -> list[Problem]:
    if word.prefix:
        return [Problem(word.key, f"a group takes no {word.prefix}", word.text.lstrip("+"))]
    if word.values is None:
        empty = f"{word.key}=[]" if combines else None
        return [Problem(word.key, f"must be an option, got null; choose one of {_listed(options)}", empty)]
    if word.is_list and not combines:
        return [Problem(word.key, f"takes one option, got {word.value}; choose one of {_listed(options)}")]
    strangers = [value for value in word.values if value not in options]
    files = [name for value in strangers for name in (value, f"{value}.yaml") if is_file(name)]
    if word.key == "experiment" and files:
        return [Problem(word.key, f"a file is named alone, got experiment={strangers[0]}", files[0])]
    nearest_options = {value: _nearest_option(word.key, value, options) for value in strangers}
    fix = word.text if all(nearest_options.values()) else None
    for wrong, right in nearest_options.items():
        fix = fix and re.sub(rf"(?<![\w-]){re.escape(wrong)}(?![\w-])", right or "", fix)
    fix = None if fix == word.text else fix
    return [Problem(word.key, no_option(word.key, wrong, options), fix) for wrong in strangers]


def no_option(group: str, value: str, options: Collection[str]) -> str:
    """What to say of an option that does not exist."""
    if (group, value) in REFUSED:
        return f"{value} {REFUSED[group, value][0]}"
    for file in (folder / group / f"{value}.yml" for folder in roots()):
        if is_file(file):
            name = str(file).removeprefix(f"{Path.cwd()}/")
            return f"no option {value!r}; {name} is not read, an option's file ends in .yaml"
    near = _nearest_option(group, value, options)
    hint = f"; did you mean {near}? There" if near else "; there"
    return f"no option {value!r}{hint} are {_listed(options)}"


def misfit_option(group: str, value: Any, example: str) -> str | None:
    """What is wrong with an option inside another: a name, `{name: {argument: value}}`, or a call."""
    if isinstance(value, Mapping) and "_target_" in value:
        return None
    names = list(value) if isinstance(value, Mapping) else [value]
    if len(names) != 1 or not isinstance(names[0], str):
        return f"must be one {group}, such as {example}, got {value!r}"
    options = option_files()[group]
    return None if names[0] in options else no_option(group, names[0], list(options))


def _nearest_option(group: str, value: str, options: Collection[str]) -> str | None:
    if (group, value) in REFUSED:
        return REFUSED[group, value][1]
    renamed = PRECISIONS.get(value.lower()) if group == "precision" else None
    return renamed or nearest(value, options)


NO_EFFECT = "has no effect because optimizer=own takes what configure_optimizers returns"
WEIGHTS = ("weights", "pretrained", "checkpoint")  # of a model, in other tools; here init_from


def unknown_key(key: str, value: Any, paths: Collection[str], groups: Groups) -> Problem:
    """A key whose first part no setting has: another tool's spelling, a bare leaf, or a misspelling."""
    return (
        _elsewhere_called(key, value, paths, groups)
        or _bare_leaf(key, value, paths)
        or _option_as_key(key, value, groups)
        or _misspelt(key, value, paths, groups)
        or _not_there(key, paths, groups)
    )


def unknown_argument(path: str, key: str, usable: Collection[str], target: str) -> tuple[str, str | None]:
    """(what is wrong, the name that was meant) of an argument that `target` does not take."""
    name = target.rpartition(".")[2] if target.startswith("trainrun.") else target
    if name == "configure_optimizers":
        return NO_EFFECT, None
    spelling = SPELLINGS.get(key, ("",))[0]
    ours = spelling.removeprefix(f"{path}.") if spelling.startswith(f"{path}.") else ""
    near = ours if ours in usable else nearest(key, usable)
    group = path.split(".")[0]
    others = options_with(key).get(group)
    text = f"{name} takes no {key!r}" + (f", {group}={_either(others)} does" if others else "")
    if path == "model" and key in WEIGHTS:
        better = "init_from=FILE starts from stored weights, init_from=pretrained from the library's own"
        return f"{text}; {better}", None
    if near:
        text += f"; did you mean {near}?"
    elif not others:
        text += f"; it takes {_listed(usable)}"
    return text, near


def options_with(leaf: str) -> dict[str, list[str]]:
    """group -> the built-in options whose files have a setting of that name."""
    line = re.compile(rf"^\s*{re.escape(leaf)}:", re.MULTILINE)
    having: dict[str, list[str]] = {}
    for group, options in option_files().items():
        for name, file in options.items() if group != "experiment" else ():
            if CONF in file.parents and line.search(file.read_text(encoding="utf-8")):
                having.setdefault(group, []).append(name)
    return having


def paths_of(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Every dotted key of nested settings."""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else str(key)
        yield path
        if isinstance(value, Mapping):
            yield from paths_of(value, path)


def _elsewhere_called(key: str, value: Any, paths: Collection[str], groups: Groups) -> Problem | None:
    """What other tools call it."""
    if key in ("ckpt_path", "resume_from_checkpoint"):
        return Problem(key, "is a command here", f"trainrun resume {shlex.quote(str(value))}")
    if key == "fast_dev_run":
        return Problem(key, "is budget=1step here", "budget=1step")
    if key in ("gpus", "devices") and isinstance(value, int):
        return Problem(key, "is runtime.device here", f"runtime.device={'cuda' if value else 'cpu'}")
    if key in ("amp", "fp16", "bf16", "mixed_precision"):
        wanted = {"true": key if key in ("fp16", "bf16") else "auto", "false": "fp32"}
        near = wanted.get(str(value).lower()) or _nearest_option("precision", str(value), groups["precision"])
        return Problem(key, "is the group precision here", f"precision={near or 'auto'}")
    if key not in SPELLINGS:
        return None
    name, form = SPELLINGS[key]
    text = f"is called {name} here"
    if name in groups:
        if near := _nearest_option(name, str(value), groups[name]):
            return Problem(key, text, f"{name}={near}")
        return Problem(key, f"{text}; there are {_listed(groups[name])}")
    if name in paths:
        return Problem(key, text, _fix(name, value if form == "{}" else form.format(value)))
    group, _, leaf = name.partition(".")
    others = options_with(leaf).get(group, [])
    text += f", and the chosen {group} has none"
    return Problem(key, f"{text}; {group}={_either(others)} does" if others else text)


def _bare_leaf(key: str, value: Any, paths: Collection[str]) -> Problem | None:
    """`val_fraction` for `data.val_fraction`."""
    tails = sorted(path for path in paths if path.endswith(f".{key}"))
    if not tails:
        return None
    return Problem(key, f"is {_either(tails)} here", _fix(tails[0], value) if len(tails) == 1 else None)


def _option_as_key(key: str, value: Any, groups: Groups) -> Problem | None:
    """`ema=true` for `regularization=ema`."""
    words = [f"{group}={key}" for group, options in groups.items() if key in options]
    if not words or key in ("default", "none"):
        return None
    fix = words[0] if value is True and len(words) == 1 else None
    return Problem(key, f"is an option: {_either(words)}", fix)


def _misspelt(key: str, value: Any, paths: Collection[str], groups: Groups) -> Problem | None:
    """Each part of the key as the nearest that stands there."""
    near_key = ""
    for part in key.split("."):
        here = {path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == near_key}
        here |= set() if near_key else set(groups)
        near = part if part in here else nearest(part, here - {"_target_"})
        if near is None:
            return None
        near_key = f"{near_key}.{near}" if near_key else near
    if near_key in groups and isinstance(value, str) and value not in groups[near_key]:
        value = _nearest_option(near_key, value, groups[near_key])
    fix = None if value is None else _fix(near_key, value)
    return Problem(key, f"no such setting; did you mean {near_key}?", fix)


def _not_there(key: str, paths: Collection[str], groups: Groups) -> Problem:
    leaf = key.rpartition(".")[2]
    others = [f"{group}.{leaf} with {group}={_either(names)}" for group, names in options_with(leaf).items()]
    there = sorted({path for path in paths if "." not in path} | set(groups))
    hint = f"there is {'; '.join(others)}" if others else f"there are {_listed(there)}"
    return Problem(key, f"no such setting; {hint}")


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
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if re.search("end of stream|<stream end>", str(problem)):
        mark = getattr(error, "context_mark", None) or mark  # where the unclosed part began
    name = str(file or (mark and mark.name) or "YAML").removeprefix(f"{Path.cwd()}/")
    return Problem(f"{name}:{mark.line + 1}" if mark else name, f"is not valid YAML: {problem or error}")
