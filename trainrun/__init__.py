"""Train a PyTorch model from YAML: one command, every piece of training advice one flag away."""

from __future__ import annotations

import sys as _sys
from collections.abc import Sequence as _Sequence
from typing import TYPE_CHECKING, Any

from trainrun.vocabulary.errors import ConfigError, TrainrunError
from trainrun.vocabulary.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from trainrun.session.run import Run


__all__ = [
    "ConfigError",
    "Run",
    "TrainrunError",
    "__version__",
    "evaluate",
    "export",
    "history",
    "load",
    "predict",
    "resume",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def train(overrides: _Sequence[str] = ()) -> Any:
    """Train as `trainrun` would with these words, such as ["model=mlp", "budget=3ep"] or ["my.yaml"].

    Returns the run's result: `run_dir`, `state`, `reason`, `step`, `best`, `seconds` and `metrics` by
    split. With "-m" it returns the sweep's record: `path`, `jobs`, `settings` and `best`.

    Raises ConfigError with all problems of the configuration at once. Ctrl-C saves the run and raises
    KeyboardInterrupt, SIGTERM saves and raises SystemExit(143). What a run sets in this process, such
    as generators and threads, is afterwards as it was.
    """
    from trainrun.session.python import train
    from trainrun.sweep.process import sweep

    return train(overrides, sweep)


def resume(run: str, overrides: _Sequence[str] = ()) -> Any:
    """Go on with a run, or a sweep, as `trainrun resume` would; returns what `train` returns.

    `run`: a path, the beginning of one, a name, or last. `overrides` may change what does not make it
    another run, such as ["budget=40ep"]. A run that is complete is returned as it is.
    """
    from trainrun.session.python import resume
    from trainrun.sweep.process import resume_sweep

    return resume(run, overrides, resume_sweep)


def load(run: str, checkpoint: str | None = "best", trust: _Sequence[str] = ()) -> nn.Module:
    """The trained model of a run, in evaluation mode. `run`: a path, the beginning of one, a name, or last.

    `checkpoint`: best, last, a step, or None for the model as it was built. `trust` names packages,
    beyond torch's own and the folder's, that the stored run may import.
    """
    from trainrun.session.python import load

    return load(run, checkpoint, trust)


def evaluate(
    run: str, split: str = "val", checkpoint: str = "best", overrides: _Sequence[str] = (), tta: str = ""
) -> dict[str, float]:
    """The metrics of a stored run on its train, val or test split: {"loss": 0.1, "accuracy": 0.97}.

    `overrides` such as ["runtime.device=cpu", "data.root=FOLDER"]; `tta` flip, crop or flip,crop.
    """
    from trainrun.session.python import evaluate

    return evaluate(run, split, checkpoint, overrides, tta)


def predict(
    run: str,
    inputs: Any = None,
    split: str = "test",
    checkpoint: str = "best",
    overrides: _Sequence[str] = (),
    tta: str = "",
) -> list[dict[str, Any]]:
    """What a stored run makes of each sample of a split, or of `inputs`: a row for each.

    `inputs`: a file such as those of the run's data, or an array or tensor of samples. A row holds the
    columns of `trainrun predict`: {"index": 0, "target": "6", "predicted": "6", "probability": 0.98, ...}.
    """
    from trainrun.session.python import predict

    return predict(run, inputs, split, checkpoint, overrides, tta)


def export(run: str, path: str | Path, checkpoint: str = "best", overrides: _Sequence[str] = ()) -> Path:
    """Write a stored run's model as .safetensors, .pt2 or .onnx and compare them; returns the file."""
    from trainrun.session.python import export

    return export(run, path, checkpoint, overrides)


def history(run: str) -> dict[str, list[tuple[int, float]]]:
    """The curves of a stored run by the names that TensorBoard shows: {"val/accuracy": [(40, 0.91), ...]}.

    Each is (step, value) with rising steps. They are read from the run's records, without torch.
    """
    from trainrun.session.run import Run

    return Run(run).history()


def __getattr__(name: str) -> Any:
    """`Run`, when it is first asked for: importing the package alone stays quick."""
    if name != "Run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trainrun.session.run import Run

    globals()["Run"] = Run
    return Run


def _plainly(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Show a mistake that a script does not catch as the command would: its text, and its exit code."""
    if not isinstance(error, TrainrunError):
        _others(kind, error, traceback)
        return
    if _sys.stderr is not None:
        _sys.stderr.write(f"trainrun: {error}\n")
    raise SystemExit(error.exit_code)


_others, _sys.excepthook = _sys.excepthook, _plainly
