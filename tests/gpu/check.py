"""What a GPU makes of trainrun, in at most 8 minutes: `make gpu`, or check.py [PART ...].

Each part runs in a process of its own, for its share of the time. A table is printed at the end, also when
it is interrupted. Exit code 0: all rows that have a bar passed. On a CPU: `--device cpu --small`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script
    from bounded import Row, limits, read, run_part, table, verdict
else:
    from .bounded import Row, limits, read, run_part, table, verdict

HOME = Path(__file__).resolve().parent
SECONDS = 470.0  # for all, so that starts and ends fit into 8 minutes
# name -> (module, share of the time). What runs over leaves the rows that it has.
PARTS = {
    "environment": ("environment", 40),  # torch is read from disk for the first time
    "exact": ("exact", 55),
    "precision": ("arithmetic", 30),
    "optimizer": ("arithmetic", 35),
    "memory": ("room", 70),
    "waits": ("waits", 40),
    "ranks": ("several", 70),
    "mlp": ("speed", 40),
    "resnet9": ("speed", 50),
    "compile": ("arithmetic", 60),
    "gpt": ("speed", 90),  # gets what the others have left
}


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="check.py", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; else all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models and few steps")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for all parts; else {SECONDS:.0f}")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if unknown := [name for name in chosen.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if chosen.seconds <= 0:
        parser.error(f"--seconds must be greater than 0, got {chosen.seconds:g}")
    return chosen


def main(words: Sequence[str]) -> int:
    chosen = arguments(words)
    if chosen.part:
        run_here(*chosen.part, chosen.device, chosen.small)
        return 0
    wanted = [name for name in PARTS if name == "environment" or name in (chosen.parts or PARTS)]
    rows, missing, code = run_all(wanted, chosen.device, chosen.small, chosen.seconds)
    print(table([row for row in rows if row.part != "environment"]))
    print(f"\n{verdict(rows, missing)}", flush=True)
    return code or int(bool(missing) or any(row.passed is False for row in rows))


def run_all(
    names: Sequence[str], device: str, small: bool, seconds: float
) -> tuple[list[Row], list[str], int]:
    """(rows, parts that did not run, exit code of an interruption or 0)."""
    shares, ends = {name: PARTS[name][1] for name in names}, time.monotonic() + seconds
    rows: list[Row] = []
    missing = list(names)
    with tempfile.TemporaryDirectory(prefix="trainrun-gpu-", ignore_cleanup_errors=True) as folder:
        try:
            for name in names:
                file = Path(folder) / f"{name}.rows"
                limit, began = limits(shares, name, ends - time.monotonic()), time.monotonic()
                options = ["--device", device, *(["--small"] if small else []), "--part", name, str(file)]
                new = run_part(name, [sys.executable, str(HOME / "check.py"), *options], file, limit)
                rows += new
                missing.remove(name)
                if name == "environment":
                    print(table(new), flush=True)
                    if any(row.passed is False for row in new):
                        break  # nothing to check here
                took = time.monotonic() - began
                print(f"{name}: {took:.0f} of {limit:.0f} s, {len(new)} rows", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted: what follows is not all", file=sys.stderr)
            return [*rows, *read(file)], missing, 130
    return rows, missing, 0


def run_here(name: str, file: str, device: str, small: bool) -> None:
    """One part, in this process: its module's function of that name, or else `main`."""
    from setup import Setup

    sys.path.append(str(HOME.parent / "benchmarks"))  # whose turns it borrows
    os.environ["TRAINRUN_STATE"] = str(Path(file).with_name("state"))  # where runs are signed
    os.chdir(HOME)  # where trainrun finds the models of loops.py
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=Path(file).parent) as folder:
        module = importlib.import_module(PARTS[name][0])
        getattr(module, name)(Setup(name, Path(file), Path(folder), device, small))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sys.exit(main(sys.argv[1:]))
