"""Try each micro-batch size in a child process: what it takes, and what kills it, stays there."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainrun.assembly.build import Parts, build
from trainrun.assembly.costs import megabytes
from trainrun.config.compose.composer import Composer
from trainrun.config.overrides import key_of
from trainrun.session.child import in_child
from trainrun.session.stored_weights import initial_weights
from trainrun.terminal.lines import replaceable
from trainrun.tune.batch import TriedSize
from trainrun.tune.memory import SPARED, available_bytes, held_bytes, watched
from trainrun.tune.trial import (
    Measured,
    Survey,
    is_for_memory,
    limit_gpu,
    survey,
    time_evaluation,
    together,
    train,
)
from trainrun.vocabulary.errors import INTERRUPTED, OutOfMemoryError

_STOPS = {129, 130, 143} | {-getattr(signal, name) for name in INTERRUPTED}
_OVER_LIMIT = "takes more than the limit"
_CAUTIONS = ("batch norm", "caution")  # lines of the plan that depend on how the window is cut


class BatchTrialError(Exception):
    """The command ends with `code`: it was interrupted, or an error has been printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code if code > 0 else 128 - code


class BatchTrials:
    """The run of `overrides`, in one size after another. `words` are the command as it was typed.

    This process never computes, and never asks for a GPU: a fork after that could not use one.
    """

    def __init__(self, words: Sequence[str], overrides: Sequence[str], limit_bytes: int | None) -> None:
        import torch._dynamo  # noqa: F401  every optimizer asks for it: once, for all children

        self.words, self.overrides, self.limit_bytes = ["find-batch", *words], list(overrides), limit_bytes
        self.lengths_differ = False
        self.cautions: dict[int, list[list[str]]] = {}  # size -> cautions of the plan for it
        available = available_bytes(Path("/"))
        self._host_bytes = None if available is None else round(available * (1 - SPARED)) + held_bytes()
        self.limit = ""  # in words

    def survey(self) -> Survey:
        """Describe the run. Raises BatchTrialError if it cannot be built, OutOfMemoryError without room."""
        replaceable("building the run")
        code, answer = self._ask(self.overrides, lambda parts: asdict(survey(parts)), catches=False)
        replaceable("")
        if code < 0:
            text = f"out of memory before training began ({signal.Signals(-code).name})"
            raise OutOfMemoryError(f"{text}; take a smaller model, or fewer data")
        if answer is None:
            raise BatchTrialError(code)
        self.run = Survey(**answer)
        self._set_limit()
        return self.run

    def _set_limit(self) -> None:
        """Set the limit: of a GPU its memory, of a CPU what the machine can spare, less with --memory."""
        if self.run.on_gpu:
            self.limit = f"{megabytes(self.limit_bytes or self.run.device_bytes or 0)} MB of it"
            return
        if self.limit_bytes is not None and (self._host_bytes is None or self.limit_bytes < self._host_bytes):
            self._host_bytes = self.limit_bytes
            self.limit = f"{megabytes(self.limit_bytes)} MB a process"
        elif self._host_bytes is None:
            self.limit = "what the system allows, which it does not say"
        else:
            size = f"{megabytes(self._host_bytes)} MB a process"
            self.limit = f"{size}, which leaves a tenth of the memory available now"
        if self._host_bytes is not None and self.run.built_bytes > self._host_bytes:
            taken = f"{megabytes(self.run.built_bytes)} MB are taken before the first step"
            raise OutOfMemoryError(f"no size fits into {self.limit}: {taken}")

    def train(self, size: int, pieces: int, is_beyond: bool = False) -> TriedSize:
        """Try steps of a window of `pieces` micro-batches."""
        cut = cut_of(size, pieces)
        replaceable(f"training with {' '.join(cut)}")

        def work(parts: Parts) -> Mapping[str, Any]:
            cautions = [list(row) for row in parts.plan if row[0] in _CAUTIONS]
            return {**asdict(train(parts)), "cautions": cautions}

        return self._tried(size, pieces, is_beyond, *self._ask(replaced(self.overrides, cut), work))

    def time_evaluation(self, size: int, pieces: int, cut: Sequence[str]) -> TriedSize:
        """Try batches of an evaluation, in a run whose window is cut by the overrides `cut`."""
        override = f"data.eval_batch_size={size}"
        replaceable(f"evaluating with {override}")
        words = replaced(self.overrides, [*cut, override])
        answer = self._ask(words, lambda parts: asdict(time_evaluation(parts, self.run.split)))
        return self._tried(size, pieces, False, *answer, is_evaluation=True)

    def together(self, words: Sequence[str]) -> TriedSize:
        """Try steps and an evaluation of the run with those overrides."""
        replaceable(f"training and evaluating with {' '.join(words)}")
        words = replaced(self.overrides, words)
        answer = self._ask(words, lambda parts: asdict(together(parts, self.run.split)))
        return self._tried(0, 0, False, *answer)

    def _tried(
        self,
        size: int,
        pieces: int,
        is_beyond: bool,
        code: int,
        answer: dict[str, Any] | None,
        is_evaluation: bool = False,
    ) -> TriedSize:
        """Read the child's answer, or its exit code where it gave none."""
        replaceable("")
        if answer is None:
            return TriedSize(size, pieces, *_meaning_of(code), is_beyond=is_beyond)
        if "fits" in answer:
            return TriedSize(size, pieces, answer["fits"], answer["why"], is_beyond=is_beyond)
        self.cautions[size] = answer.pop("cautions", self.cautions.get(size, []))
        measured = Measured(**answer)
        self.lengths_differ |= measured.lengths_differ
        if is_evaluation and self.run.split_size is None and measured.samples < size:
            return TriedSize(size, pieces, False, f"the stream has {measured.samples} samples")
        limit = None if self.run.on_gpu else self._host_bytes
        fits = limit is None or measured.peak_bytes <= limit
        return TriedSize(
            size=size,
            pieces=pieces,
            fits=fits,
            why="" if fits else _OVER_LIMIT,
            samples_per_s=measured.samples_per_s,
            noise=measured.noise,
            peak_bytes=measured.peak_bytes,
            reserved_bytes=measured.reserved_bytes,
            is_beyond=is_beyond,
        )

    def _ask(
        self, words: Sequence[str], work: Callable[[Parts], Mapping[str, Any]], catches: bool = True
    ) -> tuple[int, dict[str, Any] | None]:
        """(exit code, answer) of a fork that builds the run of `words`. Raises TrialEnd for an interruption.

        With `catches` it prints nothing itself, and its errors are answers.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:

            def child() -> int:
                if catches:
                    _silence()
                try:
                    with watched(self._host_bytes if catches else None):
                        json.dump(work(self._built(words)), file)
                except Exception as error:
                    if not catches:
                        raise
                    json.dump(_failure(error), file)
                file.flush()
                return 0

            code = in_child(child, self.words)
            if code in _STOPS:
                replaceable("")
                raise BatchTrialError(code)
            file.seek(0)
            text = file.read()
        return code, json.loads(text) if code == 0 and text else None

    def _built(self, words: Sequence[str]) -> Parts:
        settings = Composer().checked(words).settings
        parts = build(settings, weights=initial_weights(settings))
        limit_gpu(parts.runtime.device, self.limit_bytes)
        return parts


def cut_of(size: int, pieces: int) -> list[str]:
    """The overrides that cut a window so."""
    return [f"batch_size={size}", f"loop.accumulate={pieces}"]


def replaced(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The words with each override in place of what sets the same key, or at the end."""
    replacement = {key_of(override): override for override in overrides}
    line = [replacement.get(key_of(word), word) for word in words]
    return [*dict.fromkeys(line), *(override for override in overrides if override not in line)]


def _meaning_of(code: int) -> tuple[bool | None, str]:
    """(fits, why not) of the exit code of a process without an answer."""
    if code == OutOfMemoryError.exit_code:
        return False, _OVER_LIMIT
    if code == -signal.SIGKILL:
        return False, "killed by the system, out of memory"
    return (False, f"died of {signal.Signals(-code).name}") if code < 0 else (None, f"ended with exit {code}")


def _failure(error: Exception) -> dict[str, Any]:
    """The answer of a child that failed; an error of trainrun's own needs no name of its type."""
    if is_for_memory(error):
        return {"fits": False, "why": "out of memory"}
    text = (str(error).strip().splitlines() or [""])[0]
    is_ours = type(error).__module__.startswith("trainrun.")
    return {"fits": None, "why": text if is_ours else f"{type(error).__name__}: {text}"}


def _silence() -> None:
    with open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
