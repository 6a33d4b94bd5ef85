"""What a command imports: a count that no load changes, and what its time on a quiet machine follows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass

CODE = """
import json, sys
from trainrun.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


@dataclass(frozen=True)
class Command:
    code: int
    out: str
    err: str
    modules: frozenset[str]


def run_counted(*words: str) -> Command:
    """Run a command in a process of its own, with what it had imported at its end."""
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True)
    out, _, last = done.stdout.rstrip("\n").rpartition("\n")
    code, modules = json.loads(last)
    return Command(code, out, done.stderr, frozenset(modules))


def assert_light(command: Command, most: int, never: Collection[str]) -> None:
    """Allow a command at most so many modules, and none of `never`: its time on a quiet machine follows."""
    advice = "`python -X importtime -m trainrun ...` shows what asks for it; import that where it is needed"
    heavy = sorted(command.modules.intersection(never))
    assert not heavy, f"imports {', '.join(heavy)}: {advice}"
    count = len(command.modules)
    assert count <= most, f"imports {count} modules, {most} are allowed: {advice}, or raise it and say why"
