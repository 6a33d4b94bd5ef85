"""What a command imports: a count that no load changes, and what its time on a quiet machine follows."""

from __future__ import annotations

import json
import subprocess
import sys
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
