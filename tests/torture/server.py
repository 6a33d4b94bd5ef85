"""A fork server for commands that are to die: killed from outside at an instant, or struck from inside.

Reads a `Job` a line and answers an `Ended`, both as JSON. A job that outlives its patience is
killed with all its processes and answered with the code None.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from end_to_end.server import import_everything, run
from torture import naive
from torture.faults import Watch
from torture.settings import LONG


def main() -> None:
    import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os._exit(prepared(job, out.fileno(), err.fileno()))
        status, used = wait(child, job["signal"], job["after_s"], job["patience_s"])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    ended = {"out": texts[0], "err": texts[1], "seconds": time.monotonic() - began}
    unit = 1 if sys.platform == "darwin" else 1024
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return ended | {"code": code, "memory_bytes": used.ru_maxrss * unit}


def wait(child: int, name: str, after_s: float | None, patience_s: float) -> tuple[int | None, Any]:
    """(wait status or None, resources used). Until it is waited for, a dead child's id stays its own."""
    began = time.monotonic()
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status, used
        passed = time.monotonic() - began
        if after_s is not None and passed >= after_s:
            os.kill(child, getattr(signal, name))
            after_s = None
        if passed > patience_s:
            os.killpg(child, signal.SIGKILL)
            return None, os.wait4(child, 0)[2]
        time.sleep(0.001)


def prepared(job: dict[str, Any], out: int, err: int) -> int:
    """The exit code of the command, in a process where what the job asks for goes wrong."""
    os.setpgid(0, 0)
    if job["file_limit_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit_bytes"],) * 2)
    if not LONG:
        os.fsync = lambda descriptor: None  # nothing here cuts the power
    if job["watched"] is not None:
        Watch(Path(job["watched"]), job["strikes"], job["trace"]).begin()
    if job["saves"] is not None:
        naive.VARIANTS[job["saves"]]()
    return run(job, out, err)


if __name__ == "__main__":
    main()
