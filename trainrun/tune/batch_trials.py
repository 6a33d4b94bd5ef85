"""Try each micro-batch size in a child process: what it takes, and what kills it, stays there."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainrun.assembly.build import Parts
from trainrun.assembly.costs import megabytes
from trainrun.config.compose.composer import Composer
from trainrun.config.overrides import key_of
from trainrun.data.workers import workers_error
from trainrun.runtime.machine import is_out_of_memory
from trainrun.runtime.usage import held_bytes
from trainrun.session.child import in_child
from trainrun.session.open_run import build_new
from trainrun.terminal.lines import replaceable
from trainrun.tune.batch import TriedSize
from trainrun.tune.memory import SPARED, available_bytes, watched
from trainrun.tune.trial import Measured, Survey, survey, time_evaluation, together, train
from trainrun.vocabulary.errors import INTERRUPTED, OutOfMemoryError

_STOPS = {129, 130, 143} | {-getattr(signal, name) for name in INTERRUPTED}
Answer = dict[str, Any]  # of a child: its measurements, or whether the size fits and why not
Work = Callable[[Parts], Survey | Measured]
_OVER_LIMIT = "takes more than the limit"


class BatchTrialError(Exception):
    """The command ends with `code`: it was interrupted, or an error has been printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code if code > 0 else 128 - code


class BatchTrials:
    """The run of `overrides` in one size after another, each in a fork: this process never asks for a GPU."""

    def __init__(self, words: Sequence[str], overrides: Sequence[str], limit_bytes: int | None) -> None:
        self.words, self.overrides, self.limit_bytes = ["find-batch", *words], list(overrides), limit_bytes
        self.lengths_differ = False
        self.cautions: dict[int, list[str]] = {}  # size -> cautions of the plan for it
        available = available_bytes(Path("/"))
        self._host_bytes = None if available is None else round(available * (1 - SPARED)) + held_bytes()
        self.limit = ""  # in words

    def survey(self) -> Survey:
        """Describe the run. Raises BatchTrialError if it cannot be built, OutOfMemoryError without room."""
        replaceable("building the run")
        code, answer = self._ask(self.overrides, survey, catches=False)
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
        cut, tried = cut_of(size, pieces), TriedSize(size, pieces, None, is_beyond=is_beyond)
        return self._tried(tried, f"training with {' '.join(cut)}", cut, train)

    def time_evaluation(self, size: int, pieces: int, cut: Sequence[str]) -> TriedSize:
        """Try batches of an evaluation, in a run whose window is cut by the overrides `cut`."""
        override, work = f"data.eval_batch_size={size}", partial(time_evaluation, split=self.run.split)
        least = size if self.run.split_size is None else 0
        tried = TriedSize(size, pieces, None)
        return self._tried(tried, f"evaluating with {override}", [*cut, override], work, least)

    def together(self, words: Sequence[str]) -> TriedSize:
        """Try steps and an evaluation of the run with those overrides."""
        work = partial(together, split=self.run.split)
        about = f"training and evaluating with {' '.join(words)}"
        return self._tried(TriedSize(0, 0, None), about, words, work)

    def _tried(
        self, tried: TriedSize, about: str, words: Sequence[str], work: Work, least: int = 0
    ) -> TriedSize:
        """Fill in the answer of a child, or what its exit code means. `least` samples make the batch."""
        replaceable(about)
        code, answer = self._ask(replaced(self.overrides, words), work)
        replaceable("")
        answer = answer or _meaning_of(code)
        if "fits" in answer:
            return replace(tried, **answer)
        self.cautions.setdefault(tried.size, answer.pop("cautions"))  # training is tried first
        self.lengths_differ |= answer.pop("lengths_differ")
        if (samples := answer.pop("samples")) < least:
            return replace(tried, fits=False, why=f"the stream has {samples} samples")
        fits = self.run.on_gpu or self._host_bytes is None or answer["peak_bytes"] <= self._host_bytes
        return replace(tried, fits=fits, why="" if fits else _OVER_LIMIT, **answer)

    def _ask(self, words: Sequence[str], work: Work, catches: bool = True) -> tuple[int, Answer | None]:
        """(exit code, answer) of a fork with the run of `words`; with `catches` its errors are answers."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:

            def child() -> int:
                if catches:
                    _silence()
                try:
                    with watched(self._host_bytes if catches else None):
                        parts = self._built(words)
                        answer = asdict(work(parts))
                        if catches:
                            answer["cautions"] = [text for label, text in parts.plan if label == "caution"]
                except Exception as error:
                    if not catches:
                        raise
                    answer = _failure(error)
                json.dump(answer, file)
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
        parts = build_new(Composer().checked(words).settings)
        device = parts.runtime.device
        if device.type == "cuda" and self.limit_bytes is not None:
            share = self.limit_bytes / torch.cuda.mem_get_info(device)[1]
            torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
        return parts


def cut_of(size: int, pieces: int) -> list[str]:
    """The overrides that cut a window so."""
    return [f"batch_size={size}", f"loop.accumulate={pieces}"]


def replaced(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The words with each override in place of what sets the same key, or at the end."""
    replacement = {key_of(override): override for override in overrides}
    line = [replacement.get(key_of(word), word) for word in words]
    return [*dict.fromkeys(line), *(override for override in overrides if override not in line)]


def _meaning_of(code: int) -> Answer:
    """The answer that the exit code of a process without one stands for."""
    if code == OutOfMemoryError.exit_code:
        return {"fits": False, "why": _OVER_LIMIT}
    if code == -signal.SIGKILL:
        return {"fits": False, "why": "killed by the system, out of memory"}
    if code < 0:
        return {"fits": False, "why": f"died of {signal.Signals(-code).name}"}
    return {"fits": None, "why": f"ended with exit {code}"}


def _failure(error: Exception) -> Answer:
    """The answer of a child that failed; an error of trainrun's own needs no name of its type."""
    if is_out_of_memory(error) or isinstance(workers_error(error), OutOfMemoryError):
        return {"fits": False, "why": "out of memory"}
    text = (str(error).strip().splitlines() or [""])[0]
    is_ours = type(error).__module__.startswith("trainrun.")
    return {"fits": None, "why": text if is_ours else f"{type(error).__name__}: {text}"}


def _silence() -> None:
    with open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
