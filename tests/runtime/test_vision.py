"""torchvision can be imported, whether its compiled operators load or not."""

from __future__ import annotations

import subprocess
import sys

from trainrun.runtime import vision
from trainrun.runtime.vision import import_torchvision


def fresh(code: str) -> str:
    """What a new interpreter prints, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_models_and_data_sets_import_in_a_fresh_process() -> None:
    code = "from trainrun.runtime.vision import import_torchvision as i; m = i('torchvision.models')"
    assert fresh(f"{code}; i(); i('torchvision.datasets'); print(m.resnet18.__name__)") == "resnet18"


def test_operators_that_cannot_be_loaded_are_declared() -> None:
    code = (
        "import torch, trainrun.runtime.vision as v\n"
        "def fail(path): raise OSError('undefined symbol')\n"
        "torch.ops.load_library = fail\n"
        "v.declare_missing_operators()\n"
        "print(v._library is not None, torch.ops.torchvision.nms.default._schema)"
    )
    assert fresh(code).startswith("True torchvision::nms(Tensor dets, Tensor scores, float iou_threshold)")


def test_operators_that_are_there_are_left_alone() -> None:
    import_torchvision()
    before = vision._library
    import_torchvision()
    assert vision._library is before


def test_a_missing_torchvision_is_the_usual_import_error() -> None:
    code = (
        "import sys, trainrun.runtime.vision as v\n"
        "v.PathFinder.find_spec = lambda name: None\n"
        "sys.modules['torchvision'] = None\n"
        "try: v.import_torchvision()\n"
        "except ImportError: print('ImportError')"
    )
    assert fresh(code) == "ImportError"
