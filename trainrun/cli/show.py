"""`trainrun show [TOPIC]`: what can be chosen, what each argument means, and what guides advise."""

from __future__ import annotations

import difflib
import re
import shlex
from pathlib import Path

from trainrun.cli.guide import pages as guide
from trainrun.config.diagnose import options_with
from trainrun.config.paths import COMBINES, groups
from trainrun.config.show import Argument, Option, about, defaults, dials, header, is_yours, option
from trainrun.config.suggest import SPELLINGS, nearest
from trainrun.config.top_level import NAMES
from trainrun.terminal.layout import PageBlock, columns, page, paragraph
from trainrun.terminal.visible import visible
from trainrun.vocabulary.errors import ConfigError

GUIDES = {  # topics that are no group
    "commands": "what each command does, and how to call it",
    "logging": "own numbers, pictures and tables; loggers, memory, the best checkpoints",
    "files": "what a run leaves in its folder; resume, loggers, exit codes",
    "sweeps": "many runs from one line: values, searches, where the jobs run",
    "batches": "dict samples, masks, padding; models that return their loss; LightningModules",
    "migrating": "a project with a loop of its own, of Lightning or of Transformers, moved here",
    "new": "a project of your own, and the files that `trainrun new` writes",
    "python": "your own model, data set, loss and task; trainrun in a script or notebook",
    "finetuning": "pretrained networks on your own pictures: frozen parts, small rates, LoRA",
    "gan": "two networks in turn, a step or an optimizer for each of your own; a VAE",
    "export": "predictions, and weights for other programs",
    "failures": "kills, numbers that are not finite, and too little memory",
    "gpus": "several GPUs, on one machine or more",
    "cluster": "Slurm and other batch systems; Windows and macOS",
    "api": "which names, files and fields are stable, and what stable means",
    "trust": "whose code is imported, and how runs are signed",
    "tuning": "the order in which to tune",
    "symptoms": "what goes wrong, and what helps",
    "not-offered": "what this tool leaves to others",
}
TOPICS = (*GUIDES, "dials")
_DATA = {"gpt": ["data=text"], "gan": ["task=gan"]}  # for a table of a model's layers; else the default
_DIALS = "dials: what stands beside the groups, set as NAME=VALUE"
# What other tools call a group.
ELSEWHERE = {"trainer": "loop", "training": "loop", "train": "loop", "metrics": "task", "callbacks": "loop"}


def run(words: list[str]) -> int:
    """Print the pages asked for to stdout, or the overview."""
    words = [word for word in words if word not in ("-h", "--help")]
    if "--as-code" in words:
        from trainrun.cli import as_code

        return as_code.run([word for word in words if word != "--as-code"])
    pages = [[*_page(word), *_layers(word)] for word in words] or [_overview()]
    print("\n".join(map(visible, "\n\n".join(map("\n".join, pages)).split("\n"))))
    return 0


def _layers(word: str) -> list[str]:
    """Below the page of a built-in model (`model/cnn`, `model=cnn` or `cnn`) a table of its layers."""
    model = word.strip("/").replace("=", "/", 1).removeprefix("model/")
    file = groups()["model"].get(model)
    if file is None or is_yours(file):
        return []
    from trainrun.assembly.build import build
    from trainrun.assembly.layers import table
    from trainrun.config.compose.composer import Composer

    try:
        parts = build(Composer().compose([f"model={model}", *_DATA.get(model, [])]).settings)
    except ConfigError as error:  # a package that it needs is not installed
        return ["", *(str(problem) for problem in error.problems)]
    return ["", *table(parts)]


def _page(word: str) -> list[str]:
    topic, available = word.strip("/").replace("=", "/", 1), groups()
    group, _, name = topic.partition("/")
    if topic == "dials":
        examples = ["  trainrun budget=10ep batch_size=32 seed=1", "  trainrun name=demo monitor=val/loss"]
        return [_DIALS, "", *_table(dials()), "", "Set it", *examples]
    if topic in GUIDES:
        return _printed(topic)
    if topic in available:
        return _group(topic, available[topic])
    if name in available.get(group, {}):
        return _option(group, name, available[group][name])
    if rows := guide.rows_about("not-offered", topic):
        return page([PageBlock("paragraph", f"{word}: not offered."), PageBlock("table", rows=rows)])
    homes = [f"{g}/{topic}" for g, options in available.items() if topic in options]
    if len(homes) == 1:
        return _page(homes[0])
    raise _unknown(word, topic, homes, available)


