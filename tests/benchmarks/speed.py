"""How fast trainrun is, beside loops and frameworks at the same work: `make bench`, `make bench ONLY=mlp`.

Each subject is a module of this folder and runs in a process of its own. Figures are CPU time unless a row
says wall. The bars beside them hold on a quiet machine.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time

import machine
from commands import HOME

SUBJECTS = {
    "mlp": "steps of an MLP: guide's script, bare loop, frameworks, trainrun",
    "cnn": "steps of a CNN: guide's loop, bare loop, trainrun in fp32 and bf16",
    "augment": "augmentation, against PIL for each sample",
    "start": "commands, and the way to the first step, in times of import torch",
    "checkpoint": "how long the loop waits for a save, against torch.save",
    "saves": "the share of a run that goes into its saves",
    "evaluation": "an evaluation, against its forward passes",
    "ranks": "steps of two ranks, against DDP",
    "memory": "peak memory of the MLP's run",
}
IN_TURNS = ("mlp", "cnn", "augment")  # in one process


def main(names: list[str]) -> int:
    """Run the named subjects, or all. Returns 1 where one failed, 2 for a name that is none."""
    if unknown := [name for name in names if name not in SUBJECTS]:
        subjects = "\n".join(f"  {name:10} {about}" for name, about in SUBJECTS.items())
        print(f"no such benchmark: {', '.join(unknown)}; there are\n{subjects}", file=sys.stderr)
        return 2
    began = time.monotonic()
    print(machine.describe(), flush=True)
    present = [name for name in SUBJECTS if (HOME / f"{name}.py").is_file()]
    failed = [name for name in names or present if not succeeds(name)]
    print(f"\n{time.monotonic() - began:.0f} s, load now {os.getloadavg()[0]:.1f}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def succeeds(name: str) -> bool:
    """Whether a subject ran to its end, in a process of its own."""
    settings = os.environ | machine.ONE_THREAD | (machine.ONE_HEAP if name in IN_TURNS else {})
    command = [sys.executable, __file__, "--here", name]
    return subprocess.run(command, env=settings, check=False).returncode == 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        name, sys.argv[1:] = sys.argv[2], []
        importlib.import_module(name).main()
    else:
        sys.exit(main(sys.argv[1:]))
