"""Make the stored run of a version: `python tests/stored/make.py`, at its release.

0.1.0 was made so by commit b7378de, before modules moved, where Step lay in trainrun.step; of the
packages in its environment.json the main ones are kept.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import trainrun
from trainrun.loop.step import Step

WORDS = ["model=linear", "data=digits", "budget=2ep", "regularization=[l1,ema]", "runtime.threads=1"]
WORDS += ["checkpoint.keep_last=1", "loop.log_every=10step", "name=stored"]
STOPPED_IN = 50
KEPT_PACKAGES = ("numpy", "torch", "torchvision", "hydra-core", "omegaconf", "scikit-learn", "trainrun")


def main() -> None:
    folder = Path(__file__).parent.resolve() / trainrun.__version__
    os.chdir(tempfile.mkdtemp())
    folder.mkdir()
    trainrun.train([*WORDS, "run_dir=whole"])
    expected = json.loads(Path("whole/result.json").read_text())
    del expected["seconds"], expected["seconds_by_part"]
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    _stop_in(STOPPED_IN)
    try:
        trainrun.train([*WORDS, "run_dir=cut"])
    except SystemExit:
        print("stopped, as it should be")
    file = Path("cut/environment.json")
    about = json.loads(file.read_text())
    about["packages"] = {name: about["packages"][name] for name in KEPT_PACKAGES if name in about["packages"]}
    file.write_text(json.dumps(about, indent=1) + "\n")
    Path("cut/.lock").unlink(missing_ok=True)
    shutil.move("cut", folder / "run")


def _stop_in(step: int) -> None:
    """Have the run that trains next get SIGTERM in a step."""
    whole, calls = Step.__call__, iter(range(1, 1 << 30))

    def call(self: Step, state: Any, window: Any) -> Any:
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, state, window)

    Step.__call__ = call  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
