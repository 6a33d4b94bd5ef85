"""`trainrun export RUN PATH`: a stored run's model for other programs, checked after writing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainrun.cli.stored_run import load_named_run, parsed, parser_of
from trainrun.session.export import PORTABLE, about_run, sample_arguments
from trainrun.session.load_run import LoadedRun
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError


def run(words: list[str]) -> int:
    """Write the file, and tell on stderr what it expects and how its outputs compare."""
    about = "Write a stored run's model: .safetensors weights, .pt2 torch.export, .onnx; the suffix decides."
    parser = parser_of("export", about)
    parser.add_argument("path", metavar="PATH", nargs="?", type=Path, help="such as model.onnx; written over")
    arguments = parsed(parser, words)
    if arguments.path is None:
        raise ConfigError.of("PATH", "name the file to write, such as model.safetensors")
    from trainrun.session.export import check_path, export

    path: Path = arguments.path.expanduser()
    check_path(path)
    loaded = load_named_run(arguments, PORTABLE)
    samples = sample_arguments(loaded)
    metadata = about_run(loaded, samples)
    expects = f"{_shapes(*samples)}: {metadata['input']['expects']}"
    loaded.introduce()
    for label, line in {"input": expects, **_values(loaded), "output": metadata["output"]}.items():
        say(f"  {label:<10} {line}")
    compared = export(loaded.parts.state.model, samples, path, metadata)
    same = f"on {compared.num_samples} samples the largest difference is {compared.difference:.3g}"
    say(f"  {'compared':<10} {same}, of outputs up to {compared.largest:.3g}")
    say(f"{path.stat().st_size:,} bytes: {path}")
    return 0


def _shapes(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    """The type and shape of each of the model's arguments, such as `image float32 (N, 1, 8, 8)`."""
    from torch.utils._pytree import tree_leaves

    named = [("", tensor) for tensor in tree_leaves(args)] + [(f"{key} ", keywords[key]) for key in keywords]
    return ", ".join(
        f"{name}{str(tensor.dtype).removeprefix('torch.')} ({', '.join(map(str, ('N', *tensor.shape[1:])))})"
        for name, tensor in named
    )


def _values(loaded: LoadedRun) -> dict[str, str]:
    """What inputs are scaled by and what classes are called, where that is short."""
    fitted, names = loaded.parts.data.fitted(), ", ".join(loaded.parts.info.class_names)
    values = {}
    if "shift" in fitted and "features" not in fitted:
        scaling = [fitted[name].flatten().tolist() for name in ("shift", "scale")]
        shift, scale = (", ".join(f"{value:.7g}" for value in numbers) for numbers in scaling)
        many = f"{len(scaling[0])} values each of shift and scale, in the file's metadata"
        values["scaling"] = f"shift {shift}, scale {scale}" if len(scaling[0]) <= 4 else many
    return values | ({"classes": names if len(names) <= 80 else f"{names[:77]}..."} if names else {})
