"""Export a trained model as .safetensors, .pt2 or .onnx, and compare the file with the model."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from trainrun.checkpoint.commit import write
from trainrun.checkpoint.shards import encoded, read, tensors_in
from trainrun.model.calling import arguments_of
from trainrun.parameters.lora import merge
from trainrun.protocols import DataInfo, TaskProtocol
from trainrun.run.files import replacing
from trainrun.session.load_run import LoadedRun
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression
from trainrun.vocabulary.errors import ConfigError, StorageError, TrainrunError
from trainrun.vocabulary.version import __version__

_NEEDS = {".safetensors": (), ".pt2": (), ".onnx": ("onnx", "onnxscript", "onnxruntime")}
SUFFIXES = tuple(_NEEDS)
_TOLERANCE = 1e-4  # of the largest output: another program adds up in another order
_LARGEST_ONNX_BYTES = 2**31 - 2**20  # protobuf's limit for one file, less what is not weights
_INSIDE = "trainrun.json"  # where a .pt2 file says what it holds
_COMPARED = 256  # samples at most: enough to meet every branch of a model, and evaluated in seconds
PORTABLE = ("runtime.device=cpu",)  # it runs anywhere

Forward = Callable[..., Tensor]  # takes the model's arguments
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Write = Callable[[nn.Module, Arguments, Path, str], None]
Read = Callable[[Path, nn.Module], Forward]


@dataclass(frozen=True)
class Compared:
    """Outputs of the written file beside the model's own."""

    num_samples: int
    difference: float  # the largest
    largest: float  # output of the model, in magnitude


def check_path(path: Path) -> None:
    """Raise ConfigError for a file that cannot be written, or needs packages that are missing."""
    if path.suffix not in SUFFIXES:
        raise ConfigError.of("PATH", f"must end in {', '.join(SUFFIXES)}, got {path}")
    if not path.parent.is_dir():
        raise ConfigError.of("PATH", f"there is no folder {path.parent}")
    try:
        for package in _NEEDS[path.suffix]:
            importlib.import_module(package)
    except ImportError as error:
        text = f"{path.suffix} needs a package, {error.name}: pip install 'trainrun[export]'"
        raise ConfigError.of("PATH", text) from None


def export(model: nn.Module, arguments: Arguments, path: Path, about: Mapping[str, Any]) -> Compared:
    """Write a model in evaluation mode with its description `about`; compare outputs on samples.

    `arguments`: (args, keywords) of tensors (N, ...), which `forward` takes, and so does what is written.

    The file appears whole and only once its outputs are the model's: the same bits from .safetensors,
    which holds weights alone, and nearly the same from .pt2 and .onnx, which hold the computation for
    any number of samples. LoRA's adapters are merged into the model first. Raises ConfigError for a
    model that a format cannot hold, TrainrunError for outputs that differ, StorageError.
    """
    merge(model)
    model.eval()
    if _size(arguments) == 1:  # no number to trace with
        arguments = tree_map(lambda tensor: torch.cat([tensor, tensor]), arguments)
    write, read = _FORMATS[path.suffix]
    try:
        with replacing(path) as part, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters' are meant for their own authors
            _write(write, model, arguments, part, json.dumps(about))
            compared = _compare(model, read(part, model), arguments)
            allowed = _TOLERANCE * compared.largest if path.suffix != ".safetensors" else 0.0
            if not compared.difference <= allowed:
                text = f"its outputs differ from the model's by up to {compared.difference:.3g}"
                text += f" (largest output {compared.largest:.3g}); it was not kept"
                raise TrainrunError(f"{path}: {text}")
    except OSError as error:
        raise StorageError(f"PATH: {path} cannot be written: {error.strerror or error}") from None
    return compared


def about(task: TaskProtocol, info: DataInfo, fitted: Mapping[str, Any]) -> dict[str, Any]:
    """The description for other programs: inputs, outputs, and the names of the classes."""
    expected = {"shape": ["N", *info.input_shape], "expects": _expects(fitted)}
    classes = {"classes": list(info.class_names)} if info.class_names else {}
    return {"input": expected, "output": _means(task), "fitted": _plain(fitted), **classes}


def _expects(fitted: Mapping[str, Any]) -> str:
    if "features" in fitted:
        return "columns as numbers, filled and standardised as `features` say"
    if "shift" in fitted:
        return "(x - shift) * scale, where x are values as the data have them"
    return "numbers of tokens in `vocabulary`" if "vocabulary" in fitted else "what the data set gives"


def _means(task: TaskProtocol) -> str:
    if isinstance(task, Classification):
        return "a logit for each class; their softmax are the probabilities"
    if isinstance(task, Binary):
        return "the logit of the second class; its sigmoid is the probability"
    if isinstance(task, Multilabel):
        return "a logit for each label; its sigmoid is the probability"
    if isinstance(task, Regression) and task.scaling is not None:
        return "standardised values; output * target_std + target_mean are the targets' own units"
    return "values in the targets' own units" if isinstance(task, Regression) else "as the model gives it"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, Tensor) else value


def _size(arguments: Arguments) -> int:
    """The number of samples in a model's arguments."""
    return len(tree_leaves(arguments)[0])


