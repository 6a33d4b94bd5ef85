"""What a part is given, and how it runs trainrun: in this process, or beside it."""

from __future__ import annotations

import _pydecimal
import contextlib
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bounded
from bounded import Row

TRAINRUN = [sys.executable, "-m", "trainrun"]
QUIET = ("logger=none", "loop.eval_every=1000000step", "checkpoint.every=1000000step")


@dataclass(frozen=True)
class Setup:
    """Where a part runs, how large, and where its rows go."""

    part: str
    file: Path
    folder: Path
    device: str
    small: bool

    @property
    def is_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def where(self) -> str:
        """The setting of a run: on a GPU the first, of ranks each its own."""
        return "runtime.device=auto" if self.is_gpu else "runtime.device=cpu"

    def figure(self, name: str, figure: object, note: str = "") -> None:
        """A row without a bar."""
        bounded.write(self.file, Row(self.part, name, _text(figure), note=note))

    def must(self, name: str, figure: object, must: str, passed: bool, note: str = "") -> None:
        bounded.write(self.file, Row(self.part, name, _text(figure), must, bool(passed), note))

    def skipped(self, name: str, reason: str) -> None:
        self.figure(name, "skipped", reason)

    def words(self, words: Sequence[str], name: str) -> list[str]:
        """The whole line of a run in a folder of that name."""
        places = [word for word in words if word.startswith("runtime.device=")] or [self.where]
        words = [word for word in words if word not in places]
        return [*words, *places, f"run_dir={self.folder / name}"]

    def train(self, words: Sequence[str], name: str) -> Run:
        """`trainrun WORDS` in this process, which pays once for the start of CUDA."""
        from trainrun.cli.main import main

        said, began = io.StringIO(), time.monotonic()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(self.words(words, name))
        return Run(self.folder / name, code, said.getvalue(), time.monotonic() - began)

    def start(self, words: Sequence[str], name: str, environment: Mapping[str, str] | None = None) -> Started:
        """The same in a process of its own."""
        return Started(self.words(words, name), self.folder / name, environment)


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Path
    code: int
    said: str
    seconds: float

    def events(self, kind: str, file: str = "metrics.jsonl") -> list[dict[str, Any]]:
        path = self.folder / file
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] == kind]

    @property
    def losses(self) -> list[float]:
        """Training losses of all logs; NaN where one is not finite."""
        return [
            math.nan if event["loss"] is None or event.get("nonfinite") else event["loss"]
            for event in self.events("train")
        ]

    @property
    def fault(self) -> str:
        """Why it did not come to its end, with what it said; empty where it did."""
        return "" if self.code == 0 else "\n".join(["", *self.said.splitlines()[-bounded.LAST_LINES :]])


class Started:
    """A command that runs beside this process."""

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str] | None) -> None:
        import os

        self.folder, self._began = folder, time.monotonic()
        self._log = folder.with_suffix(".log")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*TRAINRUN, *words], stdout=log, stderr=log, env={**os.environ, **(environment or {})}
            )

    def wait(self) -> Run:
        code = self.process.wait()
        return Run(self.folder, code, self._log.read_text(errors="replace"), time.monotonic() - self._began)


def pictures(small: bool, num_samples: int = 4000) -> list[str]:
    """A ResNet-9 on made-up pictures, that learns within some steps."""
    shape, widths = ("[3,8,8]", "[8,8,16,16]") if small else ("[3,32,32]", "[64,128,256,512]")
    samples = 600 if small else num_samples
    sizes = [f"data.num_samples={samples}", f"data.shape={shape}", f"model.widths={widths}"]
    return ["data=synthetic", "model=resnet9", *sizes, f"batch_size={16 if small else 128}"]


def texts(small: bool) -> list[str]:
    """A small GPT with dropout, on one long file of Python's own library."""
    width, depth, block = (16, 1, 16) if small else (256, 4, 256)
    sizes = [f"model.width={width}", f"model.depth={depth}", "model.dropout=0.1", f"data.block_size={block}"]
    return ["data=text", "model=gpt", f"data.path={_pydecimal.__file__}", *sizes, "batch_size=8"]


def _text(figure: object) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)