def _printed(topic: str) -> list[str]:
    return [line.replace(guide.UNBROKEN, " ").rstrip() for line in page(guide.read(topic))]


def _unknown(word: str, topic: str, homes: list[str], available: dict[str, dict[str, Path]]) -> ConfigError:
    if homes:
        return ConfigError.of(word, f"is in several groups: show {' or '.join(homes)}")
    if near := _meant(topic, available):
        return ConfigError.of(word, f"no such topic; did you mean {near}?", f"trainrun show {near}")
    return ConfigError.of(word, f"no such topic; there are {', '.join([*_ordered(available), *TOPICS])}")


def _meant(topic: str, available: dict[str, dict[str, Path]]) -> str | None:
    """The page of a misspelt topic, of a setting, or of what other tools call it."""
    options = [f"{group}/{name}" for group, options in available.items() for name in options]
    if "/" in topic:
        return nearest(topic, options)
    called = SPELLINGS.get(topic, (topic, ""))[0].split(".")[0]
    called = ELSEWHERE.get(called, called)
    if called in available or called in TOPICS:
        return called
    if called in NAMES:
        return "dials"
    having = list(options_with(topic))
    if len(having) == 1:
        return having[0]
    pages = {name: name for name in (*available, *TOPICS)} | {key.partition("/")[2]: key for key in options}
    near = nearest(topic, pages)
    alike = difflib.SequenceMatcher(None, topic.lower(), (near or "").lower()).ratio() > 0.7
    return pages[near] if near and (alike or near.startswith(topic)) else None


def _overview() -> list[str]:
    chosen, available, meaning = defaults(), groups(), _meanings()
    lines = ["What can be chosen, with GROUP=OPTION. Options marked * are taken where nothing is said."]
    for group in _ordered(available):
        marked = _default_options(chosen.get(group, ""))
        lines += ["", f"{group}: {meaning.get(group, '')}".rstrip(": ")]
        lines += columns([_entry(name, file, name in marked) for name, file in available[group].items()])
    lines += ["", _DIALS]
    lines += columns([[argument.name, argument.default, argument.meaning] for argument in dials()])
    more = {"optimizer": "a group: which option when"}
    more |= {"optimizer/adamw": "an option: its arguments, their types and defaults", **GUIDES}
    return [*lines, "", "More", *columns([[f"trainrun show {topic}", what] for topic, what in more.items()])]


def _group(group: str, options: dict[str, Path]) -> list[str]:
    marked = _default_options(defaults().get(group, ""))
    lines = paragraph(f"{group}: {_meanings().get(group, 'no description')}")
    only = list(options) == ["default"]  # then nothing is chosen, and its arguments are the page
    if only:
        lines += paragraph(about(options["default"]))
        lines += ["", *_arguments(group, option(group, "default").arguments)]
    else:
        lines += ["", *columns([_entry(name, file, name in marked) for name, file in options.items()])]
        lines += ["  * taken where nothing is said"] if marked else []
    blocks = guide.read(group)
    lines += ["", *_printed(group)] if blocks else []
    if not any(block.kind == "command" for block in blocks):
        names = [name for name in options if name not in marked] or list(options)
        examples = (_example(group, name, option(group, name)) for name in names)
        lines += ["", "Set it", f"  {next(filter(None, examples), '')}"]
    if code := guide.own_part(group):
        choice = f"{group}=[mine]" if group in COMBINES else f"{group}=mine"
        lines += ["", f"One of your own: these two files, and {choice}", ""]
        lines += [f"  {line}".rstrip() for line in code]
    if only:
        return lines
    first = [*marked, *options][0]
    whole = "An option's arguments" if option(group, first).target else "What one sets, and its figures"
    return [*lines, "", whole, f"  trainrun show {group}/{first}"]


