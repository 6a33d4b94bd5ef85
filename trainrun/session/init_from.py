"""Initial weights from a file, a checkpoint or another run: `init_from`, for fine-tuning."""

from __future__ import annotations

import re
from pathlib import Path

from trainrun.checkpoint.reader import steps_in
from trainrun.checkpoint.weights import Weights, read_checkpoint, read_file
from trainrun.run.files import object_in, read_json
from trainrun.session.checkpoint_choice import choose_checkpoint
from trainrun.session.find_run import find_run
from trainrun.vocabulary.errors import ResumeError

_FILES = (".pt", ".pth", ".bin", ".safetensors")  # that hold weights


def weights_from(source: str) -> Weights:
    """The weights that `source` means; of a run those of its best checkpoint. Raises ResumeError."""
    path = Path(source).expanduser()
    if path.suffix in _FILES and not (path / "config.yaml").is_file():
        return read_file(path)
    if (path / "manifest.json").is_file():
        return read_checkpoint(path)
    if path.is_file():
        raise ResumeError(f"init_from: {path} must end in one of {', '.join(_FILES)}")
    try:
        return read_checkpoint(choose_checkpoint(find_run(source), "best").path)
    except ResumeError as error:
        raise ResumeError(re.sub("^(RUN|checkpoint):", "init_from:", str(error))) from None


def stored_weights(source: str | None, run_dir: Path) -> Weights | None:
    """The weights that a stored run began with, which it needs until its first checkpoint.

    Raises ResumeError where the file has changed since.
    """
    if source is None or steps_in(run_dir / "checkpoints"):
        return None
    weights = weights_from(source)
    environment = read_json(run_dir / "environment.json")
    if object_in(environment, "init_from").get("sha256", weights.sha256) != weights.sha256:
        raise ResumeError(f"init_from: {source} has changed since the run began; start a new run")
    return weights
