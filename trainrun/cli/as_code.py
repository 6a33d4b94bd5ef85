"""`trainrun show loop --as-code [overrides]`: the composed run as one plain PyTorch script."""

from __future__ import annotations

import shlex

from trainrun.config.compose.composer import Composer
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError


def run(words: list[str]) -> int:
    """Print the script to stdout. Raises ConfigError for what it cannot say."""
    if words[:1] != ["loop"]:
        overrides = [word for word in words if "=" in word]
        fix = shlex.join(["trainrun", "show", "loop", "--as-code", *overrides])
        raise ConfigError.of("--as-code", "belongs to loop: trainrun show loop --as-code [overrides]", fix)
    composition = Composer().checked(words[1:])
    for note in composition.notes:
        say(note)
    from trainrun.report.as_code.refusals import refuse

    refuse(composition.settings, composition.choices)
    from trainrun.assembly.build import build
    from trainrun.report.as_code.script import script

    print(script(build(composition.settings), shlex.join(["trainrun", *words[1:]])), end="")
    return 0
