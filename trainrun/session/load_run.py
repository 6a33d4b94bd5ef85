"""Load a stored run with the weights to evaluate: what eval, predict and export begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from trainrun.assembly.build import Parts
    from trainrun.session.stored_weights import CheckpointChoice

CHANGEABLE = ("runtime.*", "precision*", "data.root", "data.path", "data.num_workers", "data.eval_batch_size")
SPLITS = ("train", "val", "test")
_AVERAGES = {"ema": "exponential moving average", "swa": "average over the last part of training"}
_SHIFT = 0.125  # of a picture's size, for a run trained without crops: a crop's usual padding, 4 of 32


@dataclass(frozen=True)
class LoadedRun:
    """A run as live parts that hold a checkpoint's weights and the scaling it was trained with."""

    run_dir: Path
    parts: Parts
    choice: CheckpointChoice
    weights: str  # which they are: raw or an average

    def introduce(self, **rows: str) -> None:
        """Say on stderr which run and weights these are, below further rows by their labels."""
        say(self.run_dir)
        for label, text in {**rows, "weights": self.describe()}.items():
            say(f"  {label:<10} {text}")

    def describe(self) -> str:
        """`of step 400, best on val/accuracy`, and which of the two that a run with an average has."""
        roles = ["last"] if self.choice.is_last else []
        if self.choice.is_best and self.parts.monitor is not None:
            roles.insert(0, f"best on val/{self.parts.monitor.name}")
        text = f"of step {self.choice.step}{', ' if roles else ''}{' and '.join(roles)}"
        if self.weights != "raw":
            return f"{text}; their {_AVERAGES.get(self.weights, 'average')} ({self.weights})"
        return f"{text}; raw: the average had not begun" if self.parts.state.weight_average else text

    def size_of(self, split: str) -> str:
        """`test, 270 samples`. Raises ConfigError where the run has no such split."""
        size = self.parts.info.sizes.get(split, 0)
        if size == 0:
            raise ConfigError.of("--split", f"the run has no {split} split")
        return f"{split}, {size} samples" if size else split

    def require_forward(self) -> None:
        """Raise ConfigError for a model that only its task, or its own step, knows how to call."""
        from torch import nn

        kind = type(self.parts.state.model)
        if kind.forward is nn.Module.forward:
            text = f"{kind.__name__} has no forward to call; take the model itself, trainrun.load(RUN)"
            raise ConfigError.of("model", text)

    def model_over(self, views: Sequence[str]) -> nn.Module:
        """The model, or with `views` its mean over them (test-time augmentation, `trainrun.loop.tta`)."""
        if not views:
            return self.parts.state.model
        from trainrun.loop.tta import Views

        augment = self.parts.settings["augment"]
        if "flip" in views and not augment.get("flip"):
            text = "it may fail where a mirror image differs, such as digits"
            say(f"--tta flip: the run was trained without mirrored pictures; {text}")
        return Views(self.parts.state.model, views, augment.get("shift") or _SHIFT, self.parts.info)


def refuse_another_run(overrides: Sequence[str], verb: str) -> None:
    """Raise ConfigError for overrides that would make it another run."""
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not any(fnmatchcase(key, pattern) for pattern in CHANGEABLE):
            raise ConfigError.of(key, f"makes it another run; {verb} takes {', '.join(CHANGEABLE)}")


def load_run(run_dir: Path, checkpoint: str, overrides: Sequence[str]) -> LoadedRun:
    """A stored run with a checkpoint's weights, once its data are those it was trained on."""
    from trainrun.checkpoint.state import require_same_data
    from trainrun.run.files import object_in, read_json
    from trainrun.session.open_run import AS_WRITTEN, open_run
    from trainrun.session.stored_weights import choose_checkpoint, load_weights

    parts = open_run(run_dir, [*overrides, AS_WRITTEN]).parts
    trained_on = object_in(read_json(run_dir / "environment.json"), "data")
    require_same_data(trained_on or parts.state.data, parts.state.data)
    choice = choose_checkpoint(run_dir, checkpoint)
    return LoadedRun(run_dir, parts, choice, load_weights(parts, choice))


def views_of(text: str) -> list[str]:
    """The words of --tta. Raises ConfigError for others than flip and crop."""
    views = [word for word in text.split(",") if word]
    if wrong := [word for word in views if word not in ("flip", "crop")]:
        raise ConfigError.of("--tta", f"must be flip, crop or flip,crop, got {wrong[0]}")
    return views
