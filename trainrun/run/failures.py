"""failures/step-N.pt: what it takes to see again a step whose gradient was not finite."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from trainrun.vocabulary.events import Event, NotFinite

KEPT = 3  # the first ones of a run: each holds all weights


class Failures:
    """Stores of such a step `batches` (inputs, targets, indices), the weights as `model`, and what was found.

    `torch.load` reads the file with weights_only=True.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "failures"

    def __call__(self, event: Event) -> None:
        if not isinstance(event, NotFinite) or len(list(self.folder.glob("step-*.pt"))) >= KEPT:
            return
        about = {"step": event.step, "where": event.where, "samples": list(event.samples), "norm": event.norm}
        path = self.folder / f"step-{event.step:09d}.pt"
        temporary = path.with_name(f".tmp-{path.name}")
        self.folder.mkdir(exist_ok=True)
        try:
            torch.save({**about, **event.replay}, temporary)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
