"""The Python API: train, resume, evaluate, predict, export and load, as the commands do."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun import ranks
from trainrun.config.commands import COMMANDS
from trainrun.config.compose.experiments import forget_experiments
from trainrun.config.paths import is_run
from trainrun.config.stored import load_stored
from trainrun.config.suggest import hydra_value
from trainrun.run.directory import find_run
from trainrun.run.files import object_in, read_json
from trainrun.runtime.signals import guest
from trainrun.session.load_run import SPLITS, LoadedRun, load_run, refuse_another_run, views_of
from trainrun.session.process_state import current_code, restored, torch_restored
from trainrun.session.resume import RunEnd, refuse_other_forms, resumed
from trainrun.session.summary import print_summary
from trainrun.session.train import read_line, show_settings, trained
from trainrun.vocabulary.errors import INTERRUPTED, ConfigError, DataError

if TYPE_CHECKING:
    from torch import nn

    from trainrun.session.session import Result

_FUNCTIONS = {"resume": "resume", "eval": "evaluate", "predict": "predict", "export": "export"}
_training = threading.Lock()


def train(words: Sequence[str], sweep: Callable[[list[str]], Any]) -> Any:
    """Do what `trainrun WORDS` does; with -m return what `sweep` does, for words that show settings None."""
    typed = _texts(words)
    with _command(), _alone():
        if typed and (function := _FUNCTIONS.get(typed[0])):
            raise ConfigError.of(typed[0], f"is a function of its own here: trainrun.{function}(...)")
        if typed and typed[0] in COMMANDS:
            raise ConfigError.of(typed[0], f"belongs to the command line: {shlex.join(['trainrun', *typed])}")
        if any(word in ("-h", "--help", "--version") for word in typed):
            raise ConfigError.of(typed[0], "belongs to the command line; here there is help(trainrun)")
        line = read_line(typed)
        if show_settings(line):
            return None
        if line.arguments.multirun:
            return sweep(typed)
        ended = trained(line, torch_restored)
    return _result(ended)


def resume(run: str, overrides: Sequence[str], resume_sweep: Callable[[str, list[str]], Any]) -> Any:
    """Do what `trainrun resume RUN` does; where RUN is a sweep, return what `resume_sweep` does."""
    words = _texts(overrides)
    with _command(), _alone():
        refuse_other_forms(str(run), words)
        if (swept := resume_sweep(str(run), words)) is not None:
            return swept
        run_dir = Path(ranks.broadcast_object(str(find_run(str(run)))))
        with current_code(load_stored(run_dir / "config.yaml")), torch_restored():
            command = [*ranks.command(), "resume", str(run), *words]
            ended = resumed(run_dir, [word for word in words if word != "-q"], "-q" in words, command)
    return _result(ended)


def load(run: str, checkpoint: str | None = "best", trust: Sequence[str] = ()) -> nn.Module:
    """The trained model of a run, in evaluation mode. `run`: a path, the beginning of one, a name, or last.

    `checkpoint`: best, last, a step, or None for the model as it was built. `trust` names packages,
    beyond torch's own and the folder's, that the stored run may import.
    """
    with _command(), _stored(run) as run_dir:
        from trainrun.parameters.lora import merge
        from trainrun.session.open_run import AS_WRITTEN, open_run
        from trainrun.session.stored_weights import choose_checkpoint, load_weights

        trusted = [f"runtime.trust={hydra_value(list(trust))}"] if trust else []
        parts = open_run(run_dir, [*trusted, AS_WRITTEN]).parts
        if checkpoint is not None:
            load_weights(parts, choose_checkpoint(run_dir, str(checkpoint)))
        merge(parts.state.model)
        return parts.state.model.eval()


def evaluate(
    run: str, split: str = "val", checkpoint: str = "best", overrides: Sequence[str] = (), tta: str = ""
) -> dict[str, float]:
    """The metrics of a stored run on its train, val or test split: {"loss": 0.1, "accuracy": 0.97}.

    `overrides` such as ["runtime.device=cpu", "data.root=FOLDER"]; `tta` flip, crop or flip,crop.
    """
    with _loaded(run, "eval", checkpoint, overrides) as loaded:
        from trainrun.loop.evaluate import evaluate, shared_batches

        _require_split(loaded, split)
        parts, model = loaded.parts, loaded.model_over(views_of(tta))
        return evaluate(model, parts.task, shared_batches(parts.data, split), parts.state.precision)


def predict(
    run: str,
    inputs: Any = None,
    split: str = "test",
    checkpoint: str = "best",
    overrides: Sequence[str] = (),
    tta: str = "",
) -> list[dict[str, Any]]:
    """What a stored run makes of each sample of a split, or of `inputs`: a row for each.

    `inputs`: a file such as those of the run's data, or an array or tensor of samples. A row holds the
    columns of `trainrun predict`: {"index": 0, "target": "6", "predicted": "6", "probability": 0.98, ...}.
    """
    with _loaded(run, "predict", checkpoint, overrides) as loaded, _as_file(inputs) as file:
        from trainrun.loop.evaluate import predictions
        from trainrun.session.predictions import about_input, numbers_in, rows_of, samples_of

        if file is None:
            _require_split(loaded, split)
        parts, model = loaded.parts, loaded.model_over(views_of(tta))
        samples = samples_of(loaded, file, split)
        outputs = predictions(model, parts.task, samples.batches, parts.state.precision)
        with about_input(file):
            heads, *rows = rows_of(parts.task, parts.info, samples, outputs)
        numbers = numbers_in(heads, parts.task)
        return [
            {head: numbers.get(head, str)(text) for head, text in zip(heads, row, strict=True)}
            for row in rows
        ]


def export(run: str, path: str | Path, checkpoint: str = "best", overrides: Sequence[str] = ()) -> Path:
    """Write a stored run's model as .safetensors, .pt2 or .onnx and compare them; returns the file."""
    from trainrun.session.export import about_run, export, sample_arguments

    file = Path(path).expanduser()
    with _loaded(run, "export", checkpoint, overrides, file) as loaded:
        arguments = sample_arguments(loaded)
        export(loaded.parts.state.model, arguments, file, about_run(loaded, arguments))
    return file