def _write(write: Write, model: nn.Module, arguments: Arguments, part: Path, text: str) -> None:
    try:
        write(model, arguments, part, text)
    except (OSError, ConfigError):
        raise
    except Exception as error:  # a model that cannot be traced shows as a dozen types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = f"{part.suffix} cannot hold {type(model).__name__}: {reason}; .safetensors holds its weights"
        raise ConfigError.of("PATH", text) from error


@torch.inference_mode()
def _compare(model: nn.Module, forward: Forward, arguments: Arguments) -> Compared:
    """Compare on all samples at once, and on the first alone."""
    differences = []
    for args, keywords in (tree_map(lambda tensor: tensor[:1], arguments), arguments):
        expected, outputs = model(*args, **keywords), forward(*args, **keywords)
        if not isinstance(expected, Tensor):
            text = f"the outputs of {type(model).__name__} are not one tensor"
            raise ConfigError.of("RUN", f"{text}; take trainrun.load and torch's own exporters")
        if outputs.shape != expected.shape:
            raise TrainrunError(f"the file gives {tuple(outputs.shape)}, the model {tuple(expected.shape)}")
        differences.append(float((outputs - expected).abs().max()))
    return Compared(_size(arguments), max(differences), float(expected.abs().max()))


def _write_safetensors(model: nn.Module, arguments: Arguments, path: Path, text: str) -> None:
    tensors = [(name, tensor.cpu(), (0,) * tensor.ndim) for name, tensor in model.state_dict().items()]
    write(path, encoded(tensors, {"trainrun": text}))


def _read_safetensors(path: Path, model: nn.Module) -> Forward:
    """The model itself with the file's weights: a copy would take the memory once more."""

    def forward(*args: Any, **keywords: Any) -> Any:
        live = model.state_dict()
        for tensor in live.values():
            tensor.zero_()
        for name, tensor in tensors_in([path]).items():
            read(tensor, live[name])
        return model(*args, **keywords)

    return forward


def _batch_sizes(arguments: Arguments) -> Any:
    """Of each tensor in the arguments, that its first dimension is any number of samples."""
    batch = torch.export.Dim("batch")
    args, keywords = tree_map(lambda tensor: {0: batch}, arguments)
    return keywords or args


def _write_pt2(model: nn.Module, arguments: Arguments, path: Path, text: str) -> None:
    program = torch.export.export(model, *arguments, dynamic_shapes=_batch_sizes(arguments))
    torch.export.save(program, path, extra_files={_INSIDE: text})


def _write_onnx(model: nn.Module, arguments: Arguments, path: Path, text: str) -> None:
    if sum(int(tensor.nbytes) for tensor in model.state_dict().values()) > _LARGEST_ONNX_BYTES:
        raise ConfigError.of("PATH", "an .onnx file holds at most 2 GiB; .pt2 and .safetensors hold more")
    args, keywords = arguments
    names: dict[str, Any] = {"output_names": ["outputs"]}
    names["input_names"] = list(keywords) if keywords else ["inputs"] if len(args) == 1 else None
    shapes = _batch_sizes(arguments)
    program = torch.onnx.export(
        model, args, kwargs=keywords, dynamo=True, dynamic_shapes=shapes, verbose=False, **names
    )
    assert program is not None
    program.model.metadata_props["trainrun"] = text
    program.save(path)


def _read_onnx(path: Path, model: nn.Module) -> Forward:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def forward(*args: Any, **keywords: Any) -> Tensor:
        arrays = [tensor.numpy() for tensor in tree_leaves((args, keywords))]
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return forward


_FORMATS: dict[str, tuple[Write, Read]] = {
    ".safetensors": (_write_safetensors, _read_safetensors),
    ".pt2": (_write_pt2, lambda path, model: torch.export.load(path).module()),
    ".onnx": (_write_onnx, _read_onnx),
}


def about_run(run: LoadedRun, arguments: Arguments) -> dict[str, Any]:
    """The description of a run's exported file, with the origin of its weights."""
    parts = run.parts
    description = about(parts.task, parts.info, parts.data.fitted())
    if parts.info.input_parts:
        args, keywords = arguments
        named = keywords or {str(index): tensor for index, tensor in enumerate(tree_leaves(args))}
        description["input"]["shape"] = {name: ["N", *tensor.shape[1:]] for name, tensor in named.items()}
    return description | {"version": __version__, "step": run.choice.step, "weights": run.weights}


def sample_arguments(run: LoadedRun) -> Arguments:
    """The model's arguments for samples that the run did not learn from, where it has any."""
    run.require_forward()
    info = run.parts.info
    split = next(split for split in ("val", "test", "train") if info.sizes.get(split, 0) != 0)
    inputs = next(iter(run.parts.data.eval_batches(split))).inputs
    arguments = arguments_of(run.parts.state.model, inputs)
    if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(arguments)):
        text = (
            f"the inputs of {info.name} are not tensors alone; take trainrun.load and torch's own exporters"
        )
        raise ConfigError.of("RUN", text)
    return tree_map(lambda tensor: tensor[:_COMPARED].cpu(), arguments)  # type: ignore[no-any-return]
