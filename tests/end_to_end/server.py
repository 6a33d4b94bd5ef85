"""Imports trainrun once and runs each command in a fork, as a shell would start it, without the import time.

Reads one JSON object a line, {"words", "cwd", "environment"}; answers {"code", "out", "err"}.
It never computes itself, so that every fork begins clean.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import warnings


def main() -> None:
    import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def import_everything() -> None:
    """Import all of trainrun, and what it imports late."""
    warnings.simplefilter("ignore")

    import trainrun

    for module in pkgutil.walk_packages(trainrun.__path__, "trainrun."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("tensorboard.summary.writer.event_file_writer")
    gc.collect()
    gc.freeze()  # a fork then copies fewer pages


def answer(job: dict) -> dict:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os._exit(run(job, out.fileno(), err.fileno()))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


def run(job: dict, out: int, err: int) -> int:
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    sys.argv[1:] = job["words"]
    from trainrun.cli.main import main as command

    try:
        code = command(job["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
