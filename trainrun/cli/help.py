"""`trainrun --help`: the commands, the groups and their options, read from file names alone."""

from __future__ import annotations

import textwrap

from trainrun.config.commands import COMMANDS
from trainrun.config.paths import CONF, groups
from trainrun.terminal.layout import columns, paragraph
from trainrun.terminal.visible import visible

_NARROW = 80  # columns that every terminal has
EXAMPLES = {
    "trainrun": "a small CNN on handwritten digits",
    "trainrun optimizer=sgd scheduler=cosine budget=10ep": "another optimizer and schedule",
    "trainrun data=diabetes model.width=64": "another data set; task, loss and model follow",
    "trainrun 'regularization=[dropout,ema,early_stopping]'": "several options of a group",
    "trainrun -m optimizer=sgd,adamw seed=0,1,2": "every combination, one after another",
}
FLAGS = {
    "-m": "sweep: several values per key, apart by commas",
    "-q": "only the run's folder",
    "-v": "also every layer, every parameter's group, and the traceback of an error in your code",
    "--cfg job": "print the composed settings, and do not train",
    "--info": "how they were composed",
    "--version": "of trainrun",
    "--hydra-help": "further flags, which are Hydra's",
}
COMPLETION = {
    "bash": """eval "$(trainrun -sc install=bash)\"""",
    "zsh": """eval "$(trainrun -sc install=zsh)\"""",
}


def run(words: list[str]) -> int:
    """Print the help to stdout."""
    print(*map(visible, _page()), sep="\n")
    return 0


def _page() -> list[str]:
    lines = ["trainrun: train a PyTorch model from YAML", "", "usage"]
    lines += _usage("trainrun [GROUP=OPTION] [KEY=VALUE] ...", "train; FILE.yaml runs an experiment file")
    for text in COMMANDS.values():
        what, _, how = text.partition(": ")
        lines += _usage(how, what)
    lines += ["", "examples", *columns(list(EXAMPLES.items()))]
    lines += ["", "groups and their options (trainrun show GROUP says more)"]
    for group, options in groups().items():
        if options and list(options) != ["default"]:
            lines += paragraph(" ".join(options), f"  {group:<16}", " " * 18)
    lines += ["", "dials", *columns(_dials())]
    lines += ["", "flags", *columns(list(FLAGS.items()))]
    return [*lines, "", "tab completion", *columns(list(COMPLETION.items()))]


def _usage(how: str, what: str) -> list[str]:
    line = f"  {how:<42} {what}"
    if len(how) <= 42 and len(line) <= _NARROW:
        return [line]
    return [*textwrap.wrap(how, _NARROW, initial_indent="  ", subsequent_indent="      "), f"      {what}"]


def _dials() -> list[list[str]]:
    """`name=value` and meaning of the top-level dials, without parsing YAML."""
    rows = []
    for line in (CONF / "trainrun.yaml").read_text(encoding="utf-8").splitlines():
        if line[:1].isalpha() and "#" in line:
            value, _, meaning = line.partition("#")
            name, _, value = value.partition(":")
            rows.append([f"{name}={value.strip()}", meaning.strip()])
    return rows
