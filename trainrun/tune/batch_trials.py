"""Each size in a process of its own: what it takes, what kills it and what it leaves behind stay there."""

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
from trainrun.check.finding import key_of
from trainrun.config.compose.composer import Composer
from trainrun.session.child import in_child
from trainrun.session.init_from import weights_from
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
from trainrun.vocabulary.errors import INTERRUPTED, OutOfMemory

_STOPS = {129, 130, 143} | {-getattr(signal, name) for name in INTERRUPTED}
_TOLD = ("batch norm", "caution")  # lines of the plan that depend on the cut


class TrialEnd(Exception):
    """The command ends with `code`: it was interrupted, or an error has been printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code if code > 0 else 128 - code


class Tries:
    """The run of `overrides`, in one size after another. `words` are the command as it was typed.

    This process never computes, and never asks for a GPU: a fork after that could not use one.
    """

    def __init__(self, words: Sequence[str], overrides: Sequence[str], wanted_bytes: int | None) -> None:
        import torch._dynamo  # noqa: F401  every optimizer asks for it: once, for all children

        self.words, self.overrides, self.wanted_bytes = ["find-batch", *words], list(overrides), wanted_bytes
        self.lengths_differ = False
        self.told: dict[int, list[list[str]]] = {}  # size -> what the plan says of that cut
        room = available_bytes(Path("/"))
        self._host_bytes = None if room is None else round(room * (1 - SPARED)) + held_bytes()
        self.limit = ""  # in words

    def survey(self) -> Survey:
        """What the run is. Raises Ended where it cannot be built, OutOfMemory where it has no room."""
        replaceable("building the run")
        code, found = self._ask(self.overrides, lambda parts: asdict(survey(parts)), catches=False)
        replaceable("")
        if code < 0:
            name = signal.Signals(-code).name
            raise OutOfMemory(
                f"out of memory before training began ({name}); take a smaller model, or fewer data"
            )
        if found is None:
            raise TrialEnd(code)
        self.found = Survey(**found)
        self._set_limit()
        return self.found

    def _set_limit(self) -> None:
        """A GPU's is its memory, with --memory less; a CPU's what there is to spare."""
        wanted, host = self.wanted_bytes, self._host_bytes
        if self.found.on_gpu:
            self.limit = f"{megabytes(wanted or self.found.device_bytes or 0)} MB of it"
            return
        spare = f"{megabytes(host or 0)} MB a process, which leaves a tenth of the memory available now"
        if wanted is not None and (host is None or wanted < host):
            self._host_bytes, spare = wanted, f"{megabytes(wanted)} MB a process"
        elif host is None:
            spare = "what the system allows, for it does not say"
        self.limit = spare
        if self._host_bytes is not None and self.found.built_bytes > self._host_bytes:
            taken = f"{megabytes(self.found.built_bytes)} MB are taken before the first step"
            raise OutOfMemory(f"no size fits into {spare}: {taken}")

    def train(self, size: int, pieces: int, is_beyond: bool = False) -> TriedSize:
        """Steps of a window of `pieces` micro-batches."""
        words = replaced(self.overrides, cut_of(size, pieces))
        replaceable(f"training with {' '.join(cut_of(size, pieces))}")

        def work(parts: Parts) -> Mapping[str, Any]:
            plan = [list(row) for row in parts.plan if row[0] in _TOLD]
            return {**asdict(train(parts)), "told": plan}

        return self._tried(size, pieces, is_beyond, *self._ask(words, work))

    def time_evaluation(self, size: int, pieces: int, cut: Sequence[str]) -> TriedSize:
        """Batches of an evaluation, in a run that is cut so."""
        key = f"data.eval_batch_size={size}"
        replaceable(f"evaluating with {key}")
        words = replaced(self.overrides, [*cut, key])
        answer = self._ask(words, lambda parts: asdict(time_evaluation(parts, self.found.split)))
        return self._tried(size, pieces, False, *answer, is_judged=True)

    def together(self, words: Sequence[str]) -> TriedSize:
        """Steps and an evaluation of the run with those overrides."""
        replaceable(f"training and evaluating with {' '.join(words)}")
        whole = replaced(self.overrides, words)
        answer = self._ask(whole, lambda parts: asdict(together(parts, self.found.split)))
        return self._tried(0, 0, False, *answer)

    def _tried(
        self,
        size: int,
        pieces: int,
        is_beyond: bool,
        code: int,
        found: dict[str, Any] | None,
        is_judged: bool = False,
    ) -> TriedSize:
        """What the child's answer means, or where it gave none, its end."""
        replaceable("")
        if found is None:
            return TriedSize(size, pieces, *_end(code), is_beyond=is_beyond)
        if "fits" in found:
            return TriedSize(size, pieces, found["fits"], found["why"], is_beyond=is_beyond)
        self.told[size] = found.pop("told", self.told.get(size, []))
        one = Measured(**found)
        self.lengths_differ |= one.lengths_differ
        if is_judged and self.found.split_size is None and one.samples < size:
            return TriedSize(size, pieces, False, f"the stream has {one.samples} samples")
        figures = (one.samples_per_s, one.noise, one.peak_bytes, one.reserved_bytes, is_beyond)
        over = None if self.found.on_gpu else self._host_bytes
        fits = over is None or one.peak_bytes <= over
        return TriedSize(size, pieces, fits, "" if fits else "takes more than the limit", *figures)

    def _ask(
        self, words: Sequence[str], work: Callable[[Parts], Mapping[str, Any]], catches: bool = True
    ) -> tuple[int, dict[str, Any] | None]:
        """(exit code, answer) of a fork that builds the run of `words`. Raises Ended for an interruption.

        With `catches` it says nothing itself, and its errors are answers.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:

            def child() -> int:
                if catches:
                    _hush()
                try:
                    with watched(self._host_bytes if catches else None):
                        json.dump(work(self._built(words)), file)
                except Exception as error:
                    if not catches:
                        raise
                    is_memory = is_for_memory(error)
                    why = "out of memory" if is_memory else _told(error)
                    json.dump({"fits": False if is_memory else None, "why": why}, file)
                file.flush()
                return 0

            code = in_child(child, self.words)
            if code in _STOPS:
                replaceable("")
                raise TrialEnd(code)
            file.seek(0)
            text = file.read()
        return code, json.loads(text) if code == 0 and text else None

    def _built(self, words: Sequence[str]) -> Parts:
        settings = Composer().checked(words).settings
        source = settings["init_from"]
        parts = build(settings, weights=weights_from(source) if source else None)
        limit_gpu(parts.runtime.device, self.wanted_bytes)
        return parts


def cut_of(size: int, pieces: int) -> list[str]:
    """The overrides that cut a window so."""
    return [f"batch_size={size}", f"loop.accumulate={pieces}"]


def replaced(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The words with each override in the place of what sets the same key, or at the end."""
    line, wanted = list[str](), {key_of(one): one for one in overrides}
    for word in words:
        one = wanted.get(key_of(word), word)
        line += [] if one in line else [one]
    return line + [one for one in overrides if one not in line]


def _end(code: int) -> tuple[bool | None, str]:
    """What the end of a process without an answer says: whether its size fits, and why not."""
    if code == OutOfMemory.exit_code:
        return False, "takes more than the limit"
    if code == -signal.SIGKILL:
        return False, "killed by the system, out of memory"
    return (False, f"died of {signal.Signals(-code).name}") if code < 0 else (None, f"ended with exit {code}")


def _told(error: Exception) -> str:
    """The first line of what went wrong; an error of ours says it all."""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if type(error).__module__.startswith("trainrun.") else f"{type(error).__name__}: {text}"


def _hush() -> None:
    with open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