@contextlib.contextmanager
def _command() -> Iterator[None]:
    """Within, the process as a command finds it; afterwards as it was."""
    ranks.join()
    with restored(), guest(), ranks.silence_other_ranks():
        folder = os.getcwd()
        if not is_run(Path(folder)) and folder not in sys.path:
            sys.path.insert(0, folder)
        importlib.invalidate_caches()  # so that a file that was just written can be imported
        try:
            yield
        finally:
            forget_experiments()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Raise ConfigError where a run trains in this process already: a module that it imports calls it."""
    if not _training.acquire(blocking=False):
        text = "was called by a module that a run imports; put the call under if __name__ == '__main__':"
        raise ConfigError.of("trainrun.train", text)
    try:
        yield
    finally:
        _training.release()


@contextlib.contextmanager
def _stored(run: str) -> Iterator[Path]:
    """The folder of a stored run, its code as it is now."""
    run_dir = find_run(str(run))
    with current_code(load_stored(run_dir / "config.yaml")), torch_restored():
        yield run_dir


@contextlib.contextmanager
def _loaded(
    run: str, verb: str, checkpoint: str, overrides: Sequence[str], file: Path | None = None
) -> Iterator[LoadedRun]:
    """A stored run with the weights of a checkpoint; `file` is what will be exported."""
    words = _texts(overrides)
    with _command():
        refuse_another_run(words, verb)
        if file is not None:
            from trainrun.session.export import PORTABLE, check_path

            check_path(file)
            words = [*PORTABLE, *words]
        with _stored(run) as run_dir:
            yield load_run(run_dir, str(checkpoint), words)


def _result(ended: RunEnd) -> Result:
    """The run's result. Raises KeyboardInterrupt or SystemExit where a signal ended it, saved."""
    from trainrun.session.session import Result

    if ended.result is None:
        status = read_json(ended.run_dir / "status.json")
        step, seconds = int(status.get("step") or 0), float(status.get("seconds") or 0.0)
        reason, ending = str(status.get("reason")), read_json(ended.run_dir / "result.json")
        best, by_part = ending.get("best_value"), object_in(ending, "seconds_by_part")
        by_split = {"val": status.get("metric"), "test": status.get("test")}
        metrics = {split: values for split, values in by_split.items() if values}
        return Result(ended.run_dir, 0, "completed", reason, step, best, seconds, metrics, "", by_part)
    result = ended.result
    if result.state == "interrupted":
        print_summary(result, ended.budget, quiet=False)
    if result.reason == "SIGINT":
        raise KeyboardInterrupt(f"saved at step {result.step}: {result.run_dir}")
    if result.reason in INTERRUPTED or result.reason.startswith("SIG"):
        raise SystemExit(result.exit_code)
    return result


def _texts(words: Sequence[str]) -> list[str]:
    """The words as texts. Raises ConfigError for anything but a list of them."""
    if isinstance(words, str):
        line = ", ".join(map(repr, shlex.split(words)))
        raise ConfigError.of("words", f"must be a list of words, got one text; write [{line}]")
    if not isinstance(words, (list, tuple)):
        raise ConfigError.of("words", f"must be a list such as ['model=mlp'], got {type(words).__name__}")
    for word in words:
        if not isinstance(word, (str, os.PathLike)):
            advice = "code is named, as in 'model._target_=my_code.Net'"
            raise ConfigError.of("words", f"must be texts such as 'model=mlp', got {word!r}; {advice}")
    return [os.fspath(word) for word in words]


def _require_split(loaded: LoadedRun, split: str) -> None:
    if split not in SPLITS:
        raise ConfigError.of("split", f"must be one of {', '.join(SPLITS)}, got {split!r}")
    if loaded.parts.info.sizes.get(split, 0) == 0:
        raise ConfigError.of("split", f"the run has no {split} split")


@contextlib.contextmanager
def _as_file(inputs: Any) -> Iterator[Path | None]:
    """A file that holds the inputs, to be read, checked and scaled as every file is."""
    if inputs is None or isinstance(inputs, (str, os.PathLike)):
        yield None if inputs is None else Path(inputs)
        return
    import numpy as np

    array = np.asarray(inputs.detach().cpu() if hasattr(inputs, "detach") else inputs)
    if array.dtype == object:
        raise DataError(f"inputs: must be a file or an array of numbers, got {type(inputs).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.npy"
        np.save(file, array)
        yield file