def _option(group: str, name: str, file: Path) -> list[str]:
    shown = option(group, name)
    lines = [f"{group}={name}{'  (yours)' if is_yours(file) else ''}", *paragraph(about(file))]
    for rest in header(file)[1:]:  # a recipe's commands and figures
        is_text = not any(line.startswith(" ") for line in rest)
        lines += ["", *(paragraph(" ".join(rest)) if is_text else rest)]
    for text in shown.doc.split("\n\n"):
        if text := re.sub(r"\s*Raises \w+ [^.]*\.", "", " ".join(text.split())):
            lines += ["", *paragraph(text)]
    if notes := guide.about(group, name):
        lines += ["", "Where guides err"]
        lines += [line for note in notes for line in paragraph(note, "  - ", "    ")]
    lines.append("")
    if shown.selects:
        lines += paragraph(f"also sets  {', '.join(shown.selects)}", hanging=" " * 11)
    source = "/".join(file.parts[-3:]) + (f", which calls {shown.target}" if shown.target else "")
    lines += paragraph(f"source     {source}", hanging=" " * 11)
    if is_yours(file) and shown.given:
        lines.append(f"from run   {', '.join(shown.given)}")
    if shown.arguments or shown.target:
        lines += ["", *_arguments(_prefix(group, name), shown.arguments)]
    if shown.more:
        text = f"Its code also takes {', '.join(shown.more)}; set with +{_prefix(group, name)}.NAME=VALUE."
        lines += ["", text]
    example = _example(group, name, shown)
    return [*lines, "", "Set it", f"  {example}"] if example else lines


def _arguments(prefix: str, arguments: tuple[Argument, ...]) -> list[str]:
    if not arguments:
        return ["It has no arguments."]
    return [f"Arguments, each set as {prefix}.NAME=VALUE", "", *_table(list(arguments))]


def _table(arguments: list[Argument]) -> list[str]:
    rows = []
    for argument in arguments:
        default = "needed" if argument.default == "???" else argument.default
        takes = argument.takes.replace(" or ", ", ", max(0, argument.takes.count(" or ") - 1))  # a, b or c
        rows.append([argument.name, default, takes, argument.meaning])
    return columns(rows, ["name", "default", "takes", "meaning"])


def _entry(name: str, file: Path, is_default: bool) -> list[str]:
    meaning = f"{about(file)}{' (yours)' if is_yours(file) else ''}".strip()
    return [f"{name} *" if is_default else name, meaning]


def _example(group: str, name: str, shown: Option) -> str:
    """A command that chooses the option and sets one argument; none where a value is needed first."""
    by_hand = {row["option"]: row["command"] for row in guide.table("examples")}
    if f"{group}/{name}" in by_hand:
        return by_hand[f"{group}/{name}"]
    if any(argument.default == "???" for argument in shown.arguments):
        return ""
    plain = re.compile(r"[\w.%+-]+")
    argument = next((a for a in shown.arguments if plain.fullmatch(a.default) and a.default != "null"), None)
    setting = shlex.quote(f"{argument.key}={argument.default}") if argument else ""
    if list(groups()[group]) == ["default"] and setting:
        return f"trainrun {setting}"
    return f"trainrun {shlex.quote(f'{group}={name}')} {setting}".strip()


def _default_options(value: str) -> list[str]:
    return [name for name in re.split(r"[\[\], ]+", value) if name and name != "null"]


def _prefix(group: str, name: str) -> str:
    return f"{group}.{name}" if group in COMBINES else group


def _ordered(available: dict[str, dict[str, Path]]) -> list[str]:
    """Groups that have options, in the order of the guide; the user's own last."""
    order = [name for name in _meanings() if available.get(name)]
    return order + [name for name in available if available[name] and name not in order]


def _meanings() -> dict[str, str]:
    return {row["group"]: row["what it decides"] for row in guide.table("groups")}
