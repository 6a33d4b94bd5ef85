"""`python -m trainrun` where the system lacks what trainrun is built on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDES = {"fcntl": "import sys\nsys.modules['fcntl'] = None\n", "fork": "import os\ndel os.fork\n"}


@pytest.mark.parametrize("lacking", HIDES)
@pytest.mark.parametrize("words", [[], ["show"], ["budget=1step"]])
def test_a_system_without_fcntl_or_fork_is_answered_in_one_line(
    lacking: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDES[lacking])
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "trainrun", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "trainrun needs fcntl and fork, which Windows lacks; use WSL\n"
    assert not done.stdout
    assert not (tmp_path / "outputs").exists()
