"""`trainrun new my_project`, then what it says to type next: the project trains, and passes its own test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_a_new_project_trains_at_once_and_passes_its_own_test(
    command: Callable, server: Callable, tmp_path: Path
) -> None:
    told = command("new", "my_project").err.splitlines()
    project = tmp_path / "my_project"
    assert "  trainrun experiment=first budget=2ep" in told
    done = server(["experiment=first", "budget=2ep"], project)
    assert done.code == 0, done
    (status,) = (json.loads(file.read_text()) for file in project.glob("outputs/*/*/status.json"))
    # 1000 points, of which 0.15 each are held out twice, in batches of 32: 22 steps an epoch.
    assert (status["state"], status["step"]) == ("completed", 44)
    done = server(["-q", "model=net", "data=digits", "budget=2step"], project)  # the model fits other data
    assert done.code == 0, done
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True, env=environment
    )
    assert tests.returncode == 0, tests.stdout
    assert "3 passed" in tests.stdout
